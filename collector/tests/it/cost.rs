//! What an insert costs the engine: run by hand, with and without `PROCSCOPE_WITHOUT=fence` (docs/benchmarks.md).

use std::time::Instant;

use procscope_collector::{
    ingest::decode,
    store::{StoredIn, Table, insert::freeze},
};

use crate::support::{Agent, Engine, now_ms, sample, snapshot};

/// Inserts of 100,000 rows that are measured, after two that are not.
const INSERTS: i64 = 10;

#[tokio::test]
#[ignore = "a measurement, to be run by hand on a quiet machine"]
async fn what_an_insert_costs_the_engine() {
    let engine = Engine::start();
    let store = engine.store();
    store.migrate(0).await.unwrap();
    let mut agent = Agent::new(1);
    let start_ms = now_ms() / 86_400_000 * 86_400_000;
    let mut taken = false;
    let (mut cpu, mut since) = (0.0, Instant::now());
    for insert in -2..INSERTS {
        if insert == 0 {
            (cpu, since) = (engine.cpu_seconds(), Instant::now());
        }
        let snapshots: Vec<_> = (0..500)
            .map(|n| {
                let samples = (1..=200_u8)
                    .map(|id| {
                        sample(
                            id,
                            &format!("process{}", id % 40),
                            u64::from(id) * 7 % 100,
                            u64::from(id),
                        )
                    })
                    .collect();
                let time_ms = start_ms + (insert + 2) * 500_000 + n * 1_000;
                let frame = agent.freeze(&snapshot("h", time_ms, samples));
                decode::snapshot(frame, now_ms()).unwrap()
            })
            .collect();
        if !taken {
            store.take(&[snapshots[0].agent]).await.unwrap();
            store.held(&[snapshots[0].agent]).await.unwrap();
            taken = true;
        }
        let rows = snapshots.iter().map(|s| (s, StoredIn::default()));
        let frozen = freeze(Table::ProcessSamples, rows).unwrap();
        assert_eq!(frozen.rows(), 100_000);
        store.insert(&frozen).await.unwrap();
    }
    let took = since.elapsed();
    println!(
        "{:.2} CPU s a million rows, {took:.1?} for {INSERTS} inserts of 100,000 rows",
        engine.cpu_seconds() - cpu
    );
}

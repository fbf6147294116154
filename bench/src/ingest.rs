//! `ingest`: what a row costs from the wire into the store, beside the best insert of the bare engine, in one run.

use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use axum::body::Bytes;
use procscope_tests_e2e::{Part, Stack, binary, curl};
use procscope_tests_kernel::children_cpu_ns;
use serde_json::Value;
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    http::Client,
    report::{Verdict, float, median},
    store::{Statement, settle},
    used::{cpu_seconds, now_s, peak_mib},
};

/// Agents, processes of each and seconds: more a second than the machine takes.
const AGENTS: u32 = 400;
const PROCESSES: u32 = 500;
const SECONDS: u32 = 20;
/// Rows of one insert of the bare engine. It is given as many as the collector was: a row costs more, the more of them
/// there are, for each is merged with others again and again.
const BLOCK: u64 = 100_000;
/// How often the bare engine is measured, with one and with two connections.
const ROUNDS: usize = 3;
/// Through collector and engine a row costs at most so much of the bare insert: 0.6 of its rate.
const COST_MOST: f64 = 1.67;
/// The second of a minute at which the load begins: minutes are computed when they are over, and a little later.
const BEGIN: u32 = 8;
/// A machine that needs longer for the load than the rest of that minute is busy with something else.
const ENDS: u32 = 58;

/// What a million rows take.
#[derive(Debug, Clone, Copy)]
struct Cost {
    rows_per_second: f64,
    cpu_seconds: f64,
}

/// CPU seconds of engine and collector until now.
struct Used {
    engine: f64,
    collector: f64,
}

impl Used {
    fn by(stack: &Stack) -> Result<Self> {
        Ok(Self {
            engine: cpu_seconds(pid(stack.engine.as_ref())?)?,
            collector: cpu_seconds(pid(stack.collector.as_ref())?)?,
        })
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            engine: self.engine - before.engine,
            collector: self.collector - before.collector,
        }
    }

    fn all(&self) -> f64 {
        self.engine + self.collector
    }
}

/// Measures both ways.
///
/// # Errors
/// When a part does not start, or the machine is too busy for the load.
pub(crate) fn run() -> Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut stack = Stack::new()?;
    stack.start_engine()?;
    stack.start_collector()?;
    while curl(&[&format!("{}/readyz", stack.http())]).is_err() {
        thread::sleep(Duration::from_millis(200));
    }
    settle(&stack)?;
    thread::sleep(Duration::from_secs(u64::from((60 + BEGIN - now_s() % 60) % 60)));
    let (minute, before, load_before) = (now_s() / 60, Used::by(&stack)?, children_cpu_ns()?);
    let started = Instant::now();
    let load = load(&stack)?;
    let took = started.elapsed().as_secs_f64();
    let load_ns = children_cpu_ns()? - load_before;
    settle(&stack)?;
    let stored = Used::by(&stack)?;
    ensure!(
        now_s() / 60 == minute && now_s() % 60 <= ENDS,
        "the load took {took:.0} s, so that the rollups of its minute are in its figures: other work takes the machine"
    );
    let rows: u64 = stack.sql_number("SELECT count() FROM process_samples")?;
    let inserts: u64 = stack.sql_number("SELECT uniqExact(_part) FROM process_samples")?;
    let million = float(rows) / 1e6;
    println!(
        "{AGENTS} agents with {PROCESSES} processes: {} of {} snapshots stored, {rows} rows in {took:.1} s, {inserts} parts at the end",
        load["snapshots_stored"], load["snapshots"],
    );
    let used = stored.since(&before);
    let whole = Cost {
        rows_per_second: float(rows) / took,
        cpu_seconds: used.all() / million,
    };
    println!(
        "without rollups: {:.0} rows/s; CPU s per million rows: {:.2} (engine {:.2}, collector {:.2}); the load itself {:.2}",
        whole.rows_per_second,
        whole.cpu_seconds,
        used.engine / million,
        used.collector / million,
        float(load_ns) / 1e9 / million,
    );
    wait_for_rollups(&stack)?;
    let rollups = Used::by(&stack)?.since(&stored).all() / million;
    println!("minutes: {rollups:.2} CPU s per million rows, merges included");
    println!(
        "memory at most: collector {:.0} MiB, engine {:.0} MiB",
        peak_mib(pid(stack.collector.as_ref())?)?,
        peak_mib(pid(stack.engine.as_ref())?)?
    );
    stack.collector = None;
    let bare = bare(&stack, &runtime, rows / BLOCK)?;
    println!(
        "the bare engine, {BLOCK} rows an insert: {:.0} rows/s, {:.2} CPU s per million rows",
        bare.rows_per_second, bare.cpu_seconds
    );
    println!(
        "beside the bare engine: {:.2} of its rows/s; {:.2} x its CPU without rollups, {:.2} x with minutes",
        whole.rows_per_second / bare.rows_per_second,
        whole.cpu_seconds / bare.cpu_seconds,
        (whole.cpu_seconds + rollups) / bare.cpu_seconds
    );
    let mut verdict = Verdict::default();
    let line = verdict.at_most(
        "a row without rollups, beside the bare engine",
        whole.cpu_seconds / bare.cpu_seconds,
        COST_MOST,
        "times its CPU",
    );
    println!("{line}");
    Ok(verdict)
}

fn pid(part: Option<&Part>) -> Result<u32> {
    Ok(part.context("it was started")?.pid())
}

/// Runs the load to its end; what it says of itself.
fn load(stack: &Stack) -> Result<Value> {
    let output = Command::new(binary("procscope")?)
        .args(["--server", &stack.server(), "--json", "loadgen"])
        .args(["--token-file", &stack.path("token")])
        .args([
            "--agents",
            &AGENTS.to_string(),
            "--processes",
            &PROCESSES.to_string(),
        ])
        .args(["--for", &format!("{SECONDS}s")])
        .stderr(Stdio::inherit())
        .output()
        .context("run procscope loadgen")?;
    let said: Value = serde_json::from_slice(&output.stdout).context("read what procscope loadgen says")?;
    Ok(said["loads"][0].clone())
}

/// Waits until the minute is computed of all rows, and merged. Hours are computed when they are over: of minutes, which are
/// few.
fn wait_for_rollups(stack: &Stack) -> Result<()> {
    let started = Instant::now();
    println!("waiting for the end of the minute, and its rollups");
    let behind = "SELECT (SELECT count() FROM host_samples) - (SELECT toInt64(sum(version)) FROM host_samples_1m FINAL)";
    while stack.sql_number::<i64>(behind)? > 0 {
        ensure!(
            started.elapsed() < Duration::from_mins(3),
            "the minute is not computed after 3 minutes\n{}",
            stack.logs()
        );
        thread::sleep(Duration::from_secs(1));
    }
    settle(stack)
}

/// The best of some rounds of inserts of the very same rows, in the order of the table, into a table like theirs.
fn bare(stack: &Stack, runtime: &Runtime, inserts: u64) -> Result<Cost> {
    let engine = pid(stack.engine.as_ref())?;
    stack.sql("CREATE TABLE bare AS process_samples")?;
    let client = Client::from(None);
    let blocks: Vec<Bytes> = runtime.block_on(async {
        let mut blocks = Vec::new();
        for block in 0..inserts {
            let sql = format!(
                "SELECT * FROM (SELECT * FROM process_samples ORDER BY time, epoch LIMIT {BLOCK} OFFSET {}) \
                 ORDER BY toStartOfHour(time), host, name, pid, start_boottime_ns, time FORMAT Native",
                block * BLOCK
            );
            let statement = Statement::new(stack, &sql).with("max_block_size", BLOCK);
            blocks.push(statement.send(&client).await?);
        }
        anyhow::Ok(blocks)
    })?;
    let mut costs = Vec::new();
    for round in 0..ROUNDS * 2 {
        stack.sql("TRUNCATE TABLE bare")?;
        let (before, started) = (cpu_seconds(engine)?, Instant::now());
        let connections = 1 + round % 2;
        runtime.block_on(async {
            let mut inserts = JoinSet::new();
            for connection in 0..connections {
                let mine: Vec<_> = blocks
                    .iter()
                    .skip(connection)
                    .step_by(connections)
                    .cloned()
                    .collect();
                let insert = Statement::new(stack, "INSERT INTO bare FORMAT Native");
                inserts.spawn(async move {
                    let client = Client::from(None);
                    for block in mine {
                        insert.clone().with_data(block).send(&client).await?;
                    }
                    anyhow::Ok(())
                });
            }
            while let Some(ended) = inserts.join_next().await {
                ended.context("an insert broke off")??;
            }
            anyhow::Ok(())
        })?;
        let took = started.elapsed().as_secs_f64();
        settle(stack)?;
        let rows: u64 = stack.sql_number("SELECT count() FROM bare")?;
        ensure!(
            rows == BLOCK * inserts,
            "{rows} rows of the bare insert are stored"
        );
        costs.push(Cost {
            rows_per_second: float(rows) / took,
            cpu_seconds: (cpu_seconds(engine)? - before) / float(rows) * 1e6,
        });
    }
    // The best rate of all rounds, and the middle of what they cost.
    Ok(Cost {
        rows_per_second: costs.iter().map(|cost| cost.rows_per_second).fold(0.0, f64::max),
        cpu_seconds: median(&costs.iter().map(|cost| cost.cpu_seconds).collect::<Vec<_>>()),
    })
}

//! `loadgen`: as many agents as asked for, each with a stream of its own and processes that do not exist, for people who
//! want to know what a collector and its store bear. Their hosts stand in the store afterwards, under their names.

mod agent;
mod machine;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use procscope_startup::{Failure, Result};
use tokio::task::JoinSet;
use tonic::Status;

use self::{agent::Agent, machine::Machine};
use crate::{
    args::Loadgen,
    client,
    config::Settings,
    data::{Answer, Record},
    output::{self, Page},
    units,
};

/// Times of delivery that are kept; later ones are counted and not looked at.
const DELAYS_MAX: usize = 1 << 20;

/// What all agents together have come to.
#[derive(Debug, Default)]
struct Figures {
    /// Snapshots that were made.
    made: u64,
    /// Snapshots that the collector says are stored.
    stored: u64,
    /// Snapshots that gave way because too many waited.
    dropped: u64,
    /// Rows of all kinds in them.
    rows: u64,
    /// Encoded bytes of them.
    bytes: u64,
    /// Streams that were opened.
    streams: u64,
    /// Why the newest stream ended that was not meant to.
    trouble: Option<String>,
    /// The collector lets none of them in.
    refused: Option<Status>,
    /// From the first send to the word that it is stored, microseconds.
    delays_us: Vec<u32>,
}

/// Figures that all agents write to.
#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<Figures>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Figures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Figures {
    fn delayed(&mut self, delay: Duration) {
        if self.delays_us.len() < DELAYS_MAX {
            self.delays_us
                .push(u32::try_from(delay.as_micros()).unwrap_or(u32::MAX));
        }
    }

    /// The delay that this share of snapshots, in thousandths, does not pass. `None`: nothing was stored.
    fn delay_us(&mut self, thousandths: usize) -> Option<u64> {
        self.delays_us.sort_unstable();
        let at = (self.delays_us.len() * thousandths)
            .div_ceil(1000)
            .checked_sub(1)?;
        self.delays_us.get(at).copied().map(u64::from)
    }
}

/// Runs the agents to their end, and prints what came of it.
///
/// # Errors
/// Exit code 1 when not every snapshot is stored at the end, none was made, or the collector lets none of them in.
pub(crate) async fn run(load: &Loadgen, settings: &Settings) -> Result<()> {
    let shared = Shared::default();
    let start = Instant::now();
    let ends = start + load.time;
    let mut agents = JoinSet::new();
    for number in 0..load.agents {
        // All within one interval, as machines that started at different times are.
        let offset = load.interval * number / load.agents;
        let machine = Machine::new(number, load);
        let agent = Agent::new(machine, settings, load, shared.clone());
        agents.spawn(agent.run(start + offset, ends, ends + load.settle));
    }
    while let Some(ended) = agents.join_next().await {
        ended.map_err(|error| Failure::failed(format_args!("an agent of the load broke off: {error}")))?;
        // All show one token: the others are aborted with the set.
        if let Some(status) = shared.lock().refused.take() {
            return Err(client::explain(&settings.server, &status));
        }
    }
    let took = start.elapsed();
    let mut figures = std::mem::take(&mut *shared.lock());
    let record = record(load, &mut figures, took);
    let missing = figures.made - figures.stored;
    output::print(
        settings.format,
        || Answer {
            head: Vec::new(),
            rows_name: "loads",
            blank: record.clone(),
            rows: vec![record.clone()],
        },
        |_width| page(load, &mut figures, took),
    )?;
    if figures.made == 0 {
        return Err(Failure::failed(format_args!(
            "no snapshot was made for the collector at {}: {}",
            settings.server,
            figures
                .trouble
                .as_deref()
                .unwrap_or("no agent came to its first interval, take a longer --for")
        )));
    }
    if missing > 0 {
        return Err(Failure::failed(format_args!(
            "{missing} of {} snapshots were not stored {} s after the last one: {}; see the collector's log",
            figures.made,
            load.settle.as_secs(),
            figures.trouble.as_deref().unwrap_or("no stream failed")
        )));
    }
    Ok(())
}

fn record(load: &Loadgen, figures: &mut Figures, took: Duration) -> Record {
    vec![
        ("agents", load.agents.into()),
        ("processes", load.processes.into()),
        ("seconds", took.as_secs_f64().into()),
        ("snapshots", figures.made.into()),
        ("snapshots_stored", figures.stored.into()),
        ("snapshots_dropped", figures.dropped.into()),
        ("rows", figures.rows.into()),
        ("bytes", figures.bytes.into()),
        ("streams", figures.streams.into()),
        ("stored_after_us_p50", figures.delay_us(500).into()),
        ("stored_after_us_p99", figures.delay_us(990).into()),
        ("stored_after_us_max", figures.delay_us(1000).into()),
    ]
}

fn page(load: &Loadgen, figures: &mut Figures, took: Duration) -> Page {
    let ms = |us: Option<u64>| us.map_or("-".to_owned(), |us| format!("{} ms", us.div_ceil(1000)));
    let (half, most, longest) = (
        ms(figures.delay_us(500)),
        ms(figures.delay_us(990)),
        ms(figures.delay_us(1000)),
    );
    Page {
        heading: vec![
            format!(
                "{} agents with {} processes each, for {} s",
                units::count(load.agents.into()),
                units::count(load.processes.into()),
                took.as_secs()
            ),
            format!(
                "snapshots  {} made, {} stored, {} gave way, over {} streams",
                units::count(figures.made),
                units::count(figures.stored),
                units::count(figures.dropped),
                units::count(figures.streams)
            ),
            format!(
                "rows       {} in {}",
                units::count(figures.rows),
                units::bytes(figures.bytes)
            ),
            format!("stored     after {half} (half), {most} (99 of 100), {longest} (all)"),
        ],
        ..Page::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_delays_is_one_that_was_seen() {
        let mut figures = Figures::default();
        assert_eq!(figures.delay_us(500), None);
        for ms in (1..=200).rev() {
            figures.delayed(Duration::from_millis(ms));
        }
        assert_eq!(figures.delay_us(500), Some(100_000));
        assert_eq!(figures.delay_us(990), Some(198_000));
        assert_eq!(figures.delay_us(1000), Some(200_000));
    }
}

//! The agent: watches this machine from inside the kernel and streams what it saw. Knows nothing of stores,
//! other machines, or what anybody shows.

#![recursion_limit = "256"]

pub mod audit;
pub mod btf;
pub mod check;
pub mod clock;
pub mod config;
pub mod cost;
pub mod drain;
pub mod fold;
pub mod host;
pub mod identity;
pub mod losses;
pub mod metrics;
pub mod names;
pub mod observer;
pub mod offsets;
pub mod privileges;
pub mod probes;
pub mod procfs;
pub mod queue;
pub mod rows;
pub mod sample;
pub mod scrub;
pub mod show;
pub mod spool;
pub mod state;
pub mod uplink;

use std::{
    io,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use procscope_proto::v1;
use procscope_startup::{Failure, Result};
use tokio::sync::oneshot;
use tracing::info;

use crate::{
    config::{Config, Format},
    metrics::Metrics,
    observer::{ObserveError, Observer, Settings},
    queue::Queue,
    spool::{Spool, disk::Folder, keeper, keeper::Desk},
    state::State,
    uplink::Outbox,
};

/// How long the last snapshots may take to arrive when the agent is told to stop.
const FAREWELL: Duration = Duration::from_secs(3);

/// Drains and streams until `stop` is set.
///
/// # Errors
/// Exit code 1 when the kernel side does not start or breaks.
pub fn run(config: Config, stop: &Arc<AtomicBool>) -> Result<()> {
    let state = State::open(&config.state_dir)?;
    let metrics = Arc::new(Metrics::new(&config.settings.host));
    let page = config.metrics_listen.map(metrics::listen).transpose()?;
    let spool = config
        .spool
        .map(|limits| open_spool(&state, limits))
        .transpose()?;
    let mut observer = start(config.settings.clone())?;
    if !observer.hidden_processes().is_empty() {
        tracing::warn!(
            pids = ?observer.hidden_processes(),
            "this kernel hides processes from its programs: they are sampled from /proc, and their rows say so"
        );
    }
    let desk = config.spool.map(|_limits| Arc::new(Desk::default()));
    let epoch = new_epoch();
    let queue = Queue::new(
        queue::LEN_MAX,
        queue::BYTES_MAX,
        state.agent_id.into_bytes(),
        epoch,
        desk.is_some(),
    );
    let outbox = Arc::new(Outbox::new(queue, desk.clone()));
    let keeper = spool
        .zip(desk.clone())
        .map(|(spool, desk)| keeper::start(spool, desk, Arc::clone(&outbox)))
        .transpose()?;
    info!(
        agent_id = %state.agent_id, epoch, host = config.settings.host,
        collector = %config.collector.uri(), interval_ms = config.settings.interval.as_millis(),
        "{}",
        if observer.source() == v1::Source::Proc { "sampling /proc" } else { "attached to the kernel" }
    );
    let (done, drained) = oneshot::channel();
    let drain = {
        let (outbox, stop) = (Arc::clone(&outbox), Arc::clone(stop));
        let drain_metrics = Arc::clone(&metrics);
        thread::Builder::new()
            .name("drain".to_owned())
            .spawn(move || {
                keep_the_turn();
                let told = |snapshot: &v1::Snapshot| drain_metrics.note(snapshot, &outbox.stats());
                let outcome = drain_loop(&mut observer, &outbox, &stop, &told);
                // The programs are detached before the rest of the agent says farewell.
                drop(observer);
                // The receiver is gone only when the agent is already ending.
                _ = done.send(());
                outcome
            })
            .map_err(|error| Failure::failed(format_args!("could not start a thread: {error}")))?
    };
    // The other thread does so after its first interval, in which it reads what ran before.
    privileges::give_up(None);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format_args!("could not start the network side: {error}")))?
        .block_on(async {
            if let Some(page) = page {
                // Ends with the runtime; without it only the page is missing.
                tokio::spawn(async move {
                    if let Err(error) = metrics::serve(page, metrics).await {
                        tracing::warn!(%error, "the metrics page is gone");
                    }
                });
            }
            let uplink = uplink::run(config.collector, Arc::clone(&outbox));
            tokio::pin!(uplink);
            tokio::select! {
                () = &mut uplink => {}
                _ = drained => {}
            }
            let safe = async {
                while !outbox.is_safe() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::select! {
                () = &mut uplink => {}
                () = safe => {}
                () = tokio::time::sleep(FAREWELL) => {}
            }
        });
    let left = outbox.waiting();
    if let (Some(keeper), Some(desk)) = (keeper, desk) {
        outbox.save();
        desk.stop();
        keeper
            .join()
            .map_err(|_panic| Failure::failed("the spool thread broke; this is a bug"))?;
    }
    if left > 0 {
        tracing::warn!(
            snapshots = left,
            lost = outbox.held_alone(),
            "stopped before the collector had stored the last snapshots"
        );
    }
    drain
        .join()
        .unwrap_or_else(|_panic| Err(Failure::failed("the drain thread broke; this is a bug")))
}

/// Prints intervals of this machine, without a collector.
///
/// # Errors
/// Exit code 1 when the kernel side does not start or breaks.
pub fn sample(settings: Settings, count: u64, format: Format, stop: &AtomicBool) -> Result<()> {
    let mut observer = start(settings)?;
    keep_the_turn();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut exes = show::Executables::default();
    let mut printed = 0;
    while (count == 0 || printed < count) && observer.wait(stop) {
        let snapshot = observer.snapshot().map_err(|error| broken(&error))?;
        let written = match format {
            Format::Json => show::json_lines(&mut out, &mut exes, &snapshot),
            Format::Table => show::table(&mut out, &snapshot),
        };
        match written {
            Ok(()) => {
                if printed == 0 {
                    privileges::give_up(Some(&observer));
                }
                printed += 1;
            }
            // Whoever read has enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(Failure::failed(format_args!("could not print: {error}"))),
        }
    }
    Ok(())
}

fn start(settings: Settings) -> Result<Observer> {
    Observer::start(settings).map_err(|error| match &error {
        ObserveError::Probe(error) => check::explain(error),
        _ => broken(&error),
    })
}

fn open_spool(state: &State, limits: spool::Limits) -> Result<Spool<Folder>> {
    let path = state.folder.join("spool");
    Spool::open(Folder::open(&path)?, limits, Instant::now())
        .map_err(|error| Failure::failed(format_args!("could not list {}: {error}", path.display())))
}

fn drain_loop(
    observer: &mut Observer,
    outbox: &Outbox,
    stop: &AtomicBool,
    told: &dyn Fn(&v1::Snapshot),
) -> Result<()> {
    let mut first = true;
    while observer.wait(stop) {
        push(observer, outbox, told)?;
        if std::mem::take(&mut first) {
            privileges::give_up(Some(observer));
        }
    }
    // What was used since the last drain is told too.
    push(observer, outbox, told)
}

fn push(observer: &mut Observer, outbox: &Outbox, told: &dyn Fn(&v1::Snapshot)) -> Result<()> {
    let mut snapshot = observer.freeze().map_err(|error| broken(&error))?;
    outbox.push(&mut snapshot);
    told(&snapshot.head);
    Ok(())
}

/// A drain that has lost its turn tells of a longer time than it says. Asks for more weight than others have, on this
/// thread; without the right to it, that of the agent's unit must do.
fn keep_the_turn() {
    const NICE: i32 = -10;
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "no priority over others");
    }
}

/// Random, and never 0.
fn new_epoch() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0.max(1)
}

fn broken(error: &ObserveError) -> Failure {
    let cause = std::error::Error::source(error)
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    Failure::failed(format_args!(
        "{error}{cause}; `procscope-agent check` says what this kernel allows"
    ))
}

/// Sets `stop` at SIGINT or SIGTERM; a second one ends the process at once.
///
/// # Errors
/// Exit code 1 when the handlers cannot be set.
pub fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let fail = |error| Failure::failed(format_args!("could not handle signal {signal}: {error}"));
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop)).map_err(fail)?;
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(fail)?;
    }
    Ok(stop)
}

//! What the agent says of itself and of the host's books to Prometheus, on a page that is off unless asked for.

use std::{net::SocketAddr, sync::Arc, sync::atomic::AtomicU64};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use procscope_proto::v1;
use procscope_startup::{Failure, Result, exposition};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};
use tokio::net::TcpListener;

use crate::{losses, spool::Stats};

/// Seconds that only rise.
type Seconds = Counter<f64, AtomicU64>;

/// Where CPU time of the host went.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Mode {
    mode: &'static str,
}

/// A program in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Program {
    program: String,
}

/// Why something was lost.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: String,
}

/// The figures, noted once an interval.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    intervals: Counter,
    cpu: Family<Mode, Seconds>,
    wall: Seconds,
    residual: Gauge<f64, AtomicU64>,
    lost: Family<Reason, Counter>,
    torn: Counter,
    runs: Family<Program, Counter>,
    run_seconds: Family<Program, Seconds>,
    kernel_share: Gauge<f64, AtomicU64>,
    kernel_budget: Gauge<f64, AtomicU64>,
    agent_cpu: Seconds,
    agent_rss: Gauge,
    drain: Gauge<f64, AtomicU64>,
    events: Counter,
    waiting: Gauge,
    spool_bytes: Gauge,
    spool_segments: Gauge,
    spool_writes: Counter,
    spool_written: Counter,
    spool_syncs: Counter,
    spool_failures: Counter,
    processes: Gauge,
    quiet: Gauge,
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new(host: &str) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("procscope_agent"),
            intervals: Counter::default(),
            cpu: Family::default(),
            wall: Seconds::default(),
            residual: Gauge::default(),
            lost: Family::default(),
            torn: Counter::default(),
            runs: Family::default(),
            run_seconds: Family::default(),
            kernel_share: Gauge::default(),
            kernel_budget: Gauge::default(),
            agent_cpu: Seconds::default(),
            agent_rss: Gauge::default(),
            drain: Gauge::default(),
            events: Counter::default(),
            waiting: Gauge::default(),
            spool_bytes: Gauge::default(),
            spool_segments: Gauge::default(),
            spool_writes: Counter::default(),
            spool_written: Counter::default(),
            spool_syncs: Counter::default(),
            spool_failures: Counter::default(),
            processes: Gauge::default(),
            quiet: Gauge::default(),
        };
        for reason in losses::all() {
            // An alert on the rise of a counter needs the counter before it rises.
            _ = metrics.lost_for(reason);
        }
        metrics.register(host);
        metrics.register_spool();
        metrics
    }

    fn register(&mut self, host: &str) {
        let r = &mut self.registry;
        let build = Info::new(vec![
            ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("host".to_owned(), host.to_owned()),
        ]);
        r.register("build", "This agent", build);
        r.register(
            "intervals",
            "Intervals that were measured",
            self.intervals.clone(),
        );
        r.register_with_unit(
            "host_cpu",
            "CPU time of the host by where it went: processes + kernel threads + idle + … = wall - residual",
            Unit::Seconds,
            self.cpu.clone(),
        );
        r.register_with_unit(
            "host_wall",
            "CPUs x wall of the intervals that were measured",
            Unit::Seconds,
            self.wall.clone(),
        );
        r.register_with_unit(
            "residual",
            "CPU time of the newest interval that nothing explains; may be negative",
            Unit::Seconds,
            self.residual.clone(),
        );
        r.register(
            "lost",
            "What was lost, by reason (docs/metrics.md)",
            self.lost.clone(),
        );
        r.register(
            "torn_reads",
            "Counters that fell and were not counted",
            self.torn.clone(),
        );
        r.register(
            "program_runs",
            "Runs of the programs in the kernel",
            self.runs.clone(),
        );
        r.register_with_unit(
            "program_run",
            "Their time in the kernel, without what being attached costs",
            Unit::Seconds,
            self.run_seconds.clone(),
        );
        r.register(
            "kernel_share_ratio",
            "Share of CPUs x wall that the programs in the kernel took in the newest interval",
            self.kernel_share.clone(),
        );
        r.register(
            "kernel_budget_ratio",
            "Share that they may take",
            self.kernel_budget.clone(),
        );
        r.register_with_unit(
            "cpu",
            "CPU time of the agent itself",
            Unit::Seconds,
            self.agent_cpu.clone(),
        );
        r.register_with_unit(
            "resident_memory",
            "Resident set of the agent itself",
            Unit::Bytes,
            self.agent_rss.clone(),
        );
        r.register_with_unit(
            "drain",
            "Time from the newest drain instant to its finished snapshot",
            Unit::Seconds,
            self.drain.clone(),
        );
        r.register(
            "kernel_events",
            "Records that the kernel's side sent",
            self.events.clone(),
        );
        r.register(
            "waiting_snapshots",
            "Snapshots that the collector has not yet stored",
            self.waiting.clone(),
        );
        r.register(
            "processes",
            "Processes alive at the newest drain",
            self.processes.clone(),
        );
        r.register(
            "quiet",
            "1 once the programs on hot paths are detached",
            self.quiet.clone(),
        );
    }

    fn register_spool(&mut self) {
        let r = &mut self.registry;
        r.register_with_unit(
            "spool",
            "Length of all segments in the spool",
            Unit::Bytes,
            self.spool_bytes.clone(),
        );
        r.register(
            "spool_segments",
            "Segments in the spool",
            self.spool_segments.clone(),
        );
        r.register(
            "spool_writes",
            "Calls that wrote to the spool",
            self.spool_writes.clone(),
        );
        r.register_with_unit(
            "spool_written",
            "Bytes that they wrote",
            Unit::Bytes,
            self.spool_written.clone(),
        );
        r.register(
            "spool_syncs",
            "Calls that waited for the disk of the spool",
            self.spool_syncs.clone(),
        );
        r.register(
            "spool_failures",
            "Calls that the disk of the spool failed",
            self.spool_failures.clone(),
        );
    }

    fn note_spool(&self, spool: &Stats) {
        let gauge = |figure: u64| i64::try_from(figure).unwrap_or(i64::MAX);
        // Only the drain thread notes, so what was there stays there between the two calls.
        let rise = |counter: &Counter, to: u64| counter.inc_by(to.saturating_sub(counter.get()));
        self.spool_bytes.set(gauge(spool.bytes));
        self.spool_segments.set(gauge(spool.segments));
        rise(&self.spool_writes, spool.writes);
        rise(&self.spool_written, spool.written_bytes);
        rise(&self.spool_syncs, spool.syncs);
        rise(&self.spool_failures, spool.failures);
    }

    /// Adds an interval, and what the spool has done by its end.
    pub fn note(&self, snapshot: &v1::Snapshot, spool: &Stats) {
        self.note_spool(spool);
        self.intervals.inc();
        let audit = snapshot.audit.unwrap_or_default();
        self.wall.inc_by(seconds(audit.wall_ns));
        let modes = [
            ("process", Some(audit.process_ns)),
            ("kernel_thread", Some(audit.kthread_ns)),
            ("idle", Some(audit.idle_ns)),
            ("iowait", audit.iowait_ns),
            ("irq", audit.irq_ns),
            ("softirq", audit.softirq_ns),
            ("steal", audit.steal_ns),
        ];
        for (mode, ns) in modes {
            if let Some(ns) = ns {
                self.cpu.get_or_create(&Mode { mode }).inc_by(seconds(ns));
            }
        }
        let residual = seconds(audit.residual_ns.unsigned_abs());
        self.residual.set(if audit.residual_ns < 0 {
            -residual
        } else {
            residual
        });
        self.torn.inc_by(audit.torn_reads);
        for loss in &snapshot.losses {
            self.lost_for(&loss.reason).inc_by(loss.count);
        }
        if let Some(host) = &snapshot.host_info {
            self.processes.set(host.processes.into());
        }
        self.quiet
            .set(i64::from(snapshot.source() == v1::Source::EbpfQuiet));
        let Some(cost) = &snapshot.agent_cost else { return };
        for program in &cost.programs {
            let label = Program {
                program: program.name.clone(),
            };
            self.runs.get_or_create(&label).inc_by(program.runs);
            self.run_seconds
                .get_or_create(&label)
                .inc_by(seconds(program.run_ns));
        }
        let ratio = |ppm: Option<u64>| seconds(ppm.unwrap_or(0).saturating_mul(1_000));
        self.kernel_share.set(ratio(cost.kernel_ppm));
        self.kernel_budget.set(ratio(cost.kernel_budget_ppm));
        self.agent_cpu.inc_by(seconds(cost.cpu_time_ns_delta));
        self.agent_rss
            .set(i64::try_from(cost.rss_bytes).unwrap_or(i64::MAX));
        self.drain.set(seconds(cost.drain_ns));
        self.events.inc_by(cost.events);
        self.waiting
            .set(i64::try_from(cost.queue_len).unwrap_or(i64::MAX));
    }

    fn lost_for(&self, reason: &str) -> Counter {
        let reason = Reason {
            reason: reason.to_owned(),
        };
        self.lost.get_or_create_owned(&reason)
    }

    /// The page.
    fn text(&self) -> Option<String> {
        let mut text = String::new();
        encode(&mut text, &self.registry).ok()?;
        Some(text)
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "Prometheus counts in floating-point seconds"
)]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Takes the address before anything else starts.
///
/// # Errors
/// Exit code 1 when it is taken.
pub fn listen(address: SocketAddr) -> Result<std::net::TcpListener> {
    let fail = |error| {
        Failure::failed(format_args!(
            "could not listen on {address} for metrics: {error}; choose another with --metrics-listen"
        ))
    };
    let listener = std::net::TcpListener::bind(address).map_err(fail)?;
    listener.set_nonblocking(true).map_err(fail)?;
    Ok(listener)
}

/// Serves the page until it is dropped.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(listener: std::net::TcpListener, metrics: Arc<Metrics>) -> std::io::Result<()> {
    let router = Router::new().route("/metrics", get(page)).with_state(metrics);
    axum::serve(TcpListener::from_std(listener)?, router).await
}

async fn page(State(metrics): State<Arc<Metrics>>, headers: HeaderMap) -> Response {
    let Some(text) = metrics.text() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let (form, text) = exposition(accept.unwrap_or(""), text);
    ([(header::CONTENT_TYPE, form), (header::VARY, "accept")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_add_up_and_unknown_parts_are_absent() {
        let metrics = Metrics::new("a\"b");
        let snapshot = v1::Snapshot {
            audit: Some(v1::HostAudit {
                wall_ns: 2_000_000_000,
                process_ns: 500_000_000,
                residual_ns: -1_000_000,
                ..v1::HostAudit::default()
            }),
            losses: vec![v1::Loss {
                reason: "ring_full".to_owned(),
                count: 3,
            }],
            agent_cost: Some(v1::AgentCost {
                kernel_ppm: Some(1_200),
                programs: vec![v1::ProgramCost {
                    name: "sched_switch".to_owned(),
                    runs: 10,
                    run_ns: 500,
                }],
                ..v1::AgentCost::default()
            }),
            ..v1::Snapshot::default()
        };
        let spool = Stats {
            syncs: 12,
            ..Stats::default()
        };
        metrics.note(&snapshot, &spool);
        metrics.note(&snapshot, &spool);
        let text = metrics.text().unwrap();
        for line in [
            "procscope_agent_host_cpu_seconds_total{mode=\"process\"} 1.0",
            "procscope_agent_host_wall_seconds_total 4.0",
            "procscope_agent_residual_seconds -0.001",
            "procscope_agent_lost_total{reason=\"ring_full\"} 6",
            "procscope_agent_lost_total{reason=\"spool_evicted\"} 0",
            "procscope_agent_program_runs_total{program=\"sched_switch\"} 20",
            "procscope_agent_kernel_share_ratio 0.0012",
            "procscope_agent_spool_syncs_total 12",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "no line {line} in\n{text}"
            );
        }
        assert!(
            !text.contains("mode=\"irq\""),
            "a part that is not known is absent"
        );
    }
}

//! The groups as `OpenMetrics` text. Names of process-exporter are kept as they are; beside them stand those of
//! `OpenTelemetry`'s semantic conventions, as its translation to Prometheus writes them.

use std::fmt::Write as _;

use super::{
    State, Used,
    gauges::{Gauges, STATES},
};

/// One group of one page.
type Row<'a> = (&'a str, Used, Gauges);

/// What one series says of a group: the labels beside its name, and the value.
type Series<'a> = (&'a [(&'a str, &'a str)], Value);

#[derive(Debug, Clone, Copy)]
enum Value {
    Count(u64),
    Nanoseconds(u64),
    Milliseconds(i64),
    Ratio(f64),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            // In decimal, so that nothing is lost on the way.
            Self::Nanoseconds(ns) => write!(f, "{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000),
            Self::Milliseconds(ms) => write!(f, "{}.{:03}", ms.div_euclid(1_000), ms.rem_euclid(1_000)),
            Self::Ratio(ratio) => ratio.fmt(f),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Counter,
    Gauge,
}

struct Page<'a> {
    rows: Vec<Row<'a>>,
    text: String,
}

impl Page<'_> {
    /// One metric: its series of every group.
    fn metric<const N: usize>(
        &mut self,
        (name, kind, help): (&str, Kind, &str),
        series: impl Fn(&Used, &Gauges) -> [Series<'static>; N],
    ) {
        let (word, suffix) = match kind {
            Kind::Counter => ("counter", "_total"),
            Kind::Gauge => ("gauge", ""),
        };
        let text = &mut self.text;
        put(text, format_args!("# HELP {name} {help}\n# TYPE {name} {word}\n"));
        for (group, used, gauges) in &self.rows {
            for (labels, value) in series(used, gauges) {
                put(
                    text,
                    format_args!("{name}{suffix}{{groupname=\"{}\"", Label(group)),
                );
                for (label, word) in labels {
                    put(text, format_args!(",{label}=\"{word}\""));
                }
                put(text, format_args!("}} {value}\n"));
            }
        }
    }

    fn counter<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl Fn(&Used) -> [Series<'static>; N],
    ) {
        self.metric((name, Kind::Counter, help), |used, _gauges| series(used));
    }

    fn gauge<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl Fn(&Gauges) -> [Series<'static>; N],
    ) {
        self.metric((name, Kind::Gauge, help), |_used, gauges| series(gauges));
    }
}

fn put(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail; clippy wants to hear it.
    let written = text.write_fmt(more);
    debug_assert!(written.is_ok());
}

/// A name as the value of a label.
struct Label<'a>(&'a str);

impl std::fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The whole page.
pub(super) fn text(state: &State) -> String {
    let mut page = Page {
        rows: state.groups(),
        text: String::new(),
    };
    process_exporter(&mut page);
    open_telemetry(&mut page);
    let bounds = [
        (
            "procscope_process_groups",
            "gauge",
            "",
            "Groups on this page, other among them",
            page.rows.len().to_string(),
        ),
        (
            "procscope_process_commands_forgotten",
            "counter",
            "_total",
            "Commands that found no room among those that may become groups",
            state.forgotten.to_string(),
        ),
        (
            "procscope_process_hosts_turned_away",
            "counter",
            "_total",
            "Snapshots whose gauges found no room; their counters are added",
            state.hosts.turned_away.to_string(),
        ),
    ];
    for (name, kind, suffix, help, value) in bounds {
        put(
            &mut page.text,
            format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{suffix} {value}\n"),
        );
    }
    page.text.push_str("# EOF\n");
    page.text
}

fn process_exporter(page: &mut Page<'_>) {
    use Value::{Count, Milliseconds, Nanoseconds, Ratio};
    page.counter(
        "namedprocess_namegroup_cpu_seconds",
        "CPU time in seconds; unsplit: not known whether user or system",
        |used| {
            [
                (&[("mode", "user")], Nanoseconds(used.user_ns)),
                (&[("mode", "system")], Nanoseconds(used.system_ns)),
                (&[("mode", "unsplit")], Nanoseconds(used.unsplit_ns)),
            ]
        },
    );
    page.counter(
        "namedprocess_namegroup_read_bytes",
        "Bytes fetched from storage",
        |used| [(&[], Count(used.read_bytes))],
    );
    page.counter(
        "namedprocess_namegroup_write_bytes",
        "Bytes sent towards storage",
        |used| [(&[], Count(used.written_bytes))],
    );
    page.counter(
        "namedprocess_namegroup_major_page_faults",
        "Page faults that needed storage",
        |used| [(&[], Count(used.major_faults))],
    );
    page.counter(
        "namedprocess_namegroup_minor_page_faults",
        "Page faults that needed no storage",
        |used| [(&[], Count(used.minor_faults))],
    );
    page.counter(
        "namedprocess_namegroup_context_switches",
        "Context switches",
        |used| {
            [
                (&[("ctxswitchtype", "voluntary")], Count(used.voluntary_switches)),
                (
                    &[("ctxswitchtype", "nonvoluntary")],
                    Count(used.involuntary_switches),
                ),
            ]
        },
    );
    page.gauge(
        "namedprocess_namegroup_num_procs",
        "Processes in the group",
        |now| [(&[], Count(now.processes))],
    );
    page.gauge(
        "namedprocess_namegroup_num_threads",
        "Threads in the group",
        |now| [(&[], Count(now.threads))],
    );
    page.gauge(
        "namedprocess_namegroup_memory_bytes",
        "Memory in bytes; pages that several share are in each",
        |now| {
            [
                (&[("memtype", "resident")], Count(now.resident_bytes)),
                (&[("memtype", "virtual")], Count(now.virtual_bytes)),
                (&[("memtype", "swapped")], Count(now.swapped_bytes)),
            ]
        },
    );
    page.gauge(
        "namedprocess_namegroup_open_filedesc",
        "Open file descriptors",
        |now| [(&[], Count(now.open_files))],
    );
    page.gauge(
        "namedprocess_namegroup_worst_fd_ratio",
        "The greatest share of its limit of file descriptors that one process has open",
        |now| [(&[], Ratio(now.worst_files_ratio))],
    );
    page.gauge(
        "namedprocess_namegroup_oldest_start_time_seconds",
        "Start of the oldest process in seconds since 1970; 0 when there is none",
        |now| [(&[], Milliseconds(now.oldest_start_ms))],
    );
    page.gauge("namedprocess_namegroup_states", "Processes by state", |now| {
        let of = |at: usize| Count(now.states[at]);
        [
            (&[("state", STATES[0])], of(0)),
            (&[("state", STATES[1])], of(1)),
            (&[("state", STATES[2])], of(2)),
            (&[("state", STATES[3])], of(3)),
            (&[("state", STATES[4])], of(4)),
        ]
    });
}

fn open_telemetry(page: &mut Page<'_>) {
    use Value::{Count, Nanoseconds};
    page.counter(
        "process_cpu_time_seconds",
        "CPU time; unsplit: not known whether user or system",
        |used| {
            [
                (&[("cpu_mode", "user")], Nanoseconds(used.user_ns)),
                (&[("cpu_mode", "system")], Nanoseconds(used.system_ns)),
                (&[("cpu_mode", "unsplit")], Nanoseconds(used.unsplit_ns)),
            ]
        },
    );
    page.counter(
        "process_runqueue_time_seconds",
        "Time spent runnable without a CPU",
        |used| [(&[], Nanoseconds(used.runqueue_ns))],
    );
    page.counter(
        "process_disk_io_bytes",
        "Bytes from and towards storage",
        |used| {
            [
                (&[("disk_io_direction", "read")], Count(used.read_bytes)),
                (&[("disk_io_direction", "write")], Count(used.written_bytes)),
            ]
        },
    );
    page.counter("process_context_switches", "Context switches", |used| {
        [
            (
                &[("process_context_switch_type", "voluntary")],
                Count(used.voluntary_switches),
            ),
            (
                &[("process_context_switch_type", "involuntary")],
                Count(used.involuntary_switches),
            ),
        ]
    });
    page.counter("process_paging_faults", "Page faults", |used| {
        [
            (&[("system_paging_fault_type", "major")], Count(used.major_faults)),
            (&[("system_paging_fault_type", "minor")], Count(used.minor_faults)),
        ]
    });
    page.gauge("process_memory_usage_bytes", "Resident set", |now| {
        [(&[], Count(now.resident_bytes))]
    });
    page.gauge("process_memory_virtual_bytes", "Address space", |now| {
        [(&[], Count(now.virtual_bytes))]
    });
    page.gauge("process_threads", "Threads", |now| [(&[], Count(now.threads))]);
    page.gauge("process_open_file_descriptors", "Open file descriptors", |now| {
        [(&[], Count(now.open_files))]
    });
}

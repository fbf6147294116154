//! A process or a group as the cells of a table, the same in the printed and in the live top. Pure.

use procscope_proto::v1::{Coverage, TimeRange, TopProcess};

use crate::{
    args::{By, Sort},
    heading,
    table::{Column, Table},
    text, units,
    users::Users,
};

/// Stands before the name of a process that ended within the range.
pub(crate) const ENDED: char = '†';
/// Names of commands have 15 characters at most, but marks, escapes and other groups may be longer.
const NAME_WIDTH_MIN: usize = 16;
const NAME_WIDTH_MAX: usize = 20;
/// With the branches before it.
const TREE_WIDTH_MAX: usize = 40;
/// So much of a container's id is shown, as other tools do.
const CONTAINER_CHARS: usize = 12;
/// A pod's UID is shown whole: no other tool shows a part of it.
const POD_WIDTH_MAX: usize = 36;
const HOST_WIDTH_MAX: usize = 20;
const USER_WIDTH_MAX: usize = 12;

/// What decides which columns there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub by: By,
    pub sort: Sort,
    pub several_hosts: bool,
    /// Names have branches before them, which need room.
    pub tree: bool,
    /// Observed seconds of one host, for rows that used no CPU.
    pub observed_seconds: f64,
}

impl Shape {
    /// The shape for these rows.
    pub(crate) fn new(
        by: By,
        sort: Sort,
        range: Option<&TimeRange>,
        coverage: Option<&Coverage>,
        rows: &[TopProcess],
    ) -> Self {
        let length =
            heading::length_ns(range).map_or(0.0, |ns| std::time::Duration::from_nanos(ns).as_secs_f64());
        let share = coverage.map_or(1.0, |coverage| coverage.share);
        let several_hosts = hosts(rows).len() > 1;
        Self {
            by,
            sort,
            several_hosts,
            tree: false,
            observed_seconds: length * share,
        }
    }

    fn columns(self) -> Vec<Column> {
        let mut columns = Vec::new();
        if self.by == By::Process {
            columns.push(Column::number("PID").at_least(5));
            columns.push(Column::text("USER", USER_WIDTH_MAX).at_least(6).spare(4));
        }
        if self.shows_hosts() {
            columns.push(Column::text("HOST", HOST_WIDTH_MAX).spare(3));
        }
        if self.by != By::Process {
            columns.push(Column::number("PROCS").spare(5));
        }
        columns.push(Column::number("CPU%").at_least(5));
        let time = if self.by == By::Process {
            "CPU-TIME"
        } else {
            "CPU-USED"
        };
        columns.push(Column::number(time).at_least(8).spare(2));
        match self.sort {
            Sort::Memory => columns.push(Column::number("MEM-AVG").at_least(8)),
            Sort::Io => columns.push(Column::number("DISK").at_least(8)),
            Sort::Faults => columns.push(Column::number("FAULTS")),
            Sort::Switches => columns.push(Column::number("SWITCHES")),
            Sort::Cpu | Sort::Peak | Sort::Runqueue => {}
        }
        columns.push(
            Column::number("RSS")
                .at_least(8)
                .spare(if self.sort == Sort::Memory { 6 } else { 1 }),
        );
        columns.push(
            Column::number("PEAK")
                .at_least(8)
                .spare(if self.sort == Sort::Peak { 0 } else { 7 }),
        );
        columns.push(Column::number("THR").spare(8));
        columns.push(Column::number("WAIT%").spare(if self.sort == Sort::Runqueue { 0 } else { 6 }));
        columns.push(
            Column::text(
                match self.by {
                    By::Process | By::Command => "NAME",
                    By::Container => "CONTAINER",
                    By::Pod => "POD",
                    By::User => "USER",
                    By::Host => "HOST",
                },
                match self.by {
                    By::Pod => POD_WIDTH_MAX,
                    _ if self.tree => TREE_WIDTH_MAX,
                    _ => NAME_WIDTH_MAX,
                },
            )
            .at_least(NAME_WIDTH_MIN),
        );
        if self.by == By::Process {
            columns.push(Column::text("COMMAND", usize::MAX).spare(9));
        }
        columns
    }

    fn cells(self, p: &TopProcess, branch: &str, users: &Users) -> Vec<String> {
        let mut cells = Vec::new();
        if self.by == By::Process {
            cells.push(or_dash(p.pid));
            cells.push(p.uid.map_or_else(dash, |uid| users.name(uid, &p.hosts)));
        }
        if self.shows_hosts() {
            cells.push(match p.hosts.as_slice() {
                [host] => text::safe(host),
                hosts => format!("{} hosts", hosts.len()),
            });
        }
        if self.by != By::Process {
            cells.push(units::mean(p.avg_num_procs));
        }
        cells.push(units::percent(p.avg_cpu_percent));
        cells.push(match p.cpu_time_ns {
            Some(ns) if self.by == By::Process => units::duration(ns),
            _ if self.by == By::Process => dash(),
            _ => units::seconds(p.cpu_seconds),
        });
        match self.sort {
            Sort::Memory => cells.push(p.avg_memory_mb.map_or_else(dash, units::mebibytes)),
            Sort::Io => {
                cells.push(sum(p.disk_read_bytes, p.disk_written_bytes).map_or_else(dash, units::bytes));
            }
            Sort::Faults => cells.push(sum(p.minor_faults, p.major_faults).map_or_else(dash, units::count)),
            Sort::Switches => {
                cells.push(sum(p.voluntary_switches, p.involuntary_switches).map_or_else(dash, units::count));
            }
            Sort::Cpu | Sort::Peak | Sort::Runqueue => {}
        }
        cells.push(p.rss_bytes.map_or_else(dash, units::bytes));
        cells.push(p.peak_memory_mb.map_or_else(dash, units::mebibytes));
        cells.push(if ended(p) { dash() } else { p.threads.to_string() });
        cells.push(self.wait_percent(p).map_or_else(dash, units::percent));
        cells.push(format!("{branch}{}", self.name(p, users)));
        if self.by == By::Process {
            cells.push(text::safe(&command(p)));
        }
        cells
    }

    fn shows_hosts(self) -> bool {
        self.several_hosts && self.by != By::Host
    }

    fn name(self, p: &TopProcess, users: &Users) -> String {
        let name = text::safe(&p.name);
        let name = match self.by {
            By::User => name.parse().map_or(name, |uid| users.name(uid, &p.hosts)),
            By::Container if name.is_empty() => "(no container)".to_owned(),
            By::Pod if name.is_empty() => "(no pod)".to_owned(),
            By::Container => name.chars().take(CONTAINER_CHARS).collect(),
            _ if p.kernel_thread == Some(true) => format!("[{name}]"),
            _ => name,
        };
        if ended(p) { format!("{ENDED}{name}") } else { name }
    }

    /// Time runnable without a CPU / observed time x 100; like CPU%, 100 is one thread that always waits.
    pub(crate) fn wait_percent(self, p: &TopProcess) -> Option<f64> {
        let waited = p.runqueue_seconds?;
        let observed = if p.avg_cpu_percent > 0.0 {
            p.cpu_seconds * 100.0 / p.avg_cpu_percent
        } else {
            self.observed_seconds
        };
        if observed > 0.0 {
            Some(waited / observed * 100.0)
        } else {
            None
        }
    }
}

/// The command line, of whose program only the name is shown: there is more to tell the arguments apart.
fn command(p: &TopProcess) -> String {
    let Some(cmdline) = p.cmdline.as_deref().filter(|cmdline| !cmdline.is_empty()) else {
        return p.exe.clone().unwrap_or_default();
    };
    let (program, arguments) = cmdline.split_at(cmdline.find(' ').unwrap_or(cmdline.len()));
    let name = program
        .rsplit('/')
        .next()
        .filter(|name| !name.is_empty() && program.starts_with('/'));
    format!("{}{arguments}", name.unwrap_or(program))
}

/// It ended within the range.
pub(crate) fn ended(p: &TopProcess) -> bool {
    p.exited == Some(true)
}

/// The rows as a table.
pub(crate) fn table<'a>(
    shape: Shape,
    rows: impl IntoIterator<Item = &'a TopProcess>,
    users: &Users,
) -> Table {
    branched(shape, rows.into_iter().map(|row| (row, "")), users)
}

/// The rows as a table, each with what is drawn before its name.
pub(crate) fn branched<'a>(
    shape: Shape,
    rows: impl IntoIterator<Item = (&'a TopProcess, &'a str)>,
    users: &Users,
) -> Table {
    let mut table = Table::new(shape.columns());
    for (row, branch) in rows {
        table.push(shape.cells(row, branch, users));
    }
    table
}

/// The different hosts of some rows, in order.
pub(crate) fn hosts<'a>(rows: impl IntoIterator<Item = &'a TopProcess>) -> Vec<String> {
    heading::host_names(&[], rows.into_iter().flat_map(|row| &row.hosts))
}

/// The sum of two parts; `None` when neither is known.
pub(crate) fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (None, None) => None,
        _ => Some(one.unwrap_or(0).saturating_add(other.unwrap_or(0))),
    }
}

fn or_dash(value: Option<u32>) -> String {
    value.map_or_else(dash, |value| value.to_string())
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(by: By, sort: Sort) -> Shape {
        Shape {
            by,
            sort,
            several_hosts: false,
            tree: false,
            observed_seconds: 10.0,
        }
    }

    fn row() -> TopProcess {
        TopProcess {
            name: "stress".to_owned(),
            hosts: vec!["vm".to_owned()],
            pid: Some(42),
            uid: Some(1000),
            avg_cpu_percent: 50.0,
            cpu_seconds: 5.0,
            cpu_time_ns: Some(7_000_000_000),
            rss_bytes: Some(1 << 20),
            peak_memory_mb: Some(2.0),
            threads: 3,
            runqueue_seconds: Some(1.0),
            cmdline: Some("stress --cpu 1".to_owned()),
            ..TopProcess::default()
        }
    }

    fn check(shape: Shape, row: &TopProcess, expected: &[&str]) {
        let lines = table(shape, [row], &Users::default()).lines(120);
        let words: Vec<Vec<&str>> = [&lines.titles, &lines.rows[0]]
            .iter()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            words,
            expected
                .iter()
                .map(|line| line.split_whitespace().collect())
                .collect::<Vec<Vec<_>>>()
        );
    }

    #[test]
    fn a_process_shows_who_it_is_and_what_it_costs() {
        check(
            shape(By::Process, Sort::Cpu),
            &row(),
            &[
                "PID USER CPU% CPU-TIME RSS PEAK THR WAIT% NAME COMMAND",
                "42 1000 50.0 7.00 s 1.00 MiB 2.00 MiB 3 10.0 stress stress --cpu 1",
            ],
        );
    }

    #[test]
    fn the_folder_of_a_program_gives_way_to_its_arguments() {
        for (cmdline, shown) in [
            ("/usr/bin/python3 /srv/app.py", "python3 /srv/app.py"),
            ("sleep 5", "sleep 5"),
            ("nginx: worker process", "nginx: worker process"),
            ("./a/b c", "./a/b c"),
            ("/ x", "/ x"),
        ] {
            let row = TopProcess {
                cmdline: Some(cmdline.to_owned()),
                ..row()
            };
            assert_eq!(command(&row), shown);
        }
    }

    #[test]
    fn a_process_that_ended_is_marked_and_has_no_threads_left() {
        let row = TopProcess {
            exited: Some(true),
            rss_bytes: None,
            cmdline: None,
            ..row()
        };
        check(
            shape(By::Process, Sort::Cpu),
            &row,
            &[
                "PID USER CPU% CPU-TIME RSS PEAK THR WAIT% NAME COMMAND",
                "42 1000 50.0 7.00 s - 2.00 MiB - 10.0 †stress",
            ],
        );
    }

    #[test]
    fn a_pod_shows_its_whole_uid_and_what_is_in_none_says_so() {
        let uid = "5cf2a1b8-7d3e-4f60-9a1b-0c2d3e4f5a6b";
        for (name, shown) in [(uid, uid), ("", "(no pod)")] {
            let row = TopProcess {
                name: name.to_owned(),
                avg_num_procs: 2.0,
                ..row()
            };
            check(
                shape(By::Pod, Sort::Cpu),
                &row,
                &[
                    "PROCS CPU% CPU-USED RSS PEAK THR WAIT% POD",
                    &format!("2 50.0 5.00 s 1.00 MiB 2.00 MiB 3 10.0 {shown}"),
                ],
            );
        }
    }

    #[test]
    fn a_group_shows_what_was_used_within_the_range() {
        let row = TopProcess {
            avg_num_procs: 2.5,
            minor_faults: Some(1000),
            ..row()
        };
        check(
            shape(By::Command, Sort::Faults),
            &row,
            &[
                "PROCS CPU% CPU-USED FAULTS RSS PEAK THR WAIT% NAME",
                "2.5 50.0 5.00 s 1,000 1.00 MiB 2.00 MiB 3 10.0 stress",
            ],
        );
    }
}

//! `audit`: where each CPU-second of each host went, the residual, what was lost, and what measuring cost.

use procscope_proto::v1::{AuditRow, GetAuditRequest, GetAuditResponse};
use procscope_startup::Result;

use crate::{
    client::Client,
    config::Settings,
    data::Answer,
    heading,
    output::{self, Page},
    records, text, units,
};

/// Asks and prints.
pub(crate) async fn run(settings: &Settings) -> Result<()> {
    let request = GetAuditRequest {
        hosts: settings.hosts.clone(),
        range: settings.range,
    };
    let mut response = Client::connect(settings).await?.audit(request).await?;
    response.rows.truncate(settings.rows_max());
    output::print(
        settings.format,
        || answer(&response),
        |width| page(&response, width),
    )
}

fn answer(response: &GetAuditResponse) -> Answer {
    Answer {
        head: records::head(response.range.as_ref(), response.coverage.as_ref()),
        rows_name: "rows",
        rows: response.rows.iter().map(records::audit_row).collect(),
        blank: records::audit_row(&AuditRow::default()),
    }
}

fn page(response: &GetAuditResponse, width: usize) -> Page {
    let hosts = heading::Hosts::all(response.rows.iter().map(|row| row.host.clone()).collect());
    let range = response.range.as_ref();
    let heading = heading::lines(
        "audit of CPU time",
        range,
        &hosts,
        response.coverage.as_ref(),
        width,
    );
    let mut notes: Vec<String> = response.rows.iter().flat_map(block).collect();
    if response.rows.is_empty() {
        notes.push("no host sent anything in this time, or no interval is complete".to_owned());
    }
    Page {
        heading,
        table: None,
        notes,
        ..Page::default()
    }
}

/// Columns that names of parts take at least, and at most.
const NAME_WIDTH_MIN: usize = 17;
const NAME_WIDTH_MAX: usize = 28;

/// The lines of one host. Each part is said, also the one that this kernel does not tell apart.
fn block(row: &AuditRow) -> Vec<String> {
    let names = row
        .programs
        .iter()
        .map(|program| text::width(&program_name(&program.name)));
    let wide = names.max().unwrap_or(0).clamp(NAME_WIDTH_MIN, NAME_WIDTH_MAX);
    let mut lines = vec![
        String::new(),
        format!(
            "{}: {} CPUs, {} in {} snapshot{}",
            text::safe(&row.host),
            row.cpus,
            units::duration(row.wall_ns),
            units::count(row.snapshots),
            if row.snapshots == 1 { "" } else { "s" }
        ),
    ];
    let absent = if row.interrupts_in_tasks {
        "within task time on this kernel"
    } else {
        "not told by this kernel"
    };
    for (name, ns) in [
        ("processes", Some(row.process_ns)),
        ("kernel threads", Some(row.kthread_ns)),
        ("idle", Some(row.idle_ns)),
        ("waiting for disk", row.iowait_ns),
        ("hard interrupts", row.irq_ns),
        ("soft interrupts", row.softirq_ns),
        ("stolen by host", row.steal_ns),
    ] {
        lines.push(match ns {
            Some(ns) => part(wide, name, &units::duration(ns), percent_of(ns, row.wall_ns)),
            None if name.ends_with("interrupts") => format!("  {name:<wide$} {absent}"),
            None => format!("  {name:<wide$} not told by this kernel"),
        });
    }
    lines.push(part(
        wide,
        "residual",
        &units::signed_duration(row.residual_ns),
        Some(row.residual_percent),
    ));
    let mut lost: Vec<String> = Vec::new();
    if row.lost_events > 0 {
        lost.push(format!("events {}", units::count(row.lost_events)));
    }
    if row.torn_reads > 0 {
        lost.push(format!("torn readings {}", units::count(row.torn_reads)));
    }
    if !row.losses.is_empty() {
        lost.push(heading::name_losses(&row.losses));
    }
    let lost = if lost.is_empty() {
        "nothing".to_owned()
    } else {
        lost.join(", ")
    };
    lines.push(format!("  {:<wide$} {lost}", "lost"));
    lines.extend(cost(row, wide));
    lines
}

/// A program as the name of a part of the kernel's side.
fn program_name(name: &str) -> String {
    text::fit(&format!("    {}", text::safe(name)), NAME_WIDTH_MAX)
}

/// What measuring cost: the programs in the kernel against their budget, and the agent. Shares are of the machine, as
/// above. Nothing where nobody told.
fn cost(row: &AuditRow, wide: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = |name: &str, ns: u64, percent: &str, said: &str| {
        let blanks = " ".repeat(wide.saturating_sub(text::width(name)));
        let line = format!(
            "  {name}{blanks} {:>9}  {percent:>9}  {said}",
            units::duration(ns)
        );
        lines.push(line.trim_end().to_owned());
    };
    let mut say = |name: &str, ns: u64, said: String| {
        let share = percent_of(ns, row.wall_ns);
        let share = share.map_or_else(|| "-".to_owned(), |share| format!("{} %", fine(share)));
        line(name, ns, &share, &said);
    };
    let times = |count: u64, ns: u64| format!("{} x {}", units::count(count), units::duration(ns));
    if let Some(ppm) = row.kernel_ppm {
        let wall = std::time::Duration::from_nanos(row.wall_ns).as_secs_f64();
        let ns = units::nanoseconds(wall * ppm / 1e6).unwrap_or(0);
        say(
            "  in the kernel",
            ns,
            row.kernel_budget_ppm
                .map_or_else(String::new, |budget| verdict(ppm, budget)),
        );
    }
    for program in &row.programs {
        let each = program.run_ns.checked_div(program.runs);
        let said = each.map_or_else(|| "never ran".to_owned(), |ns| times(program.runs, ns));
        say(&program_name(&program.name), program.run_ns, said);
    }
    let runs = row
        .programs
        .iter()
        .map(|program| program.runs)
        .fold(0, u64::saturating_add);
    if let Some(attach_ns) = row.attach_ns.filter(|_| runs > 0) {
        say(
            "    calling them",
            runs.saturating_mul(attach_ns),
            times(runs, attach_ns),
        );
    }
    if let Some(ns) = row.agent_cpu_time_ns {
        let resident = row.agent_peak_rss_bytes.map(units::bytes);
        say(
            "  the agent",
            ns,
            resident.map_or_else(String::new, |bytes| format!("{bytes} resident at most")),
        );
    }
    if let (Some(mean_ns), Some(longest_ns)) = (row.agent_avg_drain_ns, row.agent_max_drain_ns) {
        // By the clock: on a busy machine most of it is waiting, so it is no share of the machine.
        let mean_ns = units::nanoseconds(mean_ns / 1e9).unwrap_or(0);
        let said = format!("by the clock, at most {}", units::duration(longest_ns));
        line("    a drain", mean_ns, "", &said);
    }
    if !lines.is_empty() {
        lines.insert(0, "  what measuring took of this".to_owned());
    }
    lines
}

/// Whether the kernel's side keeps to its budget.
fn verdict(ppm: f64, budget_ppm: u64) -> String {
    let budget = u32::try_from(budget_ppm).map_or(f64::INFINITY, f64::from);
    let word = if ppm > budget { "over" } else { "within" };
    format!("{word} its budget of {} %", fine(records::percent_of_ppm(budget)))
}

/// A small percentage; what is above zero and would read as zero is `<0.001`.
fn fine(percent: f64) -> String {
    if percent > 0.0 && percent < 0.000_5 {
        "<0.001".to_owned()
    } else {
        format!("{percent:.3}")
    }
}

fn part(wide: usize, name: &str, time: &str, percent: Option<f64>) -> String {
    let percent = percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.2} %"));
    format!("  {name:<wide$} {time:>9}  {percent:>9}")
}

/// Share of the wall in percent; `None` without a wall.
pub(crate) fn percent_of(ns: u64, wall_ns: u64) -> Option<f64> {
    let seconds = |ns| std::time::Duration::from_nanos(ns).as_secs_f64();
    if wall_ns == 0 {
        None
    } else {
        Some(seconds(ns) / seconds(wall_ns) * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use procscope_proto::v1::AuditProgram;

    use super::*;

    #[test]
    fn each_second_is_accounted_for() {
        let row = AuditRow {
            host: "vm".to_owned(),
            cpus: 2,
            wall_ns: 20_000_000_000,
            process_ns: 3_000_000_000,
            kthread_ns: 100_000_000,
            idle_ns: 16_880_000_000,
            iowait_ns: Some(0),
            interrupts_in_tasks: true,
            residual_ns: 20_000_000,
            residual_percent: 0.1,
            snapshots: 10,
            torn_reads: 1,
            ..AuditRow::default()
        };
        let expected = "
vm: 2 CPUs, 20.0 s in 10 snapshots
  processes            3.00 s    15.00 %
  kernel threads       100 ms     0.50 %
  idle                 16.9 s    84.40 %
  waiting for disk          0     0.00 %
  hard interrupts   within task time on this kernel
  soft interrupts   within task time on this kernel
  stolen by host    not told by this kernel
  residual            20.0 ms     0.10 %
  lost              torn readings 1";
        assert_eq!(block(&row).join("\n"), expected);
    }

    fn costly() -> AuditRow {
        let program = |name: &str, runs, run_ns| AuditProgram {
            name: name.to_owned(),
            runs,
            run_ns,
        };
        AuditRow {
            wall_ns: 20_000_000_000,
            kernel_ppm: Some(650.0),
            kernel_budget_ppm: Some(1_000),
            attach_ns: Some(100),
            programs: vec![
                program("sched_switch", 45_000, 9_000_000),
                program("rss_stat", 300, 60_000),
                program("sched_process_exit", 0, 0),
            ],
            agent_cpu_time_ns: Some(103_000_000),
            agent_peak_rss_bytes: Some(12_900_000),
            agent_avg_drain_ns: Some(1_230_000.0),
            agent_max_drain_ns: Some(4_500_000),
            ..AuditRow::default()
        }
    }

    #[test]
    fn what_measuring_took_stands_below_in_the_same_columns() {
        let expected = "  what measuring took of this
    in the kernel          13.0 ms    0.065 %  within its budget of 0.100 %
      sched_switch         9.00 ms    0.045 %  45,000 x 200 ns
      rss_stat             60.0 us   <0.001 %  300 x 200 ns
      sched_process_exit         0    0.000 %  never ran
      calling them         4.53 ms    0.023 %  45,300 x 100 ns
    the agent               103 ms    0.515 %  12.3 MiB resident at most
      a drain              1.23 ms             by the clock, at most 4.50 ms";
        let lines = block(&costly());
        let (balance, cost) = lines.split_at(lines.len() - 8);
        assert_eq!(cost.join("\n"), expected);
        assert!(
            balance.contains(&"  residual                       0     0.00 %".to_owned()),
            "{balance:?}"
        );
        assert!(lines.iter().all(|line| text::width(line) <= 80));
    }

    #[test]
    fn a_budget_that_does_not_hold_says_so_and_what_nobody_told_is_left_out() {
        let row = AuditRow {
            kernel_ppm: Some(1_200.0),
            programs: Vec::new(),
            agent_cpu_time_ns: None,
            agent_max_drain_ns: None,
            ..costly()
        };
        let lines = cost(&row, 17);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[1].ends_with("0.120 %  over its budget of 0.100 %"),
            "{lines:?}"
        );
        assert!(cost(&AuditRow::default(), 17).is_empty());
    }
}

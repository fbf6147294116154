//! `audit`: where each CPU-second of each host went, the residual, and what was lost.

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
    let hosts: Vec<String> = response.rows.iter().map(|row| row.host.clone()).collect();
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
    }
}

/// The lines of one host. Each part is said, also the one that this kernel does not tell apart.
fn block(row: &AuditRow) -> Vec<String> {
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
            Some(ns) => part(name, &units::duration(ns), percent_of(ns, row.wall_ns)),
            None if name.ends_with("interrupts") => format!("  {name:<17} {absent}"),
            None => format!("  {name:<17} not told by this kernel"),
        });
    }
    lines.push(part(
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
    lines.push(format!("  {:<17} {lost}", "lost"));
    lines
}

fn part(name: &str, time: &str, percent: Option<f64>) -> String {
    let percent = percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.2} %"));
    format!("  {name:<17} {time:>9}  {percent:>9}")
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
}

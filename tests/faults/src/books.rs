//! What has to be true of the tables at the end, whatever happened.

use anyhow::{Result, ensure};

use crate::Fleet;

/// What names a row of the minutes, hour or day left out.
const PROCESS: &str = "host, process_id, exec_generation, name, pid, uid, container_id, pod_uid";

/// Sums of `process_samples` by their columns in the minutes and hours.
const PROCESS_SUMS: &[&str] = &[
    "cpu_time_ns_delta",
    "user_time_ns_delta",
    "system_time_ns_delta",
    "ended_threads_cpu_time_ns_delta",
    "runqueue_ns_delta",
    "runqueue_waits_delta",
    "voluntary_switches_delta",
    "involuntary_switches_delta",
    "minor_faults_delta",
    "major_faults_delta",
    "read_bytes_delta",
    "written_bytes_delta",
    "read_operations_delta",
    "write_operations_delta",
    "disk_read_bytes_delta",
    "disk_written_bytes_delta",
    "interval_ns",
];

/// Gauges of `process_samples`, as they begin: `rss` of `rss_bytes`, `rss_byte_ns` and `rss_known_ns`.
const PROCESS_GAUGES: &[&str] = &["rss", "rss_anon", "rss_file", "rss_shmem", "swap", "virtual"];

/// Greatest values of `process_samples`, and their columns in the minutes and hours.
const PROCESS_PEAKS: &[(&str, &str)] = &[
    ("peak_rss_bytes", "peak_rss_bytes"),
    ("lifetime_peak_rss_bytes", "lifetime_peak_rss_bytes"),
    ("threads", "threads_max"),
    ("open_file_descriptors", "open_file_descriptors"),
    ("exited", "exited"),
    ("time", "time"),
];

/// Sums of `host_samples`.
const HOST_SUMS: &[&str] = &[
    "samples",
    "exits",
    "wall_ns",
    "process_ns",
    "kthread_ns",
    "idle_ns",
    "residual_ns",
    "lost_events",
    "torn_reads",
    "agent_cpu_time_ns_delta",
    "agent_drain_ns",
    "agent_events",
];

/// Each snapshot is stored once in every table, with all of its rows, and none is missing.
///
/// # Errors
/// With what is wrong.
pub fn check_samples(fleet: &Fleet) -> Result<()> {
    for (what, query) in [
        (
            "snapshots stored twice",
            "SELECT agent_id, epoch, seq, count() AS n FROM host_samples GROUP BY ALL HAVING n != 1 LIMIT 9",
        ),
        (
            "rows stored twice",
            "SELECT agent_id, epoch, seq, process_id, exec_generation, count() AS n FROM process_samples GROUP BY ALL \
             HAVING n != 1 LIMIT 9",
        ),
        (
            "snapshots with more or less rows than they had",
            "SELECT h.agent_id, h.epoch, h.seq, h.samples, s.n FROM host_samples AS h FULL JOIN (SELECT agent_id, epoch, seq, \
             count() AS n FROM process_samples GROUP BY ALL) AS s ON h.agent_id = s.agent_id AND h.epoch = s.epoch AND \
             h.seq = s.seq WHERE h.samples != s.n LIMIT 9",
        ),
        (
            "snapshots with more or less exits than they had",
            "SELECT h.agent_id, h.epoch, h.seq, h.exits, s.n FROM host_samples AS h FULL JOIN (SELECT agent_id, epoch, seq, \
             count() AS n FROM process_exits GROUP BY ALL) AS s ON h.agent_id = s.agent_id AND h.epoch = s.epoch AND \
             h.seq = s.seq WHERE h.exits != s.n LIMIT 9",
        ),
        (
            "epochs with gaps",
            "SELECT agent_id, epoch, count() AS n, min(seq), max(seq) AS last FROM host_samples GROUP BY ALL \
             HAVING n != last LIMIT 9",
        ),
        (
            "snapshots set aside",
            "SELECT agent_id, epoch, seq, reason FROM set_aside LIMIT 9",
        ),
        (
            "losses of snapshots",
            "SELECT host, arrayJoin(mapKeys(losses)) AS reason, count() FROM host_samples WHERE reason LIKE 'spool%' OR \
             reason IN ('queue_full', 'poison') GROUP BY ALL LIMIT 9",
        ),
    ] {
        let found = fleet.sql(query)?;
        ensure!(found.is_empty(), "{what}:\n{found}");
    }
    Ok(())
}

/// Windows of which the coarser table has not yet everything.
///
/// # Errors
/// When the engine does not answer.
pub fn stale_windows(fleet: &Fleet) -> Result<String> {
    fleet.sql(
        "SELECT (SELECT count() FROM host_samples) - (SELECT sum(version) FROM host_samples_1m FINAL), \
         (SELECT count() FROM host_samples) - (SELECT sum(version) FROM host_samples_1h FINAL)",
    )
}

/// The minutes and hours hold what the samples hold: process by process and window by window, column by column.
///
/// # Errors
/// With what differs.
pub fn check_windows(fleet: &Fleet) -> Result<()> {
    for (suffix, round) in [("1m", "toStartOfMinute"), ("1h", "toStartOfHour")] {
        let window = format!("toDateTime({round}(subtractMilliseconds(r.time, 1)), 'UTC')");
        let mut pairs: Vec<(String, String)> = Vec::new();
        pairs.push(("count()".to_owned(), "any(snapshots)".to_owned()));
        for name in PROCESS_SUMS {
            pairs.push((format!("sum(r.{name})"), format!("any(r.{name})")));
        }
        for name in PROCESS_GAUGES {
            pairs.push((
                format!("sum(toUInt128(r.{name}_bytes) * r.interval_ns)"),
                format!("any(r.{name}_byte_ns)"),
            ));
            pairs.push((
                format!("sumIf(r.interval_ns, isNotNull(r.{name}_bytes))"),
                format!("any(r.{name}_known_ns)"),
            ));
        }
        for (fine, coarse) in PROCESS_PEAKS {
            pairs.push((format!("max(r.{fine})"), format!("any(r.{coarse})")));
        }
        compare(
            fleet,
            ("process_samples", &format!("process_samples_{suffix}")),
            (&format!("{PROCESS}, {window}"), &format!("{PROCESS}, window")),
            &pairs,
        )?;
        let mut pairs: Vec<(String, String)> = vec![
            ("count()".to_owned(), "any(r.version)".to_owned()),
            ("sum(r.interval_ns)".to_owned(), "any(r.observed_ns)".to_owned()),
            ("sumMap(r.losses)".to_owned(), "any(r.losses)".to_owned()),
        ];
        for name in HOST_SUMS {
            pairs.push((format!("sum(r.{name})"), format!("any(r.{name})")));
        }
        compare(
            fleet,
            ("host_samples", &format!("host_samples_{suffix}")),
            (&format!("host, {window}"), "host, window"),
            &pairs,
        )?;
    }
    Ok(())
}

/// Compares what the finer table sums up to with what stands in the coarser one, both ways. `any` of a group that has
/// one row is that row's; a group with more of them is seen by its count.
fn compare(
    fleet: &Fleet,
    (fine, coarse): (&str, &str),
    (fine_key, coarse_key): (&str, &str),
    pairs: &[(String, String)],
) -> Result<()> {
    for (of_fine, of_coarse) in pairs {
        // NULL differs from nothing in a join: as text it is a value of its own.
        let side = |table: &str, key: &str, figure: &str| {
            format!(
                "SELECT toString(tuple({key})) AS k, ifNull(toString({figure}), 'NULL') AS v, {} AS n FROM {table} GROUP BY k",
                if table.ends_with("FINAL") { "count()" } else { "1" }
            )
        };
        let fine_side = side(&format!("{fine} AS r"), fine_key, of_fine);
        let coarse_side = side(&format!("{coarse} AS r FINAL"), coarse_key, of_coarse);
        let found = fleet.sql(&format!(
            "SELECT f.k, f.v, c.k, c.v, c.n FROM ({fine_side}) AS f FULL JOIN ({coarse_side}) AS c ON f.k = c.k \
             WHERE f.v != c.v OR f.n != c.n LIMIT 5"
        ))?;
        ensure!(
            found.is_empty(),
            "{of_fine} of {fine} is not {of_coarse} of {coarse}:\n{found}"
        );
    }
    Ok(())
}

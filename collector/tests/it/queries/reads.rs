//! How much a question reads. The answers are the same when it reads a day to find a minute; nobody would notice but by
//! the time it takes.

use std::fmt::Debug;

use procscope_collector::query::{
    AskedRange, AuditQuery, ExitsQuery, GroupBy, GroupsQuery, HistoryQuery, Metric, Queries, QueryError,
    TopQuery,
};

use crate::support::{Engine, now_ms};

const DAY_MS: i64 = 86_400_000;
const HOURS: i64 = 22;
const PROCESSES: i64 = 8;

/// Nearly all of one day, in one part: a row of each process each second, and one of the host.
async fn fill(engine: &Engine, start_ms: i64) {
    let seconds = HOURS * 3_600;
    let time = format!("fromUnixTimestamp64Milli(toInt64({start_ms} + second * 1000), 'UTC')");
    engine
        .execute(&format!(
            "INSERT INTO process_samples (agent_id, epoch, seq, host, time, received_at, process_id, name, pid, \
             start_boottime_ns, interval_ns, cpu_time_ns, cpu_time_ns_delta, rss_bytes, threads, source) \
             SELECT toUUID('01010101-0101-0101-0101-010101010101'), 1, second + 1, 'h', {time} AS t, t, \
             toUUID(format('{{0}}-0000-0000-0000-000000000000', leftPad(hex(toUInt32(process)), 8, '0'))), \
             concat('n', toString(process)), process, process, 1000000000, (second + 1) * 1000000, 1000000, 1048576, 1, \
             'ebpf' FROM (SELECT intDiv(number, {PROCESSES}) + 1 AS second, number % {PROCESSES} + 1 AS process \
             FROM numbers({}))",
            seconds * PROCESSES
        ))
        .await;
    engine
        .execute(&format!(
            "INSERT INTO host_samples (agent_id, epoch, seq, host, boot_id, time, received_at, interval_ns, source, \
             samples) SELECT toUUID('01010101-0101-0101-0101-010101010101'), 1, second, 'h', \
             toUUID('02020202-0202-0202-0202-020202020202'), {time} AS t, t, 1000000000, 'ebpf', {PROCESSES} \
             FROM (SELECT number + 1 AS second FROM numbers({seconds}))"
        ))
        .await;
    engine
        .execute(&format!(
            "INSERT INTO process_exits (agent_id, epoch, seq, host, time, received_at, process_id, name, pid, \
             start_boottime_ns, end_time, lifetime_ns, cpu_time_ns, source) \
             SELECT toUUID('01010101-0101-0101-0101-010101010101'), 1, second, 'h', {time} AS t, t, generateUUIDv4(), \
             concat('x', toString(process)), process, second, t, 1000000, 1000, 'ebpf' FROM (SELECT \
             intDiv(number, {PROCESSES}) + 1 AS second, number % {PROCESSES} + 1 AS process FROM numbers({}))",
            seconds * PROCESSES
        ))
        .await;
    for table in ["process_samples", "host_samples", "process_exits"] {
        engine.execute(&format!("OPTIMIZE TABLE {table} FINAL")).await;
    }
}

/// Rows that the engine has selected from its tables until now.
async fn selected(engine: &Engine) -> u64 {
    engine
        .number("SELECT sum(value) FROM system.events WHERE event = 'SelectedRows'")
        .await
}

/// Rows that a question made the engine select.
async fn reads<A: Debug>(engine: &Engine, answer: impl Future<Output = Result<A, QueryError>>) -> u64 {
    let before = selected(engine).await;
    answer.await.unwrap();
    selected(engine).await - before
}

#[tokio::test]
async fn half_a_minute_is_found_by_its_hour() {
    let engine = Engine::start();
    let store = engine.store();
    store.migrate(0).await.unwrap();
    // Yesterday: the store throws away what is older than a week.
    let start_ms = (now_ms() / DAY_MS - 1) * DAY_MS;
    fill(&engine, start_ms).await;
    let queries = Queries::new(store);
    let at_ms = start_ms + 15 * 3_600_000 + 1_234_000;
    let range = Some(AskedRange {
        start_ms: Some(at_ms),
        end_ms: Some(at_ms + 30_000),
        last_ms: None,
    });
    let now_ms = start_ms + HOURS * 3_600_000 + 60_000;
    let top = |group_by, metric| TopQuery {
        hosts: Vec::new(),
        metric,
        limit: 5,
        group_by,
        range,
        last_intervals: 0,
        name_contains: String::new(),
    };
    let mut told = Vec::new();
    for group_by in [GroupBy::Process, GroupBy::Command, GroupBy::Host] {
        for metric in [Metric::Cpu, Metric::PeakMemory] {
            let query = top(group_by, metric);
            let rows = reads(&engine, queries.top(&query, now_ms)).await;
            told.push((format!("top by {group_by:?} of {metric:?}"), rows));
        }
    }
    let history = |process_id: &str, name: &str| HistoryQuery {
        process_id: process_id.to_owned(),
        host: if name.is_empty() {
            String::new()
        } else {
            "h".to_owned()
        },
        name: name.to_owned(),
        range,
        step_ms: 1_000,
    };
    for query in [
        history("00000001-0000-0000-0000-000000000000", ""),
        history("", "n1"),
    ] {
        let rows = reads(&engine, queries.history(&query, now_ms)).await;
        told.push((
            format!("history of `{}` `{}`", query.process_id, query.name),
            rows,
        ));
    }
    let groups = GroupsQuery {
        base: "n".to_owned(),
        range,
        ..GroupsQuery::default()
    };
    told.push((
        "groups".to_owned(),
        reads(&engine, queries.groups(&groups, now_ms)).await,
    ));
    let exits = ExitsQuery {
        range,
        ..ExitsQuery::default()
    };
    told.push((
        "exits".to_owned(),
        reads(&engine, queries.exits(&exits, now_ms)).await,
    ));
    told.push((
        "hosts".to_owned(),
        reads(&engine, queries.hosts(range, now_ms)).await,
    ));
    let audit = AuditQuery {
        hosts: Vec::new(),
        range,
    };
    told.push((
        "audit".to_owned(),
        reads(&engine, queries.audit(&audit, now_ms)).await,
    ));
    let all = u64::try_from(HOURS * 3_600 * PROCESSES).unwrap();
    for (question, rows) in &told {
        println!("{question}: {rows} rows of {all}");
    }
    for (question, rows) in told {
        // One of 22, for each statement that a question takes.
        assert!(
            rows > 0 && rows < all / 4 * 3,
            "{question} reads {rows} rows of {all}"
        );
    }
}

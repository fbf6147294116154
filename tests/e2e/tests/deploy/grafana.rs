//! The dashboard: Grafana's conventions hold, and each of its queries, with the plugin's macros expanded as the plugin
//! does, answers what it should on the real engine with our schema.

use std::{fs, sync::OnceLock};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    store::{READER, Store},
    tools::{deploy, yaml},
};

const PLUGIN: &str = "grafana-clickhouse-datasource";
/// The process whose history is asked for; it is the one that uses most.
const HOG: &str = "00000000-0000-0000-0000-000000000003";
/// Seconds of the range that is looked at.
const RANGE_S: i64 = 600;
/// Seconds after its start in which our host was silent.
const SILENT: std::ops::Range<i64> = 200..300;

/// Start of the range: fresh enough to be kept by every table, and a round number, so that buckets are whole.
fn start() -> i64 {
    static START: OnceLock<i64> = OnceLock::new();
    *START.get_or_init(|| (Timestamp::now().as_second() / RANGE_S - 2) * RANGE_S)
}

fn dashboard() -> Value {
    let text = fs::read_to_string(deploy("grafana/dashboards").join("procscope-processes.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The panel of a title, and the answer to its query as lines of cells under a line of names.
fn answer(store: &Store, dashboard: &Value, title: &str) -> Vec<Vec<String>> {
    let panel = list(dashboard, "/panels")
        .iter()
        .find(|panel| panel["title"] == title)
        .unwrap();
    let sql = expand(panel["targets"][0]["rawSql"].as_str().unwrap());
    let text = store.read(&format!("{sql}\nFORMAT TSVWithNames"));
    text.lines()
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

/// Expands variables as Grafana does and macros as the plugin does.
fn expand(sql: &str) -> String {
    let (start, end) = (start(), start() + RANGE_S);
    let mut sql = sql
        .replace("${host:sqlstring}", "'it''s','other'")
        .replace("${process:sqlstring}", &format!("'{HOG}'"))
        .replace("${sampling_s}", "1")
        .replace("$__interval_s", "2")
        .replace("$__fromTime", &format!("toDateTime({start})"))
        .replace("$__toTime", &format!("toDateTime({end})"));
    while let Some(at) = sql.find("$__timeFilter(") {
        let close = at + sql[at..].find(')').unwrap();
        let column = &sql[at + "$__timeFilter(".len()..close];
        let filter = format!("{column} >= toDateTime({start}) AND {column} <= toDateTime({end})");
        sql.replace_range(at..=close, &filter);
    }
    assert!(
        !sql.contains('$'),
        "a variable or macro that this test does not know: {sql}"
    );
    sql
}

/// Two hosts, three processes, a row a second: process N uses N x 100 ms of CPU in each and holds N MB.
fn fill(store: &Store) {
    let start = start();
    store.write(&format!(
        "INSERT INTO host_samples (agent_id, epoch, seq, host, boot_id, time, interval_ns, source, samples, cpus,
            wall_ns, residual_ns, lost_events, kernel_ppm)
        SELECT toUUID('00000000-0000-0000-0000-000000000001'), 1, number, 'it\\'s', generateUUIDv4(),
            fromUnixTimestamp64Milli(toInt64(({start} + number) * 1000 + 500)), 1000000000, 'ebpf', 3, 2,
            2000000000, 2000000, 0, if(number % 2 = 0, 300, 500)
        FROM numbers(600) WHERE number NOT BETWEEN {} AND {}",
        SILENT.start,
        SILENT.end - 1
    ));
    store.write(
        "INSERT INTO process_samples (agent_id, epoch, seq, host, time, interval_ns, process_id, pid, start_time, name,
            cpu_time_ns_delta, rss_bytes, peak_rss_bytes, threads, runqueue_ns_delta, voluntary_switches_delta,
            involuntary_switches_delta, source)
        SELECT agent_id, 1, seq, host, time, interval_ns,
            toUUID(concat('00000000-0000-0000-0000-00000000000', toString(nr))), nr, time, concat('p', toString(nr)),
            nr * 100000000, nr * 1000000, nr * 1000000, 1, 50000000, 5, 6, 'ebpf'
        FROM host_samples CROSS JOIN (SELECT number + 1 AS nr FROM numbers(3)) AS processes",
    );
    store.write(&format!(
        "INSERT INTO processes (host, time, process_id, pid, name, exe)
        SELECT 'it\\'s', toDateTime64({start}, 3), toUUID('{HOG}'), 3, 'p3', '/usr/bin/p3'"
    ));
}

#[test]
fn the_dashboard_speaks_to_the_official_plugin_through_its_variable() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "procscope-processes");
    let mut ids = Vec::new();
    for panel in list(&dashboard, "/panels") {
        ids.push(panel["id"].as_u64().unwrap());
        assert!(
            panel["type"] == "row" || panel["targets"].is_array(),
            "{}",
            panel["title"]
        );
        for target in list(panel, "/targets") {
            assert_eq!(target["datasource"]["type"], PLUGIN);
            assert_eq!(target["datasource"]["uid"], "${datasource}");
            assert_eq!(target["editorType"], "sql");
            let series = panel["type"] == "timeseries";
            let format = if series { "timeseries" } else { "table" };
            assert_eq!(target["queryType"], format, "{}", panel["title"]);
            assert_eq!(target["format"], u8::from(!series), "{}", panel["title"]);
            if series {
                assert_eq!(
                    panel["fieldConfig"]["defaults"]["custom"]["spanNulls"], false,
                    "a gap is a gap"
                );
            }
        }
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "two panels have one id");
}

#[test]
fn the_provisioned_data_source_and_folder_are_the_ones_the_dashboard_needs() {
    let read =
        |file: &str| yaml(&fs::read_to_string(deploy("grafana/provisioning").join(file)).unwrap()).remove(0);
    let source = &read("datasources/procscope.yaml")["datasources"][0];
    assert_eq!(source["type"], PLUGIN);
    assert_eq!(source["jsonData"]["protocol"], "http");
    assert_eq!(source["jsonData"]["port"], 8123);
    assert_eq!(source["jsonData"]["username"], READER);
    let password = source["secureJsonData"]["password"].as_str().unwrap();
    assert!(
        password.starts_with('$'),
        "the password comes from Grafana's environment"
    );
    let provider = &read("dashboards/procscope.yaml")["providers"][0];
    assert_eq!(provider["type"], "file");
    assert!(provider["options"]["path"].is_string());
}

#[test]
fn every_query_of_the_dashboard_answers_on_the_engine() {
    let store = Store::start();
    store.migrate();
    let dashboard = dashboard();

    // Before the first sample: nothing, but no error either.
    for panel in list(&dashboard, "/panels")
        .iter()
        .filter(|panel| panel["type"] != "row")
    {
        answer(&store, &dashboard, panel["title"].as_str().unwrap());
    }
    fill(&store);

    let mut variables = Vec::new();
    for variable in list(&dashboard, "/templating/list")
        .iter()
        .filter(|variable| variable["type"] == "query")
    {
        variables.push(store.read(&expand(variable["query"].as_str().unwrap())));
    }
    assert_eq!(variables[0].trim(), "it\\'s", "hosts");
    assert!(
        variables[1].starts_with(&format!("{HOG}\tp3 3 on it")),
        "the greatest first: {}",
        variables[1]
    );
    assert_eq!(variables[2].trim(), "1", "seconds between samples");

    let cell = |title: &str| answer(&store, &dashboard, title)[1][0].clone();
    assert_eq!(cell("Hosts"), "1");
    assert!(cell("Coverage").starts_with("0.8333"), "500 s of 600 s");
    assert_eq!(cell("CPU time not explained"), "0.001");
    assert_eq!(cell("Cost of measuring"), "0.0004");
    assert_eq!(cell("Lost"), "0");

    let commands = answer(&store, &dashboard, "Top commands");
    assert_eq!(commands.len(), 4);
    assert_eq!(
        &commands[1],
        &["p3", "1", "1", "30", "150", "3000000", "3000000", "25"]
    );
    let processes = answer(&store, &dashboard, "Top processes");
    assert_eq!(processes.len(), 4);
    assert_eq!(
        (&*processes[1][0], &*processes[1][4], &*processes[1][8]),
        ("p3", "30", HOG)
    );
    assert_eq!(answer(&store, &dashboard, "Which")[1][4], "/usr/bin/p3");
    // A name and a value for each of three commands, every two seconds but the silent ones.
    assert_eq!(answer(&store, &dashboard, "Top commands: CPU").len(), 1 + 3 * 250);

    for (title, value) in [
        ("CPU", "30"),
        ("Memory", "3000000"),
        ("Waiting for a CPU", "0.05"),
        ("Context switches", "5"),
    ] {
        let points = answer(&store, &dashboard, title);
        assert_eq!(
            points.len(),
            1 + 300,
            "{title}: one point every two seconds, seen or not"
        );
        let (gaps, seen): (Vec<_>, Vec<_>) = points[1..].iter().partition(|point| point[1] == "\\N");
        assert_eq!(gaps.len(), 50, "{title}: silence is no value");
        assert!(seen.iter().all(|point| point[1] == value), "{title}: {seen:?}");
    }
}

//! The dashboards: Grafana's conventions and types hold, and each query, with the plugin's macros expanded as the
//! plugin does, answers what it should on the real engine with our schema, from samples and from minutes.

#[path = "grafana/expand.rs"]
mod expand;
#[path = "grafana/rows.rs"]
mod rows;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::symlink,
    process::Command,
};

use serde_json::Value;

use self::{
    expand::{Range, Variables},
    rows::{HOG, fill},
};
use crate::{
    store::{READER, Store},
    tools::{cache, deploy, tool, yaml},
};

const PLUGIN: &str = "grafana-clickhouse-datasource";

/// All dashboards by uid, each as its text and as JSON.
fn dashboards() -> BTreeMap<String, (String, Value)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(deploy("grafana/dashboards")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let dashboard: Value = serde_json::from_str(&text).unwrap();
        let uid = dashboard["uid"].as_str().unwrap().to_owned();
        assert_eq!(
            path.file_stem().unwrap().to_str(),
            Some(&*uid),
            "a file has the name of its uid"
        );
        found.insert(uid, (text, dashboard));
    }
    found
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// A panel's answer as lines of cells under a line of names.
type Answer = Vec<Vec<String>>;

/// One dashboard as a person sees it: with the variables that it chose itself.
struct Shown<'a> {
    store: &'a Store,
    dashboard: &'a Value,
    variables: Variables,
}

impl<'a> Shown<'a> {
    fn new(store: &'a Store, dashboard: &'a Value, range: Range) -> Self {
        let mut variables = Variables::new(range);
        for variable in list(dashboard, "/templating/list") {
            let name = variable["name"].as_str().unwrap();
            match variable["type"].as_str().unwrap() {
                "query" => {
                    let sql = variables.expand(variable["query"].as_str().unwrap());
                    let answer = store.read(&format!("{sql}\nFORMAT TSV"));
                    let values = answer.lines().map(|line| line.split('\t').next().unwrap());
                    let all = variable["includeAll"] == true;
                    let values: Vec<&str> = values.take(if all { usize::MAX } else { 1 }).collect();
                    variables.set(name, &values);
                }
                "custom" => variables.set(name, &[variable["current"]["value"].as_str().unwrap()]),
                kind => assert_eq!(kind, "datasource"),
            }
        }
        Self {
            store,
            dashboard,
            variables,
        }
    }

    fn panels(&self) -> impl Iterator<Item = &'a Value> {
        list(self.dashboard, "/panels")
            .iter()
            .filter(|panel| panel["type"] != "row")
    }

    fn answer(&self, panel: &Value) -> Answer {
        let sql = self
            .variables
            .expand(panel["targets"][0]["rawSql"].as_str().unwrap());
        let text = self.store.read(&format!("{sql}\nFORMAT TSVWithNames"));
        let answer: Answer = text
            .lines()
            .map(|line| line.split('\t').map(str::to_owned).collect())
            .collect();
        assert!(
            answer.iter().all(|line| line.len() == answer[0].len()),
            "{}: {text}",
            panel["title"]
        );
        answer
    }

    fn of(&self, title: &str) -> Answer {
        self.answer(self.panels().find(|panel| panel["title"] == title).unwrap())
    }

    /// The only cell of a figure.
    fn figure(&self, title: &str) -> f64 {
        let answer = self.of(title);
        assert_eq!((answer.len(), answer[1].len()), (2, 1), "{title}: {answer:?}");
        answer[1][0].parse().unwrap()
    }

    /// A column of the first row.
    fn first(&self, title: &str, column: &str) -> String {
        let answer = self.of(title);
        let at = answer[0].iter().position(|name| name == column).unwrap();
        answer[1][at].clone()
    }
}

fn near(got: f64, expected: f64, what: &str) {
    assert!(
        (got - expected).abs() <= 1e-6 * expected.abs().max(1.0),
        "{what}: {got} is not {expected}"
    );
}

#[test]
fn dashboards_speak_to_the_official_plugin_through_their_variable() {
    for (uid, (_, dashboard)) in dashboards() {
        let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
        for panel in list(&dashboard, "/panels") {
            let what = format!("{uid}: {}", panel["title"]);
            assert!(
                ids.insert(panel["id"].as_u64().unwrap()),
                "{what}: two panels have one id"
            );
            assert!(panel["type"] == "row" || panel["targets"].is_array(), "{what}");
            assert!(
                panel["type"] == "row" || panel["description"].is_string(),
                "{what}: it says what it shows"
            );
            let title = panel["title"].as_str().unwrap().to_owned();
            assert!(titles.insert(title), "{what}: two panels have one title");
            for target in list(panel, "/targets") {
                assert_eq!(target["datasource"]["type"], PLUGIN);
                assert_eq!(target["datasource"]["uid"], "${datasource}");
                assert_eq!(target["editorType"], "sql");
                let series = panel["type"] == "timeseries";
                let format = if series { "timeseries" } else { "table" };
                assert_eq!(target["queryType"], format, "{what}");
                assert_eq!(target["format"], u8::from(!series), "{what}");
                if series {
                    assert_eq!(
                        panel["fieldConfig"]["defaults"]["custom"]["spanNulls"], false,
                        "{what}: a gap is a gap"
                    );
                }
            }
        }
    }
}

#[test]
fn panels_lie_side_by_side() {
    for (uid, (_, dashboard)) in dashboards() {
        let mut taken = BTreeSet::new();
        for panel in list(&dashboard, "/panels") {
            let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{uid}: {}", panel["title"]);
            for cell in
                (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
            {
                assert!(taken.insert(cell), "{uid}: {} lies over another", panel["title"]);
            }
        }
    }
}

#[test]
fn links_lead_to_dashboards_and_variables_that_are_there() {
    let dashboards = dashboards();
    let mut links = 0;
    for (uid, (text, dashboard)) in &dashboards {
        assert_eq!(dashboard["links"][0]["tags"][0], "procscope", "{uid}");
        assert_eq!(dashboard["tags"][0], "procscope", "{uid}");
        for part in text.split("\"/d/").skip(1) {
            links += 1;
            let link = &part[..part.find('"').unwrap()];
            let (target, query) = link.split_once('?').unwrap();
            let (_, target) = dashboards
                .get(target)
                .unwrap_or_else(|| panic!("{uid}: nothing is at {target}"));
            for variable in query.split('&').filter_map(|pair| pair.strip_prefix("var-")) {
                let name = variable.split('=').next().unwrap();
                assert!(
                    list(target, "/templating/list")
                        .iter()
                        .any(|variable| variable["name"] == name),
                    "{uid}: {link}: no variable {name}"
                );
            }
        }
    }
    assert!(links >= 5, "each list of hosts or processes leads on");
}

#[test]
fn dashboards_are_what_the_types_of_grafana_say() {
    let folder = tempfile::tempdir().unwrap();
    let modules = cache().join("npm/node_modules");
    assert!(
        modules.join("@grafana/schema").is_dir(),
        "@grafana/schema is not installed: run `cargo xtask setup --tests`"
    );
    symlink(&modules, folder.path().join("node_modules")).unwrap();
    let types = include_str!("grafana/types.ts");
    let check = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(
            &file,
            format!("{types}\nexport const dashboard: Checked = {text};\n"),
        )
        .unwrap();
        let mut compile = Command::new(tool("node"));
        compile
            .arg(modules.join("typescript/bin/tsc"))
            .args([
                "--noEmit",
                "--strict",
                "--skipLibCheck",
                "--module",
                "esnext",
                "--target",
                "es2022",
            ])
            .args(["--moduleResolution", "bundler"])
            .arg(&file)
            .current_dir(folder.path());
        let output = compile.output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    for (uid, (text, _)) in dashboards() {
        let (good, said) = check(&format!("{uid}.ts"), &text);
        assert!(good, "{uid}: {said}");
        if uid == "procscope-fleet" {
            let (good, _) = check("wrong.ts", &text.replace("\"absolute\"", "\"absolutely\""));
            assert!(!good, "the types notice what is no value of theirs");
        }
    }
}

#[test]
fn the_provisioned_data_source_and_folder_are_the_ones_the_dashboards_need() {
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
fn every_query_answers_on_the_engine_from_samples_and_from_minutes() {
    let store = Store::start();
    store.migrate();
    let dashboards = dashboards();
    // Before the first sample: nothing, but no error either.
    for (_, dashboard) in dashboards.values() {
        for range in [Range::samples(), Range::minutes()] {
            let shown = Shown::new(&store, dashboard, range);
            for panel in shown.panels() {
                shown.answer(panel);
            }
        }
    }
    fill(&store);
    for (uid, (_, dashboard)) in &dashboards {
        for range in [Range::samples(), Range::minutes()] {
            let shown = Shown::new(&store, dashboard, range);
            for panel in shown.panels() {
                let what = format!("{uid}, {} over {} s", panel["title"], range.seconds());
                let answer = shown.answer(panel);
                assert!(answer.len() > 1, "{what}: no row");
                if panel["type"] == "timeseries" {
                    gaps_are_gaps(&answer, range, &what);
                }
            }
        }
    }
    for range in [Range::samples(), Range::minutes()] {
        let board = |uid: &str| Shown::new(&store, &dashboards[uid].1, range);
        let (fleet, host, process) = (
            board("procscope-fleet"),
            board("procscope-host"),
            board("procscope-process"),
        );
        let (exits, audit) = (board("procscope-exits"), board("procscope-audit"));
        figures(&fleet, &host, &process, range);
        figures_of_ends_and_cost(&exits, &audit, range);
    }
}

/// In the silent part of the range nothing is drawn, but that nothing was seen.
fn gaps_are_gaps(answer: &Answer, range: Range, what: &str) {
    let mut points = 0;
    for line in &answer[1..] {
        let second = range.second(&line[0]);
        let values: Vec<&String> = line[1..]
            .iter()
            .filter(|cell| cell.parse::<f64>().is_ok())
            .collect();
        if range.is_silent(second) {
            assert!(
                values
                    .iter()
                    .all(|value| *value == "0" && what.contains("Coverage")),
                "{what}: {line:?} in the silence"
            );
            points += 1;
        }
    }
    assert!(
        points > 0,
        "{what}: the silence has points of its own, without a value"
    );
    let seen = |line: &&Vec<String>| line[1..].iter().any(|cell| cell.parse::<f64>().is_ok());
    assert!(
        answer[1..].iter().filter(seen).count() > 3,
        "{what}: {:?}",
        &answer[..3]
    );
}

fn figures(fleet: &Shown<'_>, host: &Shown<'_>, process: &Shown<'_>, range: Range) {
    near(fleet.figure("Hosts"), 1.0, "hosts");
    near(fleet.figure("CPU in use"), 0.4, "0.8 s of each 2 s");
    near(fleet.figure("Memory in use"), 0.25, "2 of 8 GiB");
    near(fleet.figure("Coverage"), range.coverage(), "coverage");
    near(fleet.figure("Lost"), range.lost(), "lost");
    let commands = fleet.of("Commands");
    assert_eq!(commands.len(), 1 + 3, "{commands:?}");
    // Process N uses N x 100 ms in each second, holds N MB, waits 50 ms and reads and writes 1 kB each.
    let seen = range.seen_s();
    let row: Vec<f64> = commands[1][1..]
        .iter()
        .map(|cell| cell.parse().unwrap())
        .collect();
    assert_eq!(commands[1][0], "p3");
    for (got, expected) in row
        .iter()
        .zip([1.0, 1.0, 30.0, 0.3 * seen, 3e6, 3e6, 0.05 * seen, 2_000.0 * seen])
    {
        near(*got, expected, "p3");
    }
    assert_eq!(fleet.first("Users", "User id"), "1003");
    assert_eq!(fleet.first("Containers", "Container"), "c3");
    assert_eq!(fleet.first("All hosts", "Host"), "it\\'s");
    for (shown, title, value) in [
        (host, "CPU", 30.0),
        (host, "Memory", 2.0 * 1024.0 * 1024.0 * 1024.0),
        (process, "CPU", 30.0),
        (process, "Memory", 3e6),
        (process, "Waiting for a CPU", 0.05),
        (process, "Context switches", 5.0),
        (process, "Disk", 1_000.0),
        (process, "Page faults", 7.0),
    ] {
        let answer = shown.of(title);
        let values = answer[1..].iter().filter_map(|line| line[1].parse::<f64>().ok());
        for got in values {
            near(got, value, title);
        }
    }
    assert_eq!(host.first("Processes", "Process"), HOG);
    assert_eq!(process.first("Which", "Executable"), "/usr/bin/p3");
    assert_eq!(process.first("Its end", "Code"), "0");
}

fn figures_of_ends_and_cost(exits: &Shown<'_>, audit: &Shown<'_>, range: Range) {
    // One end in each second that was seen, every other one by the OOM killer; and that of the hog.
    let seen = range.seen_s();
    near(exits.figure("Ended"), seen + 1.0, "ended");
    near(exits.figure("Short-lived"), seen, "short-lived");
    near(exits.figure("Ended badly"), seen / 2.0, "badly");
    near(exits.figure("Killed for memory"), seen / 2.0, "killed");
    near(
        exits.figure("CPU of short lives"),
        0.004 / 0.6,
        "4 ms of each 600 ms",
    );
    assert_eq!(exits.first("Commands", "Command"), "short");
    near(audit.figure("CPU time not explained"), 0.001, "2 ms of each 2 s");
    near(audit.figure("Cost in the kernel"), 0.0004, "400 ppm");
    near(audit.figure("CPU of an agent"), 0.01, "10 ms of each second");
    near(audit.figure("Memory of an agent"), 2e7, "20 MB");
    let programs = audit.of("Programs in the kernel");
    assert_eq!(programs[1][0], "sched_switch");
    for (got, expected) in programs[1][1..].iter().zip([1_000.0, 50.0, 0.005]) {
        near(got.parse().unwrap(), expected, "runs, time of one, CPU");
    }
}

//! The client as a program: commands, exit codes, the shapes of its answers, and what hostile names cannot do.

use std::process::Output;

use serde_json::Value;

use crate::collector::{BOOT_ID, Collector, HOSTILE, client, text};

pub(crate) const ALL: [&[&str]; 6] = [
    &["top", "--once"],
    &["history", "nginx", "--host", "web-1"],
    &["groups", "nginx"],
    &["exits"],
    &["hosts"],
    &["audit"],
];

/// The answer of a command that must succeed.
fn good(collector: &Collector, arguments: &[&str]) -> String {
    let output = collector.run(arguments);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{arguments:?}: {}",
        text(&output.stderr)
    );
    assert!(
        output.stderr.is_empty(),
        "{arguments:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// The one line that a command says when it does not succeed.
pub(crate) fn failure(output: &Output, code: i32) -> String {
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{line}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    assert!(
        line.starts_with("procscope: error: ") && line.lines().count() == 1,
        "{line}"
    );
    assert!(!line.trim_end().contains(char::is_control), "{line:?}");
    line
}

fn json(collector: &Collector, arguments: &[&str]) -> Value {
    let answer = good(collector, &[arguments, &["--json"]].concat());
    assert_eq!(answer.lines().count(), 1, "one object, one line");
    serde_json::from_str(&answer).unwrap()
}

fn csv(collector: &Collector, arguments: &[&str]) -> Vec<std::collections::BTreeMap<String, String>> {
    let answer = good(collector, &[arguments, &["--csv"]].concat());
    let rows: Result<Vec<_>, _> = csv::Reader::from_reader(answer.as_bytes())
        .into_deserialize()
        .collect();
    rows.unwrap()
}

#[test]
fn top_prints_an_aligned_table_under_what_it_covers() {
    let expected = "\
top by CPU per process · 2026-01-31 12:00:00 - 12:00:10 UTC (10.0 s) · hosts =evil\\x1b[2J\\x07\\x0a\\u{202e}\\x9b\",, web-1
coverage 95.0 % (ebpf)
coverage 95.0 %: 1.00 s of 20.0 s of host time was not observed · lost: map_full 7
  PID  USER     CPU%    CPU-TIME       RSS      PEAK  THR  WAIT%  NAME                  COMMAND
  101  33       80.0  213503d23h  12.5 MiB  16.0 MiB    2    5.0  nginx                 nginx --all
  102  33       20.0  213503d23h  12.5 MiB  16.0 MiB    2    5.0  =evil\\x1b[2J\\x07\\x0…  =evil\\x1b[2J\\x07\\x0a\\u{202e}\\x9…
  103  33       <0.1  213503d23h         -  16.0 MiB    -    5.0  †sleep                sleep --all
† ended within this time
";
    let collector = Collector::start();
    let said = good(&collector, &["top", "--once"]);
    let (age, table): (Vec<&str>, Vec<&str>) =
        said.lines().partition(|line| line.starts_with("newest data is "));
    assert_eq!(table.join("\n") + "\n", expected);
    // It is of a day long ago.
    assert!(
        age.len() == 1 && age[0].ends_with(" old: is the agent running?"),
        "{said}"
    );
    let of_a_range = good(&collector, &["top", "--since", "1h"]);
    assert!(!of_a_range.contains("newest data"), "{of_a_range}");
}

#[test]
fn a_filter_that_nothing_matches_hides_no_host() {
    let table = good(&Collector::start(), &["top", "--once", "--filter", "nothing"]);
    assert!(
        table.contains("hosts =evil\\x1b[2J\\x07\\x0a\\u{202e}\\x9b\",, web-1"),
        "{table}"
    );
    assert!(
        table.ends_with("nothing with \"nothing\" in its name ran in this time\n"),
        "{table}"
    );
}

#[test]
fn the_hosts_of_a_heading_are_those_asked_about() {
    let collector = Collector::start();
    for command in [&["top", "--once"][..], &["groups", "nginx"], &["exits"]] {
        let table = good(&collector, &[command, &["--host", "web-1"]].concat());
        assert!(table.contains(" · host web-1"), "{table}");
    }
}

#[test]
fn a_group_is_asked_for_by_begin_expression_or_its_configured_name() {
    let collector = Collector::start();
    let heads = [
        (&["groups", "ngi"][..], "group ngi*"),
        (&["groups", "--regex", "^n"], "group /^n/"),
        (&["groups", "--group", "web"], "group web"),
    ];
    for (command, head) in heads {
        let table = good(&collector, command);
        assert!(table.starts_with(head), "{table}");
    }
    let asked = collector.asked.lock().unwrap();
    let asked = asked.groups.iter();
    let asked: Vec<_> = asked
        .map(|asked| [&*asked.base, &*asked.regex, &*asked.group])
        .collect();
    assert_eq!(asked, [["ngi", "", ""], ["", "^n", ""], ["", "", "web"]]);
}

#[test]
fn top_asks_what_the_arguments_say() {
    let collector = Collector::start();
    good(
        &collector,
        &[
            "top",
            "--once",
            "--by",
            "container",
            "--sort",
            "peak",
            "--filter",
            "NG",
            "--limit",
            "7",
            "--host",
            "a",
            "--host",
            "b",
            "--intervals",
            "3",
        ],
    );
    good(
        &collector,
        &["top", "--since", "2026-01-31T10:00:00Z", "--until", "1769857200"],
    );
    good(&collector, &["top", "--once"]);
    let asked = collector.asked.lock().unwrap();
    let [first, second, third] = asked.top.as_slice() else {
        panic!("{:?}", asked.top)
    };
    assert_eq!(
        (first.group_by, first.metric, first.limit, first.last_intervals),
        (3, 3, 7, 3)
    );
    assert_eq!(
        (first.hosts.as_slice(), first.name_contains.as_str()),
        (["a", "b"].map(str::to_owned).as_slice(), "NG")
    );
    let range = second.range.unwrap();
    assert_eq!(
        (range.start.unwrap().seconds, range.end.unwrap().seconds),
        (1_769_853_600, 1_769_857_200)
    );
    assert_eq!(second.last_intervals, 0);
    assert_eq!(
        (third.group_by, third.metric, third.limit, third.last_intervals),
        (1, 1, 20, 10)
    );
    assert_eq!(third.range, None);
}

#[test]
fn json_is_exact() {
    let collector = Collector::start();
    let top = json(&collector, &["top", "--once"]);
    assert_eq!(
        (&top["metric"], &top["group_by"]),
        (&"cpu".into(), &"process".into())
    );
    assert_eq!(
        (&top["start"], &top["end"]),
        (&"2026-01-31T12:00:00Z".into(), &"2026-01-31T12:00:10Z".into())
    );
    assert_eq!(top["coverage"]["share"], 0.95);
    assert_eq!(top["coverage"]["losses"][0]["count"], 7);
    assert_eq!(top["processes"][0]["cpu_time_ns"].as_u64(), Some(u64::MAX));
    assert_eq!(top["processes"][0]["hosts"][0], "web-1");
    assert_eq!(top["processes"][1]["name"], HOSTILE);
    assert_eq!(top["processes"][2]["rss_bytes"], Value::Null);
    assert_eq!(top["processes"][2]["exited"], true);
    let history = json(&collector, ALL[1]);
    assert_eq!(
        (&history["step_ms"], &history["name"]),
        (&5000.into(), &"nginx".into())
    );
    assert_eq!(
        (&history["points"][1]["gap"], &history["points"][1]["cpu_seconds"]),
        (&true.into(), &Value::Null)
    );
    let groups = json(&collector, ALL[2]);
    assert_eq!(
        (&groups["total"]["avg_num_procs"], &groups["members"][0]["pid"]),
        (&2.0.into(), &101.into())
    );
    let exits = json(&collector, ALL[3]);
    assert_eq!(
        (&exits["total"], exits["exits"].as_array().unwrap().len()),
        (&4.into(), 4)
    );
    assert_eq!(
        (
            &exits["exits"][1]["exit_signal"],
            &exits["exits"][0]["exit_signal"]
        ),
        (&9.into(), &Value::Null)
    );
    let hosts = json(&collector, ALL[4]);
    assert_eq!(
        (
            &hosts["hosts"][0]["memory_total_bytes"],
            &hosts["hosts"][1]["agents"]
        ),
        (&(1_u64 << 34).into(), &2.into())
    );
    let audit = json(&collector, ALL[5]);
    assert_eq!(
        (&audit["rows"][0]["residual_ns"], &audit["rows"][0]["irq_ns"]),
        (&(-10_000_000).into(), &Value::Null)
    );
    let cost = &audit["rows"][0];
    assert_eq!(
        (
            &cost["kernel_percent"],
            &cost["kernel_budget_ppm"],
            &cost["attach_ns"]
        ),
        (&0.065.into(), &1_000.into(), &Value::Null)
    );
    assert_eq!(cost["programs"][0]["name"], HOSTILE);
    assert_eq!(
        (&exits["exits"][0]["source"], &exits["exits"][1]["source"]),
        (&"ebpf".into(), &"proc".into())
    );
    assert_eq!(
        (
            &exits["exits"][0]["disk_read_bytes"],
            &exits["exits"][0]["disk_written_bytes"]
        ),
        (&0.into(), &Value::Null),
        "nothing read is not the same as not known"
    );
    assert_eq!(
        (&top["processes"][0]["source"], &top["processes"][0]["state"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn csv_has_a_named_cell_for_everything_and_no_formula() {
    let collector = Collector::start();
    let top = csv(&collector, &["top", "--once"]);
    assert_eq!(top[0]["cpu_time_ns"], u64::MAX.to_string());
    assert_eq!(
        (top[0]["start"].as_str(), top[0]["coverage_losses"].as_str()),
        ("2026-01-31T12:00:00Z", "map_full=7")
    );
    assert_eq!(top[1]["name"], "'=evil\\x1b[2J\\x07\\x0a\\u{202e}\\x9b\",");
    assert_eq!(top[2]["rss_bytes"], "");
    let audit = &csv(&collector, ALL[5])[0];
    assert_eq!(audit["residual_ns"], "-10000000");
    assert_eq!(
        (audit["kernel_ppm"].as_str(), audit["agent_max_drain_ns"].as_str()),
        ("650", "")
    );
    assert!(audit["programs"].ends_with("=100=20000"), "{}", audit["programs"]);
    assert_eq!(csv(&collector, ALL[4])[0]["coverage_share"], "0.95");
    assert_eq!(csv(&collector, ALL[2])[0]["total_avg_num_procs"], "2");
}

#[test]
fn no_command_lets_a_hostile_name_reach_the_terminal() {
    let collector = Collector::start();
    for command in ALL {
        for format in [&["--json"][..], &["--csv"], &[]] {
            let answer = good(&collector, &[command, format].concat());
            let obeyed = |c: char| (c.is_control() && c != '\n' && c != '\r') || c == '\u{202e}';
            assert!(!answer.contains(obeyed), "{command:?} {format:?}: {answer:?}");
        }
    }
}

#[test]
fn tables_fit_and_say_what_was_lost() {
    let collector = Collector::start();
    for command in ALL {
        let table = good(&collector, command);
        assert!(table.contains("map_full 7"), "{table}");
        assert!(table.contains("2026-01-31 12:00:00 - 12:00:10 UTC"), "{table}");
        assert!(table.lines().all(|line| line.chars().count() <= 120), "{table}");
    }
}

#[test]
fn exits_are_fetched_page_by_page_up_to_the_limit() {
    let collector = Collector::start();
    let table = good(
        &collector,
        &[
            "exits",
            "--failed",
            "--max-lifetime",
            "100ms",
            "--name",
            "true",
            "--limit",
            "3",
        ],
    );
    assert!(
        table.ends_with("the newest 3 of 4: more with --limit\n"),
        "{table}"
    );
    assert!(table.contains("SIGKILL"), "{table}");
    let asked = collector.asked.lock().unwrap();
    let [first, second] = asked.exits.as_slice() else {
        panic!("{:?}", asked.exits)
    };
    assert_eq!(
        (first.failed, first.max_lifetime_ns, first.name.as_str()),
        (true, 100_000_000, "true")
    );
    assert_eq!((first.page_token.as_str(), second.page_token.as_str()), ("", "2"));
}

#[test]
fn a_history_needs_one_host_and_says_which_there_are() {
    let collector = Collector::start();
    let line = failure(&collector.run(&["history", "nginx"]), 2);
    assert!(line.contains("web-1") && line.contains("--host"), "{line}");
    failure(
        &collector.run(&["history", "nginx", "--host", "a", "--host", "b"]),
        2,
    );
    let line = failure(&collector.run(&["history", "--process-id", "nosuch"]), 1);
    assert!(line.contains("no process of this id"), "{line}");
    let line = failure(&collector.run(&["history", "nginx", "--host", "nosuch"]), 1);
    assert!(
        line.starts_with("procscope: error: no host `nosuch` is known (asked the collector at http://"),
        "{line}"
    );
    good(&collector, &["history", "--process-id", "id-101", "--step", "5s"]);
    assert_eq!(collector.asked.lock().unwrap().history[0].step_ms, 5_000);
}

#[test]
fn who_a_process_is_stands_in_every_answer() {
    let collector = Collector::start();
    let by_id = ["history", "--process-id", "id-101"];
    let top = json(&collector, ALL[0]);
    let exits = json(&collector, ALL[3]);
    let history = json(&collector, &by_id);
    for (process, start_boottime_ns) in [
        (&top["processes"][0], 101),
        (&exits["exits"][2], 3),
        (&history, 101),
    ] {
        assert_eq!(
            (&process["boot_id"], &process["start_boottime_ns"]),
            (&BOOT_ID.into(), &start_boottime_ns.into()),
            "{process}"
        );
        assert_eq!(process["parent_start_boottime_ns"], Value::Null);
    }
    assert_eq!(top["processes"][0]["exec_generation"], 3);
    assert_eq!(
        (&history["name"], &history["host"]),
        (&HOSTILE.into(), &"web-1".into())
    );
    let of_a_name = json(&collector, ALL[1]);
    assert_eq!(
        (&of_a_name["boot_id"], &of_a_name["pid"]),
        (&Value::Null, &Value::Null)
    );

    assert_eq!(
        history["points"][0]["runqueue_wait_counts"],
        serde_json::json!([5, 0, 1])
    );
    assert_eq!(history["points"][1]["runqueue_wait_counts"], Value::Null);
    let points = csv(&collector, &by_id);
    assert_eq!(
        (
            &*points[0]["runqueue_wait_counts"],
            &*points[1]["runqueue_wait_counts"]
        ),
        ("5;0;1", "")
    );
    assert_eq!(points[1]["boot_id"], BOOT_ID);
}

#[test]
fn the_token_is_shown_to_the_collector_and_to_nobody_else() {
    let collector = Collector::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    let mode =
        |mode| std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    let arguments = ["hosts", "--token-file", file.to_str().unwrap()];
    mode(0o644);
    assert!(!failure(&collector.run(&arguments), 2).contains("s3cret"));
    mode(0o600);
    good(&collector, &arguments);
    assert_eq!(
        collector.asked.lock().unwrap().tokens,
        [Some("Bearer s3cret".to_owned())]
    );
}

#[test]
fn the_server_comes_from_the_environment_or_the_file() {
    let collector = Collector::start();
    let output = client()
        .env("PROCSCOPE_SERVER", &collector.url)
        .arg("hosts")
        .output()
        .unwrap();
    assert!(output.status.success());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("procscope.toml");
    std::fs::write(&file, format!("server = \"{}\"", collector.url)).unwrap();
    let output = client().args(["hosts", "--config"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let collector = Collector::start();
    let mut child = client()
        .args(["--server", &collector.url, "exits", "--json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), text(&output.stderr).as_str()),
        (Some(0), "")
    );
}

#[test]
fn without_a_terminal_top_prints_once() {
    assert!(good(&Collector::start(), &["top"]).starts_with("top by CPU per process"));
}

#[test]
fn completions_are_a_script_that_the_shell_takes() {
    let output = client().args(["completions", "bash"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("procscope.bash");
    std::fs::write(&script, &output.stdout).unwrap();
    let words = "COMP_WORDS=(procscope history --st); COMP_CWORD=2; _procscope procscope --st history; \
         echo \"${COMPREPLY[@]}\"";
    let mut bash = std::process::Command::new("bash");
    let asked = bash
        .args(["-c", &format!("source {}; {words}", script.display())])
        .output()
        .unwrap();
    assert_eq!(text(&asked.stdout).trim(), "--step", "{}", text(&asked.stderr));
    let wrong = client().args(["completions", "nosuch"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

//! A sample in, a figure out: known programs, and what `procscope` answers about them.

#![allow(
    clippy::print_stdout,
    reason = "the figures are for the people who read the run"
)]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use procscope_tests_e2e::{Stack, alone, binary, now_ms, rest, time_ms};
use procscope_tests_kernel::{
    Program, cpu_of_all_threads_ns, hidden_processes, process_clock_ns, status_bytes, wait_until, within,
};
use serde_json::Value;

const MIB: u64 = 1 << 20;

fn load(arguments: &str) -> Result<Program> {
    Program::start(
        &binary("procscope-tests-kernel")?.display().to_string(),
        arguments,
    )
}

/// The row of a process in `top --once`.
fn row(stack: &Stack, pid: u32, options: &str) -> Result<Option<Value>> {
    let top = stack.json(&format!("top --once --limit 1000 {options}"))?;
    let rows = top["processes"].as_array().context("processes[]")?;
    Ok(rows.iter().find(|row| row["pid"] == pid).cloned())
}

fn exit_of(stack: &Stack, pid: u32) -> Result<Value> {
    let mut found = None;
    wait_until("the exit is stored", 20, || {
        let exits = stack.json("exits --since 10m --limit 10000").ok();
        let rows = exits.as_ref().and_then(|exits| exits["exits"].as_array());
        found = rows.and_then(|rows| rows.iter().find(|row| row["pid"] == pid).cloned());
        found.is_some()
    })?;
    found.context("just found")
}

/// A hog for ten seconds: first in the table, right while it runs and at its end.
fn check_hog(threads: u64) -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::start()?;
    let program = load(&format!("burn 10000 {threads}"))?;
    let pid = program.pid();
    // Its own clock, read all the while, to be held against the row of the same moment.
    let mut clock: Vec<(i64, u64)> = Vec::new();
    let mut first = None;
    let deadline = Instant::now() + Duration::from_mins(2);
    let mut checked = 0;
    let mut next_question = Instant::now();
    while first.is_none() || checked < 3 {
        ensure!(
            Instant::now() < deadline,
            "two minutes were not enough: {first:?}, {checked} rows"
        );
        clock.push((now_ms(), process_clock_ns(pid)?));
        let used = clock.last().map_or(0, |(_, used)| *used);
        if used > 6_000_000_000 * threads && first.is_none() {
            // Not what the engine used to begin.
            first = Some(stack.json("top --once --since 4s")?["processes"][0].clone());
        }
        // Questions are rare, so that answering them is not what uses most.
        if Instant::now() < next_question {
            rest();
            continue;
        }
        next_question = Instant::now() + Duration::from_secs(1);
        if let Some(row) = row(&stack, pid, "")? {
            let at = time_ms(&row["last_time"])?;
            let stored = row["cpu_time_ns"].as_u64().context("cpu_time_ns")?;
            // The two readings of its own clock around the row's instant.
            if let Some(pair) = clock.windows(2).find(|pair| pair[0].0 <= at && at <= pair[1].0)
                && stored > 1_000_000_000
            {
                let low = pair[0].1 - pair[0].1 / 100;
                let high = pair[1].1 + pair[1].1 / 100;
                ensure!(
                    (low..=high).contains(&stored),
                    "{stored} is not within 1 % of {pair:?}"
                );
                checked += 1;
            }
        }
        rest();
    }
    let first = first.context("it has burnt for 5 s")?;
    ensure!(first["pid"] == pid, "first in the table is {first}");
    let exit = exit_of(&stack, pid)?;
    let (_status, used) = program.wait4()?;
    let told = exit["cpu_time_ns"].as_u64().context("cpu_time_ns")?;
    println!(
        "{threads} threads: {checked} rows within 1 % of its clock; exit row {told} ns, wait4 {used} ns"
    );
    within("CPU time of the exit row", told, used, 10)?;
    ensure!(exit["exit_code"] == 0 && exit["exit_signal"].is_null(), "{exit}");
    ensure!(stack.stop()? == [Some(0), Some(0), Some(0)], "{}", stack.logs());
    Ok(())
}

#[test]
fn a_hog_stands_first_and_its_time_is_right_while_it_runs_and_at_its_end() -> Result<()> {
    check_hog(1)
}

#[test]
fn a_hog_with_two_threads_on_two_cpus_is_one_row() -> Result<()> {
    check_hog(2)
}

#[test]
fn memory_and_its_peak_are_what_the_process_itself_shows() -> Result<()> {
    let _alone = alone();
    let stack = Stack::start()?;
    let mut keeps = load("touch 300 keep")?;
    let mut frees = load("touch 300 free")?;
    for program in [&mut keeps, &mut frees] {
        program.hear("ready")?;
        program.go_on()?;
        program.hear("touched")?;
    }
    // The newest row of a process, once it shows what is waited for: a sample may be taken in
    // the middle of touching or of giving back.
    let row_of = |pid, shows: fn(f64, u64) -> bool| -> Result<Value> {
        let mut found = Value::Null;
        wait_until("the row shows it", 20, || {
            found = row(&stack, pid, "--sort peak").ok().flatten().unwrap_or_default();
            found["peak_memory_mb"]
                .as_f64()
                .zip(found["rss_bytes"].as_u64())
                .is_some_and(|(peak_mb, rss)| shows(peak_mb, rss))
        })
        .with_context(|| found.to_string())?;
        Ok(found)
    };
    row_of(keeps.pid(), |peak_mb, rss| peak_mb > 297.0 && rss > 297 * MIB)?;
    let history = stack.sql(&format!(
        "SELECT rss_bytes, peak_rss_bytes FROM process_samples WHERE pid = {} ORDER BY time DESC LIMIT 1",
        keeps.pid()
    ))?;
    let (rss, peak) = history.split_once('\t').context("two columns")?;
    within("resident", rss.parse()?, status_bytes(keeps.pid(), "VmRSS")?, 10)?;
    within("peak", peak.parse()?, status_bytes(keeps.pid(), "VmHWM")?, 10)?;
    let released = row_of(frees.pid(), |peak_mb, rss| peak_mb > 297.0 && rss < 20 * MIB)?;
    println!("kept: rss {rss} peak {peak}; freed: {released}");
    Ok(())
}

#[test]
fn two_thousand_short_lives_are_in_the_exits_with_their_codes_and_their_sum() -> Result<()> {
    const RUNS: usize = 2_000;
    let _alone = alone();
    let stack = Stack::start()?;
    let mut program = load(&format!("spawn {RUNS} /bin/true"))?;
    let shell = program.pid();
    let children_ns = program.hear("children_cpu_ns")?;
    exit_of(&stack, shell)?;
    let exits = stack.json("exits --name true --since 10m --limit 100000")?;
    let rows = exits["exits"].as_array().context("exits[]")?;
    let told: Vec<&Value> = rows.iter().filter(|row| row["parent_pid"] == shell).collect();
    ensure!(
        told.len() * 1000 >= RUNS * 999 && told.len() <= RUNS,
        "{} of {RUNS}",
        told.len()
    );
    ensure!(told.iter().all(|row| row["exit_code"] == 0));
    let sum: u64 = told.iter().filter_map(|row| row["cpu_time_ns"].as_u64()).sum();
    println!(
        "{} of {RUNS} exits, sum {sum} ns, getrusage {children_ns} ns",
        told.len()
    );
    within("CPU time of all", sum, children_ns, 20)
}

/// A minute of everything: the books, and how soon a sample can be asked for.
#[test]
fn over_a_minute_of_mixed_load_the_books_balance_and_samples_come_soon() -> Result<()> {
    let _alone = alone();
    let stack = Stack::start()?;
    // A few intervals, so that whatever the agent can see is stored.
    stack.wait_for_intervals(4)?;
    let seen = stack.sql("SELECT DISTINCT pid FROM process_samples")?;
    let hidden = hidden_processes(|pid| seen.lines().any(|line| line == pid.to_string()))?;
    let start = Instant::now();
    let began = stack.sql("SELECT toString(max(time)) FROM host_samples")?;
    let hidden_before = cpu_of_all_threads_ns(&hidden);
    let mut loads = Vec::new();
    let mut newest = String::new();
    let mut lags = Vec::new();
    while start.elapsed() < Duration::from_mins(1) {
        if loads.len() < 6 && start.elapsed() > Duration::from_secs(8) * u32::try_from(loads.len())? {
            let kind = [
                "burn 6000 1",
                "spawn 400 /bin/true",
                "threads 200 10",
                "burn 3000 2",
                "touch 100 free",
                "spawn 200 /bin/true",
            ];
            let mut program = load(kind[loads.len()])?;
            if kind[loads.len()].starts_with("touch") {
                program.hear("ready")?;
                program.go_on()?;
            }
            loads.push(program);
        }
        let time = stack.sql("SELECT toString(toUnixTimestamp64Milli(max(time))) FROM host_samples")?;
        if time != newest {
            if !newest.is_empty() {
                lags.push(now_ms() - time.parse::<i64>()?);
            }
            newest = time;
        }
        rest();
    }
    let hidden_ns = cpu_of_all_threads_ns(&hidden)
        .saturating_sub(hidden_before)
        .cast_signed();
    drop(loads);
    lags.sort_unstable();
    let p99 = lags[(lags.len() * 99).div_ceil(100) - 1];
    let books = stack.sql(&format!(
        "SELECT sum(wall_ns), sum(residual_ns), sum(lost_events) FROM host_samples WHERE time > '{began}'"
    ))?;
    let mut sums = books.split('\t').map(str::parse::<i64>);
    let (wall, residual, lost) = (
        sums.next().context("wall")??,
        sums.next().context("residual")??,
        sums.next().context("lost")??,
    );
    println!(
        "{} intervals, lag p50 {} ms p99 {p99} ms",
        lags.len(),
        lags[lags.len() / 2]
    );
    println!(
        "wall {wall} ns, residual {residual} ns, of it {hidden_ns} ns by what this kernel hides; lost {lost}"
    );
    ensure!(lags.len() >= 50, "only {} intervals were seen", lags.len());
    ensure!(p99 <= 3_000, "a sample came {p99} ms after its interval");
    ensure!(
        (residual - hidden_ns).unsigned_abs() * 200 < wall.unsigned_abs(),
        "the residual is over 0.5 %"
    );
    ensure!(lost == 0, "{lost} events were lost");
    // The same books through the client.
    let audit = stack.json("audit --since 30s")?;
    let row = &audit["rows"][0];
    let known: f64 = [
        "process_ns",
        "kthread_ns",
        "idle_ns",
        "iowait_ns",
        "irq_ns",
        "softirq_ns",
        "steal_ns",
    ]
    .iter()
    .filter_map(|part| row[part].as_f64())
    .sum();
    let (wall, residual) = (
        row["wall_ns"].as_f64().context("wall_ns")?,
        row["residual_ns"].as_f64().context("residual_ns")?,
    );
    ensure!((known + residual - wall).abs() < 1_000.0, "{row}");
    ensure!(
        row["agent_cpu_time_ns"].as_u64() > Some(0) && row["agent_max_drain_ns"].as_u64() > Some(0),
        "what measuring cost is part of the books: {row}"
    );
    // Where the time went within a process is a part of the same books.
    let split = stack.sql(
        "SELECT countIf(user_time_ns_delta + system_time_ns_delta != cpu_time_ns_delta),
            countIf(user_time_ns_delta > 0 AND read_bytes_delta IS NOT NULL AND rss_anon_bytes > 0) FROM process_samples",
    )?;
    let (wrong, told) = split.trim().split_once('\t').context("two counts")?;
    ensure!(
        wrong == "0" && told != "0",
        "user + system time is no CPU time in {wrong} rows; {told} rows tell what a process did"
    );
    Ok(())
}

#[test]
fn the_agent_costs_next_to_nothing_and_its_rows_say_so() -> Result<()> {
    let _alone = alone();
    let stack = Stack::start()?;
    // The first intervals are those in which names are learnt and the connection is made.
    stack.wait_for_intervals(5)?;
    let since = stack.sql("SELECT toString(max(time)) FROM host_samples")?;
    stack.wait_for_intervals(25)?;
    let pid = stack.agent.as_ref().context("it runs")?.pid();
    let used = stack.sql(&format!(
        "SELECT sum(cpu_time_ns_delta) / sum(interval_ns) * 100, max(rss_bytes) FROM process_samples \
         WHERE pid = {pid} AND time > '{since}'"
    ))?;
    let (percent, rss) = used.split_once('\t').context("two columns")?;
    println!("agent: {percent} % of one CPU, {rss} bytes resident");
    ensure!(
        percent.parse::<f64>()? <= 0.5,
        "the agent uses {percent} % of a CPU"
    );
    ensure!(
        rss.parse::<u64>()? <= 40 * MIB,
        "the agent has {rss} bytes resident"
    );
    let told = stack.sql(&format!(
        "SELECT sum(agent_cpu_time_ns_delta) = (SELECT sum(cpu_time_ns_delta) FROM process_samples WHERE pid = {pid} \
         AND time > '{since}'), max(agent_rss_bytes) > 0 FROM host_samples WHERE time > '{since}'"
    ))?;
    ensure!(told == "1\t1", "host rows and process rows differ: {told}");
    Ok(())
}

#[test]
fn every_command_answers_as_table_json_and_csv() -> Result<()> {
    let _alone = alone();
    let stack = Stack::start()?;
    let _burner = load("burn 3000 1")?;
    stack.wait_for_intervals(4)?;
    let host = stack.sql("SELECT any(host) FROM host_samples")?;
    for command in [
        "top --once".to_owned(),
        "top --once --by command".to_owned(),
        format!("history procscope-agent --host {host} --since 1m"),
        "exits --since 10m".to_owned(),
        "hosts".to_owned(),
        "audit".to_owned(),
        "groups procscope".to_owned(),
    ] {
        for form in ["", " --json", " --csv"] {
            let output = stack.cli(&format!("{command}{form}"))?;
            ensure!(
                output.status.success() && !output.stdout.is_empty(),
                "{command}{form}: {} {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
            ensure!(
                !output.stdout.contains(&0x1b),
                "{command}{form} prints escape codes into a pipe"
            );
        }
    }
    Ok(())
}

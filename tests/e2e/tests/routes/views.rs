//! The same figures by SQL, as the user that may only read.

use anyhow::{Context as _, Result, ensure};
use procscope_tests_e2e::Stack;
use serde_json::{Value, json};

use super::{
    Asked, Covered, Subject, parts,
    told::{self, Fields, told},
};

/// The rows of a view: what it has in common with what gRPC tells is the same.
fn check_view(stack: &Stack, view: &str, key: &str, expected: &[Fields]) -> Result<()> {
    let rows = stack.rows(&format!("SELECT * FROM {view}"))?;
    ensure!(
        rows.len() == expected.len(),
        "{view}: {} rows, not {}",
        rows.len(),
        expected.len()
    );
    for row in rows {
        let row = told::columns(&row);
        let is_it = |expected: &&Fields| told(expected.get(key), &row[key]);
        let expected = expected
            .iter()
            .find(is_it)
            .with_context(|| format!("{view}: who is {row:?}"))?;
        for (name, cell) in &row {
            let known = match name.as_str() {
                "host" => expected.get("host").or_else(|| expected.get("hosts")),
                name => expected.get(name),
            };
            ensure!(
                told(known, cell),
                "{view}: {name} is {cell}, not {known:?}, of {row:?}"
            );
        }
    }
    Ok(())
}

/// Fields in nanoseconds or bytes under the names and in the units of a view.
fn renamed(row: &Fields, names: &[(&str, &str, f64)]) -> Fields {
    let mut row = row.clone();
    for (from, to, divisor) in names {
        if let Some(value) = row.get(*from).and_then(Value::as_f64) {
            row.insert((*to).to_owned(), (value / divisor).into());
        }
    }
    row
}

pub(crate) fn check(stack: &Stack, covered: &Covered, subject: &Subject, asked: &[Asked]) -> Result<()> {
    let range = format!("host = '{}', {}", subject.host, covered.sql());
    let rows = |at: usize| Ok::<_, anyhow::Error>(parts(&asked[at].grpc, asked[at].rows)?.0);
    let at = |what: &str| {
        asked
            .iter()
            .position(|asked| asked.what == what)
            .context("it was asked")
    };
    check_view(stack, &format!("top_processes({range})"), "process_id", &rows(0)?)?;
    check_view(stack, &format!("top_commands({range})"), "name", &rows(1)?)?;
    let exits: Vec<_> = rows(at("exits")?)?
        .iter()
        .map(|row| {
            let names = [
                ("lifetime_ns", "lifetime_seconds", 1e9),
                ("cpu_time_ns", "cpu_seconds", 1e9),
                ("peak_rss_bytes", "peak_memory_mb", 1_048_576.0),
            ];
            let mut row = renamed(row, &names);
            let bad = row.get("exit_code").is_some_and(|code| *code != 0) || row.contains_key("exit_signal");
            row.insert("failed".to_owned(), bad.into());
            row
        })
        .collect();
    check_view(stack, &format!("exited_processes({range})"), "process_id", &exits)?;
    let audit: Vec<_> = rows(at("audit")?)?
        .iter()
        .map(|row| {
            let names = [
                ("wall_ns", "wall_seconds", 1e9),
                ("process_ns", "process_seconds", 1e9),
                ("kthread_ns", "kernel_thread_seconds", 1e9),
                ("idle_ns", "idle_seconds", 1e9),
                ("iowait_ns", "iowait_seconds", 1e9),
                ("irq_ns", "irq_seconds", 1e9),
                ("softirq_ns", "softirq_seconds", 1e9),
                ("steal_ns", "steal_seconds", 1e9),
                ("residual_ns", "residual_seconds", 1e9),
                ("agent_cpu_time_ns", "agent_cpu_seconds", 1e9),
            ];
            renamed(row, &names)
        })
        .collect();
    check_view(stack, &format!("host_audit({range})"), "host", &audit)?;

    // An interval counts where it ends in a view: one step that has all of them is the row of the process in the top.
    let (id, step) = (&subject.process_id, u32::MAX);
    let view = format!(
        "process_history(process_id = '{id}', {}, step = {step})",
        covered.sql()
    );
    let of = stack.rows(&format!(
        "SELECT * EXCEPT (time, threads, avg_cpu_percent, avg_memory_mb) FROM {view}"
    ))?;
    let top = rows(0)?;
    let row = top
        .iter()
        .find(|row| row.get("process_id") == Some(&json!(id)))
        .context("it is in the top")?;
    ensure!(of.len() == 1, "{of:?}");
    for (name, cell) in told::columns(&of[0]) {
        let known = row.get(if name == "host" { "hosts" } else { &name });
        ensure!(told(known, &cell), "{view}: {name} is {cell}, not {known:?}");
    }
    Ok(())
}

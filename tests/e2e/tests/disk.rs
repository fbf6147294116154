//! Disks that are slow or fail, and kills amid a write, by a tracer that answers system calls in the kernel's place.
//! Nothing is measured, so tests run beside each other.

use anyhow::{Context as _, Result, ensure};
use procscope_tests_e2e::Stack;
use procscope_tests_kernel::wait_until;

/// Ten intervals a second, each on the disk before it is sent.
const SYNCED: [&str; 4] = ["--interval", "100ms", "--spool-sync", "each"];

/// An agent whose system calls of a kind are answered by `strace`.
fn under(inject: &str) -> String {
    // -D: the agent stays this program's child.
    format!("strace -D -f -qq -o /dev/null --seccomp-bpf -e {inject}")
}

fn figure(stack: &Stack, name: &str) -> u64 {
    stack.agent_figure(&format!("procscope_agent_{name}"))
}

/// A collector comes, and all that was measured is stored once.
fn check_all_arrives(stack: &mut Stack) -> Result<()> {
    stack.start_engine()?;
    stack.start_collector()?;
    let measured = figure(stack, "intervals_total");
    stack.wait_for_intervals(measured)?;
    let agent = stack.agent.take().context("it runs")?;
    ensure!(agent.end(libc::SIGTERM)? == Some(0), "{}", stack.logs());
    let stored = stack.check_stored_once()?;
    ensure!(stored >= measured, "{stored} of {measured}\n{}", stack.logs());
    Ok(())
}

#[test]
fn a_disk_that_takes_long_to_sync_holds_nothing_up() -> Result<()> {
    let mut stack = Stack::new()?;
    stack.agent_under = under("inject=fdatasync:delay_enter=200000");
    stack.start_agent_with(&SYNCED)?;
    wait_until("it measures", 60, || figure(&stack, "intervals_total") >= 100)
        .with_context(|| stack.logs())?;
    // Each sync takes as long as two intervals: they are fewer than what they put on the disk.
    let (syncs, intervals) = (
        figure(&stack, "spool_syncs_total"),
        figure(&stack, "intervals_total"),
    );
    ensure!(
        syncs > 5 && syncs < intervals,
        "{syncs} syncs of {intervals} intervals\n{}",
        stack.logs()
    );
    check_all_arrives(&mut stack)
}

#[test]
fn a_disk_that_fails_to_sync_loses_nothing() -> Result<()> {
    let mut stack = Stack::new()?;
    stack.agent_under = under("inject=fdatasync:error=EIO:when=3+7");
    stack.start_agent_with(&SYNCED)?;
    wait_until("it failed for some times", 60, || {
        figure(&stack, "spool_failures_total") >= 5
    })
    .with_context(|| stack.logs())?;
    check_all_arrives(&mut stack)
}

#[test]
fn a_kill_at_any_write_leaves_what_the_next_life_can_read() -> Result<()> {
    let mut stack = Stack::new()?;
    stack.start_engine()?;
    stack.start_collector()?;
    for write in [9, 14, 20, 27, 33, 38] {
        // Of all threads: the tracer counts each thread's calls, so whichever comes to it first dies with the others.
        stack.agent_under = under(&format!("inject=write:signal=KILL:when={write}"));
        stack.start_agent_with(&["--interval", "100ms"])?;
        let agent = stack.agent.take().context("it runs")?;
        let pid = agent.pid();
        wait_until("it was killed", 60, || is_dead(pid)).with_context(|| stack.logs())?;
        drop(agent);
    }
    stack.agent_under = String::new();
    stack.start_agent_with(&["--interval", "100ms"])?;
    wait_until("the backlog has gone", 60, || {
        figure(&stack, "intervals_total") > 10 && figure(&stack, "spool_segments") <= 1
    })
    .with_context(|| stack.logs())?;
    let agent = stack.agent.take().context("it runs")?;
    ensure!(agent.end(libc::SIGTERM)? == Some(0), "{}", stack.logs());
    let stored = stack.check_stored_once()?;
    let epochs: u64 = stack.sql_number("SELECT uniqExact(epoch) FROM host_samples")?;
    println!("{stored} snapshots of {epochs} lives");
    ensure!(epochs >= 7, "{epochs} lives\n{}", stack.logs());
    Ok(())
}

/// Whether a process has ended and waits for its parent, or has gone.
fn is_dead(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| {
        stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"))
    })
}

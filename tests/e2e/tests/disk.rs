//! Disks that are full, slow or fail, and kills amid a write; some by a tracer that answers system calls in the
//! kernel's place. No time is measured, so tests run beside each other.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use anyhow::{Context as _, Result, ensure};
use procscope_tests_e2e::Stack;
use procscope_tests_kernel::wait_until;

/// Ten intervals a second.
const QUICK: [&str; 2] = ["--interval", "100ms"];
/// The same, each on the disk before it is sent.
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
        stack.start_agent_with(&QUICK)?;
        let agent = stack.agent.take().context("it runs")?;
        let pid = agent.pid();
        wait_until("it was killed", 60, || is_dead(pid)).with_context(|| stack.logs())?;
        drop(agent);
    }
    stack.agent_under = String::new();
    stack.start_agent_with(&QUICK)?;
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

/// A small disk of its own under a folder, for as long as this lives.
struct SmallDisk(String);

impl SmallDisk {
    fn mount(folder: String, size: &str) -> Result<Self> {
        fs::create_dir(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "none", &folder])
            .status()
            .context("run mount")?;
        ensure!(mounted.success(), "mount a tmpfs on {folder}: {mounted}");
        Ok(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What still uses it keeps it.
        drop(Command::new("umount").args(["--lazy", &self.0]).status());
    }
}

#[test]
fn a_full_disk_costs_the_oldest_snapshots_and_each_of_them_is_stated() -> Result<()> {
    let mut stack = Stack::new()?;
    let _disk = SmallDisk::mount(stack.path("agent"), "400k")?;
    stack.start_agent_with(&QUICK)?;
    let failures = |stack: &Stack| stack.agent_figure("procscope_agent_spool_failures_total");
    wait_until("the disk is full", 120, || failures(&stack) > 0).with_context(|| stack.logs())?;
    let failed = stack.agent_figure("procscope_agent_spool_writes_total");
    wait_until("it was full for a while", 120, || {
        stack.agent_figure("procscope_agent_spool_writes_total") >= failed + 100
    })?;
    stack.start_engine()?;
    stack.start_collector()?;
    wait_until("the backlog is stored", 90, || {
        stack.agent_figure("procscope_agent_spool_segments") == 1 && stack.stored() > 20
    })
    .with_context(|| stack.logs())?;
    let measured = i64::try_from(stack.agent_figure("procscope_agent_intervals_total"))?;
    let agent = stack.agent.take().context("it runs")?;
    ensure!(agent.end(libc::SIGTERM)? == Some(0), "{}", stack.logs());
    let sums = stack.sql(
        "SELECT count() AS stored, stored - uniqExact(epoch, seq) AS twice, stored - uniqExact(time) AS twice_told, \
         sum(losses['spool_evicted']) AS evicted, sum(losses['spool_full']) AS refused, sum(losses['spool_corrupt']) AS \
         corrupt, stored + evicted + refused AS told FROM host_samples FORMAT JSONEachRow",
    )?;
    println!("{sums}");
    let sums: serde_json::Value = serde_json::from_str(&sums)?;
    let sum = |name: &str| sums[name].as_i64().or_else(|| sums[name].as_str()?.parse().ok());
    ensure!(
        sum("evicted") > Some(0),
        "nothing gave way: {sums}\n{}",
        stack.logs()
    );
    for none in ["twice", "twice_told", "corrupt"] {
        ensure!(sum(none) == Some(0), "{none}: {sums}\n{}", stack.logs());
    }
    // Between that figure and the end an interval may have passed, and the end is one.
    let told = sum("told").context("a sum")?;
    ensure!(
        (measured..=measured + 3).contains(&told),
        "{measured} were measured: {sums}\n{}",
        stack.logs()
    );
    Ok(())
}

#[test]
fn what_a_kill_takes_from_memory_on_a_full_disk_is_stated_by_the_next_life() -> Result<()> {
    let mut stack = Stack::new()?;
    let _disk = SmallDisk::mount(stack.path("agent"), "3m")?;
    stack.start_agent_with(&QUICK)?;
    wait_until("some is spooled", 60, || figure(&stack, "intervals_total") >= 50)?;
    // Somebody else takes what room there is.
    let ballast = stack.path("agent/ballast");
    drop(fs::write(&ballast, vec![0; 3 << 20]));
    wait_until("segments gave way", 60, || {
        figure(&stack, "spool_failures_total") > 0 && figure(&stack, "intervals_total") >= 80
    })
    .with_context(|| stack.logs())?;
    fs::remove_file(&ballast)?;
    let written = figure(&stack, "spool_writes_total");
    wait_until("the disk takes again", 60, || {
        figure(&stack, "spool_writes_total") >= written + 10
    })?;
    let first = figure(&stack, "intervals_total");
    stack.agent.take().context("it runs")?.end(libc::SIGKILL)?;
    stack.start_agent_with(&QUICK)?;
    stack.start_engine()?;
    stack.start_collector()?;
    wait_until("the backlog is stored", 90, || {
        stack.agent_figure("procscope_agent_spool_segments") == 1 && stack.stored() > 20
    })
    .with_context(|| stack.logs())?;
    let second = figure(&stack, "intervals_total");
    let agent = stack.agent.take().context("it runs")?;
    ensure!(agent.end(libc::SIGTERM)? == Some(0), "{}", stack.logs());
    let (told, lost, twice): (u64, u64, u64) = {
        let sums = stack.sql(
            "SELECT count() + sum(arraySum(mapValues(losses))) AS told, told - count(), count() - uniqExact(epoch, seq) \
             FROM host_samples",
        )?;
        let mut sums = sums.split('\t').map(str::parse);
        let mut next = || sums.next().context("three sums");
        (next()??, next()??, next()??)
    };
    println!("{first} and {second} measured: {told} told, of these {lost} lost");
    ensure!(twice == 0 && lost > 0, "{}", stack.logs());
    ensure!(
        (first + second..=first + second + 6).contains(&told),
        "{first} and {second} measured, {told} told\n{}",
        stack.logs()
    );
    Ok(())
}

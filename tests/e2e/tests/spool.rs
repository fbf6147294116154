//! Outages that outlast the agent: what was measured meanwhile is all there afterwards, once.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, time::Instant};

use anyhow::{Context as _, Result, ensure};
use procscope_tests_e2e::{Stack, alone, now_ms, rest};
use procscope_tests_kernel::wait_until;

/// Intervals in each of the three parts of the outage.
const PART: u64 = 200;
/// Ten intervals a second.
const INTERVAL: [&str; 2] = ["--interval", "100ms"];
/// Backlog that has to arrive for what is measured meanwhile.
const CATCH_UP: f64 = 5.0;
/// How old the newest row may be while the backlog arrives, in a build for development on a busy machine.
const NEWEST_AGE_MS: i64 = 5_000;

/// The interval of the outage as an option, and how many there are in a second: the long form has the usual one.
fn interval() -> ([&'static str; 2], f64) {
    if std::env::var_os("PROCSCOPE_LONG").is_some() {
        (["--interval", "1s"], 1.0)
    } else {
        (INTERVAL, 10.0)
    }
}

fn stored(stack: &Stack) -> u64 {
    stack.sql_number("SELECT count() FROM host_samples").unwrap_or(0)
}

#[test]
fn an_outage_with_two_restarts_of_the_agent_leaves_no_gap_and_doubles_nothing() -> Result<()> {
    let _alone = alone();
    let (interval, per_second) = interval();
    let mut stack = Stack::new()?;
    stack.start_engine()?;
    stack.start_collector()?;
    stack.start_agent_with(&interval)?;
    stack.wait_for_intervals(20)?;
    stack.collector.take().context("it runs")?.end(libc::SIGKILL)?;
    let known = stored(&stack);
    let spooled = |stack: &Stack| stack.agent_figure("procscope_agent_spool_writes_total");
    let base = spooled(&stack);
    for (part, signal) in [libc::SIGKILL, libc::SIGTERM].into_iter().enumerate() {
        let base = if part == 0 { base } else { 0 };
        wait_until("a part of the outage is spooled", 300, || {
            spooled(&stack) >= base + PART
        })?;
        let code = stack.agent.take().context("it runs")?.end(signal)?;
        ensure!(signal == libc::SIGKILL || code == Some(0), "{}", stack.logs());
        stack.start_agent_with(&interval)?;
    }
    wait_until("the last part is spooled", 300, || spooled(&stack) >= PART)?;

    stack.start_collector()?;
    wait_until("the newest is stored again", 60, || stored(&stack) > known).with_context(|| stack.logs())?;
    let (since, first) = (Instant::now(), stored(&stack));
    let mut oldest_newest = 0;
    let mut caught_up = None;
    while caught_up.is_none() && since.elapsed().as_secs() < 90 {
        let newest: i64 = stack.sql_number("SELECT toUnixTimestamp64Milli(max(time)) FROM host_samples")?;
        oldest_newest = oldest_newest.max(now_ms() - newest);
        if stack.agent_figure("procscope_agent_spool_segments") == 1 && stored(&stack) > known + 3 * PART {
            caught_up = Some(since.elapsed());
        }
        rest();
    }
    let caught_up = caught_up.with_context(|| format!("the backlog did not arrive\n{}", stack.logs()))?;
    let agent = stack.agent.take().context("it runs")?;
    ensure!(agent.end(libc::SIGTERM)? == Some(0), "{}", stack.logs());

    stack.check_stored_once()?;
    let epochs: u64 = stack.sql_number("SELECT uniqExact(epoch) FROM host_samples")?;
    ensure!(epochs == 4, "{epochs} epochs\n{}", stack.logs());
    // Each interval begins where the one before it has ended, but for the two restarts. Half an interval is allowed to
    // the reading of two clocks on a busy machine.
    let seams = stack.sql(
        "SELECT countIf(gap > 50), countIf(gap < -50) FROM (SELECT toUnixTimestamp64Milli(time) - interval_ns / 1e6 - \
         lagInFrame(toUnixTimestamp64Milli(time), 1) OVER (ORDER BY time ROWS BETWEEN UNBOUNDED PRECEDING AND \
         CURRENT ROW) AS gap, row_number() OVER (ORDER BY time) AS number FROM host_samples) WHERE number > 1",
    )?;
    ensure!(seams == "2\t0", "gaps and overlaps: {seams}\n{}", stack.logs());
    let backlog: u32 = u32::try_from(stored(&stack) - first)?;
    // What was measured meanwhile arrived, too.
    let rate = f64::from(backlog) / caught_up.as_secs_f64() - per_second;
    println!(
        "{backlog} intervals in {caught_up:.1?}: {:.1} x what is measured; the newest row was at most {oldest_newest} ms old",
        rate / per_second
    );
    ensure!(rate >= CATCH_UP * per_second, "{rate:.0} intervals a second");
    ensure!(
        oldest_newest < NEWEST_AGE_MS,
        "the newest row was {oldest_newest} ms old"
    );
    Ok(())
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
    let _alone = alone();
    let mut stack = Stack::new()?;
    let _disk = SmallDisk::mount(stack.path("agent"), "400k")?;
    stack.start_agent_with(&INTERVAL)?;
    let failures = |stack: &Stack| stack.agent_figure("procscope_agent_spool_failures_total");
    wait_until("the disk is full", 120, || failures(&stack) > 0).with_context(|| stack.logs())?;
    let failed = stack.agent_figure("procscope_agent_spool_writes_total");
    wait_until("it was full for a while", 120, || {
        stack.agent_figure("procscope_agent_spool_writes_total") >= failed + 100
    })?;
    stack.start_engine()?;
    stack.start_collector()?;
    wait_until("the backlog is stored", 90, || {
        stack.agent_figure("procscope_agent_spool_segments") == 1 && stored(&stack) > 20
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

//! Outages that outlast the agent: what was measured meanwhile is all there afterwards, once.

use std::time::Instant;

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
    let known = stack.stored();
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
    wait_until("the newest is stored again", 60, || stack.stored() > known).with_context(|| stack.logs())?;
    let (since, first) = (Instant::now(), stack.stored());
    let mut oldest_newest = 0;
    let mut caught_up = None;
    while caught_up.is_none() && since.elapsed().as_secs() < 90 {
        let newest: i64 = stack.sql_number("SELECT toUnixTimestamp64Milli(max(time)) FROM host_samples")?;
        oldest_newest = oldest_newest.max(now_ms() - newest);
        if stack.agent_figure("procscope_agent_spool_segments") == 1 && stack.stored() > known + 3 * PART {
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
    let backlog: u32 = u32::try_from(stack.stored() - first)?;
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

//! Storms: more lives than anybody could sample, for as long as it takes to see that nothing grows and nothing is
//! lost in silence.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use procscope_proto::v1;
use procscope_tests_kernel::{
    Program, Watch, alone,
    group::Group,
    report::{self, figure, milliseconds, off_by_at_most, percent},
    status_bytes,
};

const LOAD: &str = env!("CARGO_BIN_EXE_procscope-tests-kernel");

/// Sums, in parts per million.
const SUM_PPM: u64 = 5_000;
/// The agent's memory may grow by this much after the first quarter of a storm, in bytes.
const GROWTH_MAX: u64 = 16 << 20;

/// How long each storm lasts.
fn long() -> Duration {
    report::seconds(10, 60)
}

/// What was told of the children of one process.
#[derive(Default)]
struct Told {
    children: u64,
    sum_ns: u64,
    parent_ended: bool,
}

impl Told {
    fn add(&mut self, parent: u32, snapshot: &v1::Snapshot) {
        for exit in &snapshot.exits {
            let is_child = exit.parent_pid == parent;
            if is_child || exit.pid == parent {
                self.sum_ns += exit.cpu_time_ns;
            }
            self.children += u64::from(is_child);
            self.parent_ended |= exit.pid == parent;
        }
    }
}

/// Watches a storm of children that one process makes.
fn check_storm(kind: &str) -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    watch.forgets = true;
    let mut group = Group::new()?;
    let time = long();
    let mut program = group.start(LOAD, &format!("{kind} {}", time.as_millis()))?;
    let parent = program.pid();
    let start = std::time::Instant::now();
    let mut told = Told::default();
    let (mut rss_then, mut rss_most) = (0, 0);
    while !told.parent_ended {
        told.add(parent, watch.next_interval()?);
        // This process is the agent here.
        let rss = status_bytes(std::process::id(), "VmRSS")?;
        if start.elapsed() < time / 4 {
            rss_then = rss_then.max(rss);
        } else {
            rss_most = rss_most.max(rss);
        }
    }
    let children = program.hear("children")?;
    let lost = watch.sums().lost_events;
    let rate = u128::from(children) * 1_000 / time.as_millis();
    figure(
        &format!("{kind}: children that were told, {rate} a second"),
        "the parent's own count",
        &format!("{} of {children}, {lost} events lost and counted", told.children),
        "all, or counted as lost",
    )?;
    figure(
        &format!("{kind}: the agent's memory"),
        "/proc/PID/status",
        &format!("{} KiB, then {} KiB at most", rss_then >> 10, rss_most >> 10),
        &format!("grows by {} KiB at most", GROWTH_MAX >> 10),
    )?;
    ensure!(
        told.children <= children,
        "{} of {children} were told",
        told.children
    );
    ensure!(
        told.children + lost >= children,
        "{} of {children} were told, and only {lost} losses counted",
        told.children
    );
    ensure!(
        rss_most <= rss_then + GROWTH_MAX,
        "the agent grew from {rss_then} to {rss_most}"
    );
    // A machine that is busy otherwise may not let the agent drain in time: what is missing then is counted.
    ensure!(
        lost * 10 < children,
        "{lost} events of {children} children were lost"
    );
    off_by_at_most(
        &format!("{kind}: sum of {children} children and their parent"),
        "control group",
        told.sum_ns,
        group.usage_ns()?,
        SUM_PPM + report::ppm(lost, children),
    )
}

#[test]
fn a_fork_storm_is_told_to_the_last_child() -> Result<()> {
    check_storm("fork-storm")
}

#[test]
fn a_vfork_storm_is_told_to_the_last_child() -> Result<()> {
    check_storm("vfork-storm")
}

/// Everything at once, and the agent comes when it is under way.
#[test]
fn an_agent_that_starts_in_the_middle_of_it_all_shows_no_past_and_misses_nothing_after() -> Result<()> {
    let _alone = alone();
    let mut storm = Program::start(LOAD, "fork-storm 4000")?;
    let mut others = ["burn 1500 2", "threads 300 5", "exec-chain 200 5", "phases 20 20"]
        .into_iter()
        .map(|arguments| Program::start(LOAD, arguments))
        .collect::<Result<Vec<_>>>()?;
    let pids: Vec<u32> = others.iter().map(Program::pid).collect();
    // Each has a past of half of its life.
    for pid in &pids {
        procscope_tests_kernel::wait_until("it has a past", 60, || {
            procscope_tests_kernel::process_clock_ns(*pid).is_ok_and(|used| used > 300_000_000)
        })?;
    }
    let past: Vec<u64> = pids
        .iter()
        .map(|pid| procscope_tests_kernel::process_clock_ns(*pid).unwrap_or(0))
        .collect();
    // Every tick holds each row against the length of its interval.
    let mut watch = Watch::start()?;
    let books = watch.open_books()?;
    while storm.is_running() || others.iter_mut().any(Program::is_running) {
        watch.next_interval()?;
    }
    watch.tick()?;
    let balance = watch.close_books(&books)?;
    let mut shown_sum = 0;
    for (pid, past) in pids.iter().zip(past) {
        let total = watch.exit_of(*pid)?.cpu_time_ns;
        let shown: u64 = watch
            .samples(*pid)
            .iter()
            .map(|sample| sample.cpu_time_ns_delta)
            .sum();
        ensure!(
            shown <= total - past,
            "process {pid}: intervals show {shown} ns, but only {} were used since",
            total - past
        );
        shown_sum += shown;
    }
    figure(
        "agent started in the middle of a storm: use from before it that an interval shows",
        "each process's own clock",
        &format!("none, {} since", milliseconds(shown_sum)),
        "none",
    )?;
    figure(
        "left over after it started there",
        "CPUs x `CLOCK_MONOTONIC_RAW`",
        &percent(balance.unexplained_ppm()),
        "0.5 %",
    )?;
    ensure!(balance.unexplained_ppm() <= 5_000, "{balance:?}");
    Ok(())
}

/// Sets `pid_max` to what it was.
struct PidMax(String);

impl PidMax {
    const FILE: &str = "/proc/sys/kernel/pid_max";

    fn set(value: u32) -> Result<Self> {
        let before = fs::read_to_string(Self::FILE)?;
        fs::write(Self::FILE, value.to_string()).context("raise pid_max")?;
        Ok(Self(before))
    }
}

impl Drop for PidMax {
    fn drop(&mut self) {
        drop(fs::write(Self::FILE, self.0.trim()));
    }
}

/// Two threads whose numbers differ by the number of slots run at the same time, and others at the far end.
#[test]
fn numbers_up_to_four_million_are_as_exact_and_shared_slots_are_counted() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    // The first namespace's own: numbers of the others are these as well.
    let _restored = PidMax::set(4_194_304)?;
    let numbers: [u32; 4] = [1_000_100, 1_000_100 + 32_768, 4_194_300, 2_500_000];
    let programs = numbers
        .iter()
        .map(|number| Ok((*number, Program::start(LOAD, &format!("numbered {number} 400"))?)))
        .collect::<Result<Vec<_>>>()?;
    let mut worst = 0;
    for (number, mut program) in programs {
        let told = watch.exit_of(number)?.cpu_time_ns;
        watch.exit_of(program.pid())?;
        let used = program.hear("children_cpu_ns")?;
        worst = worst.max(report::ppm(told.abs_diff(used), used));
    }
    let shared = watch.losses("slot_collision");
    figure(
        &format!("burners with numbers up to 4,194,300 ({shared} slots were shared)"),
        "wait4",
        &format!("{} at most", percent(worst)),
        "1 %",
    )?;
    ensure!(worst <= 10_000, "{} off", percent(worst));
    ensure!(shared > 0, "no slot was shared, so nothing was tested");
    ensure!(watch.losses("lost_end") == 0 && watch.losses("ring_full") == 0);
    Ok(())
}

//! The traps that the kernel has ready for whoever counts what processes use. docs/accuracy.md lists them all; those
//! that are not here are in the files of what they concern.

use std::{collections::HashSet, fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use procscope_proto::v1;
use procscope_tests_kernel::{
    Program, Watch, alone,
    group::Group,
    report::{self, figure, milliseconds, off_by_at_most, percent},
};

const LOAD: &str = env!("CARGO_BIN_EXE_procscope-tests-kernel");

#[test]
fn a_number_used_again_inside_one_interval_is_as_many_processes() -> Result<()> {
    const LIVES: usize = 300;
    let _alone = alone();
    let mut watch = Watch::start()?;
    let mut group = Group::new()?;
    let mut program = group.start(LOAD, &format!("reuse {LIVES} /bin/true"))?;
    let parent = program.pid();
    // Nobody looks before all of them are gone: one interval.
    while program.is_running() {
        std::thread::yield_now();
    }
    let number = u32::try_from(program.hear("pid")?)?;
    watch.tick()?;
    let first = watch.exits().filter(|exit| exit.pid == number).count();
    watch.exit_of(parent)?;
    let lives: Vec<_> = watch.exits().filter(|exit| exit.pid == number).collect();
    let identities: HashSet<_> = lives.iter().map(|exit| &exit.process_id).collect();
    figure(
        &format!(
            "lives with one number inside one interval (all but {} by its end)",
            LIVES - first
        ),
        "the parent's own count",
        &format!("{} of {LIVES}, {} identities", lives.len(), identities.len()),
        &format!("{LIVES}"),
    )?;
    ensure!(lives.len() == LIVES && identities.len() == LIVES);
    ensure!(first >= LIVES - 2, "{first} of {LIVES} in their interval");
    let sum = watch.family(parent).map(|exit| exit.cpu_time_ns).sum();
    off_by_at_most(
        &format!("sum of {LIVES} lives with one number"),
        "control group",
        sum,
        group.usage_ns()?,
        5_000,
    )
}

#[test]
fn a_thousand_threads_that_exit_during_drains_make_no_spike() -> Result<()> {
    const THREADS: u64 = 1_000;
    let _alone = alone();
    let mut watch = Watch::start()?;
    let mut group = Group::new()?;
    let mut program = group.start(LOAD, &format!("thread-swarm {THREADS} 1000"))?;
    let pid = program.pid();
    // They burn while the agent looks; each then waits for all others.
    watch.until("all threads wait", 60, |watch| {
        watch.newest(pid).is_ok_and(|sample| {
            u64::from(sample.threads) == THREADS + 1 && sample.cpu_time_ns >= THREADS * 1_000_000
        })
    })?;
    program.hear("ready")?;
    let before = watch.newest(pid)?.cpu_time_ns;
    program.go_on()?;
    // One drain after the other while they end: some end before, some behind the walk.
    let mut drains = 0;
    let mut most = 0;
    let mut seen = HashSet::new();
    loop {
        // The tick itself fails when a process shows more than its interval x CPUs.
        let snapshot = watch.tick()?;
        let interval = snapshot.interval_ns;
        let sample = snapshot.samples.iter().find(|sample| sample.pid == pid);
        let sample = sample.context("it lives until it is told to end")?;
        drains += 1;
        most = most.max(report::ppm(sample.cpu_time_ns_delta, interval));
        seen.insert(sample.threads);
        if sample.threads == 1 {
            break;
        }
    }
    program.hear("ended")?;
    program.go_on()?;
    let exit = watch.exit_of(pid)?;
    println!("{drains} drains saw {seen:?} threads; {most} ppm of a CPU at most");
    figure(
        &format!(
            "1,000 threads that exit during {} drains: use shown for their end",
            seen.len()
        ),
        "interval x CPUs",
        &format!(
            "{} of {} in all",
            milliseconds(exit.cpu_time_ns - before),
            milliseconds(exit.cpu_time_ns)
        ),
        "no interval above it",
    )?;
    off_by_at_most(
        "the process of 1,000 threads",
        "control group",
        exit.cpu_time_ns,
        group.usage_ns()?,
        10_000,
    )
}

/// Threads that the agent knows burn, and end while the buffer is full: nobody tells their end. What they used
/// belongs into the long interval in which they did.
#[test]
fn threads_whose_end_was_lost_make_no_spike() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let mut program = Program::start(LOAD, "thread-swarm 50 40000")?;
    let pid = program.pid();
    watch.until("all threads are known", 30, |watch| {
        watch.newest(pid).is_ok_and(|sample| sample.threads == 51)
    })?;
    // Nobody drains meanwhile.
    let (_status, _used) = Program::start(LOAD, "spawn 7000 /bin/true")?.wait4()?;
    program.hear("ready")?;
    program.go_on()?;
    program.hear("ended")?;
    // Each tick holds the row against the length of its interval.
    for _interval in 0..8 {
        watch.next_interval()?;
    }
    ensure!(
        watch.losses("ring_full") > 0,
        "nothing was lost, so nothing was tested"
    );
    let total = watch.newest(pid)?.cpu_time_ns;
    ensure!(total >= 2_000_000_000, "{total} ns in all");
    program.go_on()
}

#[test]
fn a_number_of_a_pid_namespace_is_told_although_it_is_gone_when_the_process_is() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let script = format!("{LOAD} exit 3; {LOAD} exit 4; true");
    let program = Program::spawn(Command::new("unshare").args(["--pid", "--fork", "sh", "-c", &script]))?;
    watch.exit_of(program.pid())?;
    let mut told: Vec<_> = watch
        .family(program.pid())
        .filter(|exit| exit.exe.ends_with("procscope-tests-kernel"))
        .map(|exit| (exit.exit_code, exit.namespace_pid))
        .collect();
    told.sort_unstable();
    ensure!(
        told == [(Some(3), Some(2)), (Some(4), Some(3))],
        "codes and numbers: {told:?}"
    );
    Ok(())
}

#[test]
fn user_and_system_time_never_fall_and_always_add_up() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    // The ratio of ticks swings while it changes sides; every tick of the watch checks that parts make the sum.
    let program = Program::start(LOAD, "phases 12 40")?;
    let pid = program.pid();
    let exit = watch.exit_of(pid)?;
    let sum = |part: fn(&v1::ProcessSample) -> Option<u64>| -> u64 {
        watch.samples(pid).into_iter().filter_map(part).sum()
    };
    let (user, system) = (
        sum(|sample| sample.user_time_ns_delta),
        sum(|sample| sample.system_time_ns_delta),
    );
    ensure!(
        (Some(user), Some(system)) == (exit.user_time_ns, exit.system_time_ns),
        "{user} and {system}: {exit:?}"
    );
    ensure!(user + system == exit.cpu_time_ns, "{exit:?}");
    let share = report::ppm(system, user + system);
    figure(
        "system time of a process that is half in the kernel, half outside (by ticks)",
        "its own loop",
        &percent(share),
        "20 to 80 %",
    )?;
    ensure!((200_000..=800_000).contains(&share), "{exit:?}");
    Ok(())
}

#[test]
fn only_programs_that_every_kernel_allows_are_attached() -> Result<()> {
    let _alone = alone();
    let before = programs()?;
    let watch = Watch::start()?;
    let ours: Vec<_> = programs()?.difference(&before).cloned().collect();
    drop(watch);
    // Neither kprobes, which some kernels lack, nor others that need more than the two capabilities.
    ensure!(!ours.is_empty(), "no program was attached");
    ensure!(ours.iter().all(|(_id, kind)| kind == "tracing"), "{ours:?}");
    Ok(())
}

/// Numbers and kinds of the programs in this kernel.
fn programs() -> Result<HashSet<(u64, String)>> {
    let output = Command::new("bpftool")
        .args(["--json", "prog", "show"])
        .output()
        .context("run bpftool (see cargo xtask setup)")?;
    let list: Vec<serde_json::Value> =
        serde_json::from_slice(&output.stdout).context("read what bpftool says")?;
    list.iter()
        .map(|program| {
            let id = program["id"].as_u64().context("a number")?;
            Ok((id, program["type"].as_str().context("a kind")?.to_owned()))
        })
        .collect()
}

#[test]
fn the_kernel_does_not_time_every_run_of_a_program() -> Result<()> {
    const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";
    let _alone = alone();
    let before = fs::read_to_string(STATS)?;
    let mut watch = Watch::start()?;
    watch.tick()?;
    let during = fs::read_to_string(STATS)?;
    ensure!(
        before == during,
        "the agent switched {STATS} from {before} to {during}"
    );
    Ok(())
}

/// Every trap of docs/accuracy.md names tests that are there.
#[test]
fn the_published_list_of_traps_names_tests_that_exist() -> Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let document =
        fs::read_to_string(folder.join("../../docs/accuracy.md")).context("read docs/accuracy.md")?;
    let mut tests = HashSet::new();
    for entry in fs::read_dir(folder.join("tests"))? {
        let path = entry?.path();
        let file = path.file_stem().context("a file")?.to_string_lossy().into_owned();
        for line in fs::read_to_string(&path)?.lines() {
            if let Some((name, _rest)) = line.strip_prefix("fn ").and_then(|rest| rest.split_once('(')) {
                tests.insert(format!("`{file}::{name}`"));
            }
        }
    }
    let traps = document.split_once("## Traps").context("a heading")?.1;
    // Every other piece between two ticks is quoted.
    let rows = traps.lines().filter(|line| line.starts_with("| "));
    let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let named: Vec<&str> = quoted.filter(|name| name.contains("::")).collect();
    ensure!(named.len() > 15, "{} tests are named", named.len());
    for name in named {
        ensure!(tests.contains(&format!("`{name}`")), "{name} is no test");
    }
    Ok(())
}

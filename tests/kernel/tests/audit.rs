//! The books: what all processes used, held against control groups and against the CPUs' wall time.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use procscope_tests_kernel::{Program, Watch, alone, cpu_of_all_threads_ns, hidden_processes, within};

const LOAD: &str = env!("CARGO_BIN_EXE_procscope-tests-kernel");

#[test]
fn the_books_balance_under_mixed_load() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    watch.tick()?;
    let first = watch.snapshots.len();
    let seen = watch.snapshots.last().context("a snapshot")?;
    let hidden = hidden_processes(|pid| seen.samples.iter().any(|sample| sample.pid == pid))?;
    let hidden_before = cpu_of_all_threads_ns(&hidden);
    let burner = Program::start(LOAD, "burn 4000 1")?;
    let _spawner = Program::start(LOAD, "spawn 600 /bin/true")?;
    let _threads = Program::start(LOAD, "threads 100 5")?;
    let (pid, waited) = (burner.pid(), burner);
    watch.until("the burner has ended", 60, |watch| {
        watch.exits().any(|exit| exit.pid == pid)
    })?;
    drop(waited);
    let idle_until = std::time::Instant::now() + Duration::from_secs(2);
    watch.until("some idle time has passed", 10, |_watch| {
        std::time::Instant::now() > idle_until
    })?;
    let audits: Vec<_> = watch.snapshots[first..]
        .iter()
        .filter_map(|snapshot| snapshot.audit.as_ref())
        .collect();
    let wall: u64 = audits.iter().map(|audit| audit.wall_ns).sum();
    let residual: i64 = audits.iter().map(|audit| audit.residual_ns).sum();
    println!(
        "residual {residual} ns of {wall} ns wall, {} intervals",
        audits.len()
    );
    let hidden_ns = cpu_of_all_threads_ns(&hidden)
        .saturating_sub(hidden_before)
        .cast_signed();
    println!("{hidden_ns} ns of it by processes {hidden:?}, which this kernel hides from its programs");
    let residual = residual - hidden_ns;
    ensure!(
        residual.unsigned_abs() * 200 < wall,
        "the residual {residual} is over 0.5 % of {wall}"
    );
    ensure!(
        audits.iter().all(|audit| audit.lost_events == 0),
        "events were lost"
    );
    ensure!(audits.iter().map(|audit| audit.process_ns).sum::<u64>() > 4_000_000_000);
    Ok(())
}

/// The folder of a new control group with CPU accounting, on either version of control groups.
fn new_group() -> Result<(PathBuf, &'static str)> {
    let name = format!("procscope-test-{}", std::process::id());
    for (root, usage) in [
        ("/sys/fs/cgroup/cpuacct", "cpuacct.usage"),
        ("/sys/fs/cgroup", "cpu.stat"),
    ] {
        let folder = PathBuf::from(root).join(&name);
        if PathBuf::from(root).join("cgroup.procs").exists() && fs::create_dir(&folder).is_ok() {
            return Ok((folder, usage));
        }
    }
    anyhow::bail!("no control group with CPU accounting can be made here")
}

#[test]
fn the_sum_of_processes_is_what_their_control_group_says() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let (folder, usage) = new_group()?;
    let script = format!(
        "echo $$ > {}/cgroup.procs && {LOAD} burn 300 2 && {LOAD} spawn 300 /bin/true && exec {LOAD} threads 50 3",
        folder.display()
    );
    let program = Program::spawn(Command::new("sh").args(["-c", &script]))?;
    let pid = program.pid();
    watch.until("all have ended", 60, |watch| {
        watch.exits().any(|exit| exit.pid == pid)
    })?;
    watch.tick()?;
    let text = fs::read_to_string(folder.join(usage))?;
    let group_ns = match usage {
        "cpu.stat" => {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("usage_usec "))
                .context("no usage_usec")?;
            line.trim().parse::<u64>()? * 1_000
        }
        _ => text.trim().parse()?,
    };
    drop(program);
    drop(fs::remove_dir(&folder));
    let mut family = vec![pid];
    let mut sum = 0;
    // Parents are told before their children here, so one pass over generations is enough.
    for _generation in 0..3 {
        let children: Vec<u32> = watch
            .exits()
            .filter(|exit| family.contains(&exit.parent_pid))
            .map(|exit| exit.pid)
            .collect();
        family.extend(children);
    }
    family.sort_unstable();
    family.dedup();
    for exit in watch.exits().filter(|exit| family.contains(&exit.pid)) {
        sum += exit.cpu_time_ns;
    }
    within("CPU time of the group", sum, group_ns, 10)
}

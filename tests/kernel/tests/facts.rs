//! What a row says of a process beside its CPU time, held against what /proc says of it.

use std::{collections::BTreeMap, fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use procscope_proto::v1;
use procscope_tests_kernel::{
    Program, Watch, alone, counter_bound_bytes, or_guest, proc_number, process_clock_ns, status_bytes,
    wait_until,
};

const LOAD: &str = env!("CARGO_BIN_EXE_procscope-tests-kernel");

#[test]
fn memory_is_exact_to_the_page_and_told_by_kind() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let mut program = Program::start(LOAD, "touch 37 keep")?;
    let pid = program.pid();
    program.hear("ready")?;
    program.go_on()?;
    program.hear("touched")?;
    watch.tick()?;
    let sample = watch.newest(pid)?;
    let rss = sample.rss_bytes.context("known")?;
    // Summed page by page, unlike the counters of /proc/PID/status.
    let exact = proc_number(pid, "smaps_rollup", "Rss")? * 1024;
    let bound = counter_bound_bytes(1);
    ensure!(
        rss.abs_diff(exact) <= 3 * bound,
        "{rss} resident, smaps counts {exact}"
    );
    let anon = sample.rss_anon_bytes.context("known")?;
    let exact_anon = proc_number(pid, "smaps_rollup", "Anonymous")? * 1024;
    ensure!(
        anon.abs_diff(exact_anon) <= bound,
        "{anon} anonymous, smaps counts {exact_anon}"
    );
    let parts = anon + sample.rss_file_bytes.unwrap_or(0) + sample.rss_shmem_bytes.unwrap_or(0);
    ensure!(parts == rss, "{parts} in parts, {rss} in all");
    ensure!(
        sample.virtual_bytes == Some(status_bytes(pid, "VmSize")?),
        "{sample:?}"
    );
    ensure!(
        sample.swap_bytes == Some(status_bytes(pid, "VmSwap")?),
        "{sample:?}"
    );
    Ok(())
}

/// Whatever on this machine has threads has parts of its counters on several CPUs.
#[test]
fn memory_of_many_threads_is_exact_to_the_page() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let mut differ = BTreeMap::new();
    // What changes between two looks is looked at again.
    for round in 0..10 {
        for sample in &watch.tick()?.samples {
            let exact = proc_number(sample.pid, "smaps_rollup", "Rss").map(|kib| kib * 1024);
            let (Ok(exact), Some(rss)) = (exact, sample.rss_bytes) else {
                differ.remove(&sample.pid);
                continue;
            };
            let busy = sample.cpu_time_ns_delta > 0;
            let bound = 3 * counter_bound_bytes(sample.threads.into());
            if sample.threads < 2 || busy || rss.abs_diff(exact) <= bound {
                differ.remove(&sample.pid);
            } else if round == 0 || differ.contains_key(&sample.pid) {
                differ.insert(sample.pid, (sample.name.clone(), rss, exact));
            }
        }
    }
    ensure!(differ.is_empty(), "resident and by smaps: {differ:?}");
    Ok(())
}

#[test]
fn descriptors_and_io_are_counted() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let mut program =
        Program::spawn(Command::new("sh").args(["-c", &format!("ulimit -n 1500; exec {LOAD} files 1234")]))?;
    let pid = program.pid();
    program.hear("ready")?;
    watch.tick()?;
    let before = watch.newest(pid)?.open_file_descriptors.context("counted")?;
    ensure!(before < 20, "{before} descriptors");
    program.go_on()?;
    program.hear("open")?;
    // The line is here before its write has returned and is counted.
    wait_until("it waits for the next line", 10, || {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") S "))
    })?;
    watch.tick()?;
    let sample = watch.newest(pid)?;
    let open = u32::try_from(fs::read_dir(format!("/proc/{pid}/fd"))?.count())?;
    ensure!(
        sample.open_file_descriptors == Some(open),
        "{sample:?}: {open} are open"
    );
    ensure!(sample.open_file_descriptor_limit == Some(1500), "{sample:?}");
    // The line that let it go on, and one that said so.
    let (read, written) = (1_234 * 1_000 + 1, 1_234 * 500 + "open 1234\n".len());
    ensure!(
        sample.read_bytes_delta == Some(u64::try_from(read)?),
        "{sample:?}"
    );
    ensure!(
        sample.written_bytes_delta == Some(u64::try_from(written)?),
        "{sample:?}"
    );
    ensure!(sample.read_operations_delta == Some(1_235), "{sample:?}");
    ensure!(sample.write_operations_delta == Some(1_235), "{sample:?}");
    program.go_on()?;
    let exit = watch.exit_of(pid)?;
    ensure!(
        exit.read_operations > Some(1_235) && exit.written_bytes > Some(617_000),
        "{exit:?}"
    );
    Ok(())
}

#[test]
fn user_and_system_time_add_up_and_tell_where_it_was_used() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let user = Program::start(LOAD, "burn 600 1")?;
    let user_exit = watch.exit_of(user.pid())?;
    let system = Program::start(LOAD, "kernel 600")?;
    let system_exit = watch.exit_of(system.pid())?;
    for (pid, exit) in [(user.pid(), &user_exit), (system.pid(), &system_exit)] {
        let (user_ns, system_ns) = (
            exit.user_time_ns.context("known")?,
            exit.system_time_ns.context("known")?,
        );
        ensure!(user_ns + system_ns == exit.cpu_time_ns, "{exit:?}");
        let sum = |part: fn(&v1::ProcessSample) -> Option<u64>| -> u64 {
            watch.samples(pid).into_iter().filter_map(part).sum()
        };
        ensure!(
            sum(|sample| sample.user_time_ns_delta) == user_ns,
            "user of {exit:?}"
        );
        ensure!(
            sum(|sample| sample.system_time_ns_delta) == system_ns,
            "system of {exit:?}"
        );
    }
    ensure!(
        user_exit.user_time_ns > Some(user_exit.cpu_time_ns / 10 * or_guest(9, 6)),
        "{user_exit:?}"
    );
    ensure!(
        system_exit.system_time_ns > Some(system_exit.cpu_time_ns / 2),
        "{system_exit:?}"
    );
    Ok(())
}

#[test]
fn threads_that_ended_in_an_interval_are_told_apart() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let program = Program::start(LOAD, "threads 20 10")?;
    let exit = watch.exit_of(program.pid())?;
    let ended: u64 = watch
        .samples(program.pid())
        .iter()
        .filter_map(|sample| sample.ended_threads_cpu_time_ns_delta)
        .sum();
    // The first thread ends as well; what a walk saw of a thread before its last interval does not count again.
    ensure!(
        ended > 100_000_000 && ended <= exit.cpu_time_ns,
        "{ended} of {exit:?}"
    );
    Ok(())
}

#[test]
fn state_waits_numbers_and_parents_are_those_of_proc() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let mut program = Program::spawn(Command::new("unshare").args(["--pid", "--fork", LOAD, "pause"]))?;
    let outer = program.pid();
    program.hear("ready")?;
    let burner = Program::start(LOAD, "burn 60000 1")?;
    watch.until("the burner runs", 10, |watch| {
        watch.newest(burner.pid()).is_ok_and(|sample| sample.state == "R")
    })?;
    let sample = watch.newest(burner.pid())?;
    ensure!(
        sample.cpu_time_ns <= process_clock_ns(burner.pid())?,
        "{sample:?}"
    );
    let inner = watch
        .snapshots
        .last()
        .context("a snapshot")?
        .samples
        .iter()
        .find(|sample| sample.parent_pid == outer)
        .context("the child of unshare")?;
    ensure!(inner.namespace_pid == Some(1) && inner.state == "S", "{inner:?}");
    let parent = watch.newest(outer)?;
    ensure!(parent.namespace_pid == Some(outer), "{parent:?}");
    ensure!(
        inner.parent_start_boottime_ns == parent.start_boottime_ns,
        "{inner:?} is a child of {parent:?}"
    );
    let waits: u64 = watch
        .samples(burner.pid())
        .iter()
        .filter_map(|sample| sample.runqueue_waits_delta)
        .sum();
    let schedstat = fs::read_to_string(format!("/proc/{}/schedstat", burner.pid()))?;
    let times: u64 = schedstat
        .split_whitespace()
        .nth(2)
        .context("times run")?
        .parse()?;
    ensure!(waits > 0 && waits <= times, "{waits} waits, {times} times run");
    program.kill(libc::SIGKILL);
    Ok(())
}

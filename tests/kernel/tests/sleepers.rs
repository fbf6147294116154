//! Processes that do not run, of which a walk reads little: their rows are as exact as any, whatever others do to them.

use std::{
    fs,
    os::unix::fs::{FileExt as _, MetadataExt as _},
};

use anyhow::{Context as _, Result, ensure};
use procscope_proto::v1;
use procscope_tests_kernel::{
    Program, Watch, alone, counter_bound_bytes, group::Folder, proc_number, process_clock_ns, status_bytes,
};

const LOAD: &str = env!("CARGO_BIN_EXE_procscope-tests-kernel");
const MIB: u64 = 1 << 20;

/// Ends intervals until the row of a sleeper is the one before, copied.
fn settled(watch: &mut Watch, pid: u32) -> Result<v1::ProcessSample> {
    watch.until("it sleeps", 10, |watch| {
        watch.newest(pid).is_ok_and(|sample| sample.state == "S")
    })?;
    for _interval in 0..3 {
        watch.tick()?;
    }
    watch.newest(pid).cloned()
}

#[test]
fn a_sleeper_has_the_same_row_in_each_interval_and_a_true_one_when_it_wakes_up() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let mut program = Program::start(LOAD, "untouched 1 30")?;
    let pid = program.pid();
    program.hear("address")?;
    for _round in 0..3 {
        let asleep = settled(&mut watch, pid)?;
        for _interval in 0..5 {
            watch.tick()?;
            ensure!(
                *watch.newest(pid)? == asleep,
                "{:?} after {asleep:?}",
                watch.newest(pid)?
            );
        }
        ensure!(asleep.cpu_time_ns == process_clock_ns(pid)?, "{asleep:?}");
        ensure!(asleep.cpu_time_ns_delta == 0 && asleep.state == "S", "{asleep:?}");
        ensure!(
            watch.samples(pid).len() == watch.snapshots.len(),
            "a row in each interval"
        );
    }
    let before = watch.newest(pid)?.clone();
    program.go_on()?;
    program.hear("worked")?;
    let now_ns = process_clock_ns(pid)?;
    let woken = watch.tick()?.samples.iter().find(|sample| sample.pid == pid);
    let woken = woken.context("it is in the interval")?.clone();
    ensure!(
        woken.cpu_time_ns >= now_ns && woken.cpu_time_ns_delta == woken.cpu_time_ns - before.cpu_time_ns,
        "{woken:?} after {before:?}, its clock said {now_ns}"
    );
    let asleep = settled(&mut watch, pid)?;
    ensure!(asleep.cpu_time_ns == process_clock_ns(pid)? && asleep.cpu_time_ns_delta == 0);
    ensure!(asleep.voluntary_switches_delta == Some(0) && asleep.minor_faults_delta == Some(0));
    Ok(())
}

#[test]
fn memory_that_another_process_gives_to_a_sleeper_shows_at_once() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let mut program = Program::start(LOAD, "untouched 20 1")?;
    let pid = program.pid();
    let address = program.hear("address")?;
    let before = settled(&mut watch, pid)?;
    let clock_ns = process_clock_ns(pid)?;
    let memory = fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/{pid}/mem"))?;
    for page in 0..20 * MIB / 4096 {
        memory.write_all_at(&[1], address + page * 4096)?;
    }
    watch.tick()?;
    let after = watch.newest(pid)?;
    ensure!(process_clock_ns(pid)? == clock_ns, "it slept all the time");
    let rose = |of: fn(&v1::ProcessSample) -> Option<u64>| Some(of(after)?.saturating_sub(of(&before)?));
    ensure!(
        rose(|sample| sample.rss_anon_bytes) == Some(20 * MIB),
        "{after:?} after {before:?}"
    );
    ensure!(after.peak_rss_bytes >= after.rss_bytes && after.cpu_time_ns_delta == 0);
    let exact = status_bytes(pid, "RssAnon")?;
    let anon = after.rss_anon_bytes.context("known")?;
    ensure!(
        anon.abs_diff(exact) <= counter_bound_bytes(1),
        "{anon}, /proc says {exact}"
    );
    Ok(())
}

#[test]
fn a_sleeper_that_is_moved_or_limited_by_another_is_told_so() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let program = Program::start(LOAD, "pause")?;
    let pid = program.pid();
    let before = settled(&mut watch, pid)?;
    let number = std::process::id();
    // As a kubelet with the systemd driver makes one for a pod.
    let group = Folder::new(&format!(
        "kubepods-besteffort-pod{number:08x}_0000_4000_8000_000000000001.slice"
    ))?;
    fs::write(group.path().join("cgroup.procs"), pid.to_string()).context("move a sleeper")?;
    let limit = libc::rlimit {
        rlim_cur: 77,
        rlim_max: 78,
    };
    // SAFETY: valid for one value; the old one is not asked for.
    let limited = unsafe {
        libc::prlimit(
            pid.cast_signed(),
            libc::RLIMIT_NOFILE,
            &raw const limit,
            std::ptr::null_mut(),
        )
    };
    ensure!(limited == 0, "limit a sleeper");
    let snapshot = watch.tick()?.clone();
    let after = watch.newest(pid)?;
    ensure!(
        after.cgroup_id == fs::metadata(group.path())?.ino() && after.cgroup_id != before.cgroup_id,
        "{after:?} after {before:?}"
    );
    ensure!(after.open_file_descriptor_limit == Some(77), "{after:?}");
    let told = snapshot.processes.iter().find(|info| info.pid == pid);
    let pod = format!("{number:08x}-0000-4000-8000-000000000001");
    ensure!(
        told.is_some_and(|info| info.cgroup.contains("kubepods-besteffort") && info.pod_uid == pod),
        "{told:?}"
    );
    ensure!(before.pod_uid.is_empty() && after.pod_uid == pod, "{after:?}");
    drop(program);
    Ok(())
}

/// The first thread, which stands for the process, never runs: what another one does to what they share is told.
#[test]
fn what_another_thread_does_to_a_first_one_that_sleeps_is_told() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let mut program = Program::start(LOAD, "first-thread-sleeps another-name")?;
    let pid = program.pid();
    program.hear("ready")?;
    let before = settled(&mut watch, pid)?;
    program.go_on()?;
    program.hear("named")?;
    settled(&mut watch, pid)?;
    ensure!(
        watch.newest(pid)?.name == "another-name",
        "{:?}",
        watch.newest(pid)?
    );
    program.go_on()?;
    program.hear("open")?;
    watch.tick()?;
    let open = before.open_file_descriptors.context("known")?;
    ensure!(
        watch.newest(pid)?.open_file_descriptors == Some(open + 5),
        "{:?} after {before:?}",
        watch.newest(pid)?
    );
    settled(&mut watch, pid)?;
    // It opens one more and ends: when the walk comes nobody shares the descriptors any more.
    program.go_on()?;
    program.hear("open")?;
    procscope_tests_kernel::wait_until("the other thread has gone", 10, || {
        proc_number(pid, "status", "Threads").is_ok_and(|threads| threads == 1)
    })?;
    watch.tick()?;
    let alone = watch.newest(pid)?;
    ensure!(
        alone.open_file_descriptors == Some(open + 6) && alone.threads == 1,
        "{alone:?}"
    );
    let asleep = settled(&mut watch, pid)?;
    ensure!(asleep.open_file_descriptors == Some(open + 6), "{asleep:?}");
    // The process's own clock leaves out the last microseconds of a thread that was not the first.
    ensure!(asleep.cpu_time_ns >= process_clock_ns(pid)?, "{asleep:?}");
    Ok(())
}

//! Beginnings and ends: codes and signals, names, identities, and the traps that the kernel has ready.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, process::Command};

use anyhow::{Context as _, Result, ensure};
use procscope_tests_kernel::{Program, Watch, alone, or_guest, within};

const LOAD: &str = env!("CARGO_BIN_EXE_procscope-tests-kernel");

#[test]
fn an_exit_tells_its_code_or_its_signal() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let program = Program::start(LOAD, "exit 7")?;
    let exit = watch.exit_of(program.pid())?;
    ensure!((exit.exit_code, exit.exit_signal) == (Some(7), None), "{exit:?}");
    for signal in [libc::SIGKILL, libc::SIGABRT, libc::SIGTERM] {
        let mut program = Program::start(LOAD, "pause")?;
        program.hear("ready")?;
        program.kill(signal);
        let exit = watch.exit_of(program.pid())?;
        ensure!(
            (exit.exit_code, exit.exit_signal) == (None, Some(signal.cast_unsigned())),
            "{exit:?}"
        );
        ensure!(exit.oom_killed == Some(false), "{exit:?}");
    }
    Ok(())
}

#[test]
fn a_process_has_its_parent_user_and_program() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let mut program = Program::start(LOAD, "pause --token=hunter2")?;
    program.hear("ready")?;
    watch.tick()?;
    let pid = program.pid();
    let info = watch
        .snapshots
        .iter()
        .flat_map(|snapshot| &snapshot.processes)
        .find(|info| info.pid == pid);
    let info = info.context("names are told with the first sample")?;
    ensure!(info.parent_pid == std::process::id() && info.uid == 0, "{info:?}");
    ensure!(
        info.name == "procscope-tests-kernel" && info.exe == LOAD,
        "{info:?}"
    );
    ensure!(
        info.cmdline == format!("{LOAD} pause --token=********"),
        "{info:?}"
    );
    Ok(())
}

#[test]
fn a_hostile_name_is_spelt_out() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let name = OsStr::from_bytes(b"a\n\x1b[31m\xff) S");
    let mut program = Program::spawn(Command::new(LOAD).arg("name").arg(name))?;
    program.hear("ready")?;
    watch.tick()?;
    let sample = watch.newest(program.pid())?;
    ensure!(sample.name == "a\\x0a\\x1b[31m\\xff) S", "{sample:?}");
    Ok(())
}

#[test]
fn a_leader_that_exits_first_does_not_end_the_process() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let program = Program::start(LOAD, "leader-exits-first 600")?;
    let pid = program.pid();
    watch.until("the other thread has burnt a while", 30, |watch| {
        watch
            .newest(pid)
            .is_ok_and(|sample| sample.cpu_time_ns > 200_000_000)
    })?;
    let sample = watch.newest(pid)?;
    ensure!(!sample.exited && sample.rss_bytes.is_some(), "{sample:?}");
    let exit = watch.exit_of(pid)?;
    let (_status, used) = program.wait4()?;
    ensure!(exit.exit_code == Some(5), "{exit:?}");
    within("CPU time", exit.cpu_time_ns, used, 10)
}

#[test]
fn an_exec_from_another_thread_keeps_the_process_and_its_total() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let program = Program::start(LOAD, "exec-from-thread 300 200")?;
    let pid = program.pid();
    let exit = watch.exit_of(pid)?;
    let (_status, used) = program.wait4()?;
    within("CPU time", exit.cpu_time_ns, used, 10)?;
    ensure!(watch.exits().filter(|exit| exit.pid == pid).count() == 1);
    let ids: std::collections::HashSet<_> = watch
        .samples(pid)
        .iter()
        .map(|sample| &sample.process_id)
        .collect();
    ensure!(ids.len() == 1, "one process, {} identities", ids.len());
    Ok(())
}

#[test]
fn a_zombie_is_told_once_when_it_ends() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let mut program = Program::start(LOAD, "zombie 50")?;
    let child = u32::try_from(program.hear("child")?)?;
    let exit = watch.exit_of(child)?;
    ensure!(exit.exit_code == Some(0), "{exit:?}");
    let samples = watch.samples(child).len();
    for _interval in 0..5 {
        watch.tick()?;
    }
    ensure!(
        watch.samples(child).len() == samples,
        "a process that ended has no further samples"
    );
    program.go_on()?;
    program.hear("reaped")?;
    for _interval in 0..5 {
        watch.tick()?;
    }
    ensure!(watch.exits().filter(|exit| exit.pid == child).count() == 1);
    Ok(())
}

#[test]
fn a_number_that_is_used_again_is_another_process() -> Result<()> {
    let runs = or_guest(700, 100);
    let _alone = alone();
    let mut watch = Watch::start()?;
    let mut program = Program::start(LOAD, &format!("reuse {runs} /bin/true"))?;
    let parent = program.pid();
    watch.until("it has ended", 60, |watch| {
        watch.exits().any(|exit| exit.pid == parent)
    })?;
    let pid = u32::try_from(program.hear("pid")?)?;
    watch.tick()?;
    let told: Vec<_> = watch.exits().filter(|exit| exit.pid == pid).collect();
    let ids: std::collections::HashSet<_> = told.iter().map(|exit| &exit.process_id).collect();
    ensure!(
        told.len() == runs && ids.len() == runs,
        "{} exits, {} identities",
        told.len(),
        ids.len()
    );
    ensure!(
        told.iter()
            .all(|exit| exit.exe == "/bin/true" && exit.exit_code == Some(0))
    );
    ensure!(
        told.iter().all(|exit| exit.lifetime_ns < 10_000_000_000),
        "a life of somebody else"
    );
    Ok(())
}

#[test]
fn events_beyond_the_buffer_are_counted_and_the_books_stay_open() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    // Nobody drains meanwhile: the buffer holds about 4,000 short lives.
    let program = Program::start(LOAD, "spawn 7000 /bin/true")?;
    let pid = program.pid();
    let (_status, _used) = program.wait4()?;
    watch.tick()?;
    let lost = watch.losses("ring_full");
    ensure!(lost > 0, "nothing was lost, so nothing was tested");
    let audit = watch
        .snapshots
        .last()
        .and_then(|snapshot| snapshot.audit)
        .context("every snapshot has one")?;
    ensure!(audit.lost_events >= lost, "{audit:?}");
    // What was told is right, and what came after the loss is told again.
    let told = watch.exits().filter(|exit| exit.parent_pid == pid).count();
    ensure!(told > 1_000 && told < 7_000, "{told} were told");
    let program = Program::start(LOAD, "exit 3")?;
    ensure!(watch.exit_of(program.pid())?.exit_code == Some(3));
    Ok(())
}

//! Parts that are killed, away, or wrongly set up: nothing lost, nothing twice, one clear line.

use std::{
    fs,
    net::TcpListener,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use procscope_tests_e2e::{Stack, alone, binary, free_port, library, refused};
use procscope_tests_kernel::wait_until;

#[test]
fn killed_parts_come_back_and_every_snapshot_is_stored_once() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::start()?;
    for round in 1..=3_u64 {
        stack.wait_for_intervals(round * 6)?;
        stack.collector.take().context("it runs")?.end(libc::SIGKILL)?;
        std::thread::sleep(Duration::from_millis(1_500));
        stack.start_collector()?;
        stack.wait_for_intervals(round * 6 + 3)?;
        stack.engine.take().context("it runs")?.end(libc::SIGKILL)?;
        std::thread::sleep(Duration::from_millis(1_500));
        stack.start_engine()?;
    }
    stack.wait_for_intervals(25)?;
    let agent = stack.agent.take().context("it runs")?;
    ensure!(agent.end(libc::SIGTERM)? == Some(0), "{}", stack.logs());
    stack.check_stored_once().map(drop)
}

#[test]
fn an_agent_that_was_first_waits_for_its_collector_and_loses_nothing() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::new()?;
    stack.start_agent()?;
    let agent_log = |stack: &Stack| {
        stack
            .agent
            .as_ref()
            .map(|agent| agent.log().unwrap_or_default())
            .unwrap_or_default()
    };
    wait_until("the agent says what it waits for", 20, || {
        agent_log(&stack).contains("no stream to the collector")
    })?;
    ensure!(
        agent_log(&stack).contains(&stack.server()),
        "{}",
        agent_log(&stack)
    );
    stack.start_engine()?;
    stack.start_collector()?;
    stack.wait_for_intervals(3)?;
    ensure!(stack.stop()?.first() == Some(&Some(0)));
    stack.start_engine()?;
    stack.check_stored_once().map(drop)
}

#[test]
fn a_wrong_token_is_refused_and_the_agent_keeps_what_it_has() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::new()?;
    stack.start_engine()?;
    stack.start_collector()?;
    let good = fs::read_to_string(stack.path("token"))?;
    wait_until("the collector is ready", 60, || {
        procscope_tests_e2e::curl(&[&format!("{}/readyz", stack.http())]).is_ok()
    })?;
    // The agent reads its own file; the collector has the right token in memory already.
    fs::write(stack.path("token"), "wrong")?;
    stack.start_agent()?;
    let refused = |stack: &Stack| {
        stack
            .agent
            .as_ref()
            .is_some_and(|agent| agent.log().is_ok_and(|log| log.contains("Unauthenticated")))
    };
    wait_until("the agent says that it was refused", 30, || refused(&stack)).with_context(|| stack.logs())?;
    let log = stack.agent.as_ref().context("it runs")?.log()?;
    ensure!(
        !log.contains(good.trim()) && !log.contains("Bearer wrong"),
        "a token is in the log: {log}"
    );
    ensure!(stack.sql_number::<u64>("SELECT count() FROM host_samples")? == 0);
    Ok(())
}

#[test]
fn what_is_wrongly_set_up_says_so_in_one_line() -> Result<()> {
    let _alone = alone();
    let stack = Stack::new()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let taken = taken.local_addr()?.to_string();
    let port = free_port()?;
    let free = format!("127.0.0.1:{port}");
    let token_file = stack.path("token");
    let secret = stack.path("password");
    let engine = |listen: &str, data: &str, lib: &str| -> Result<Command> {
        let mut command = Command::new(binary("procscope-engine")?);
        command.args(["--data-dir", data, "--listen", listen, "--library", lib]);
        command.args(["--user", "procscope", "--password-file", &secret]);
        Ok(command)
    };
    let lib = library()?.display().to_string();
    refused(
        &mut engine(&taken, &stack.path("e1"), &lib)?,
        1,
        &[&taken, "--store-url"],
    )?;
    refused(
        &mut engine(&free, &stack.path("e2"), "/nonexistent/libchdb.so")?,
        1,
        &["cargo xtask setup"],
    )?;
    let collector = |listen: &str, more: &[&str]| -> Result<Command> {
        let mut command = Command::new(binary("procscope-collector")?);
        command.args([
            "run",
            "--listen",
            listen,
            "--http-listen",
            &format!("127.0.0.1:{}", free_port()?),
        ]);
        command.args([
            "--store-url",
            "http://127.0.0.1:9",
            "--store-password-file",
            &secret,
        ]);
        command.args(["--ingest-token-file", &token_file]).args(more);
        Ok(command)
    };
    refused(&mut collector(&taken, &[])?, 1, &[&taken])?;
    refused(
        &mut collector(&format!("0.0.0.0:{port}"), &[])?,
        2,
        &["--insecure"],
    )?;
    let bad = stack.path("bad.toml");
    fs::write(&bad, "no_such_key = 1\n")?;
    for name in ["procscope-engine", "procscope-collector", "procscope-agent"] {
        let mut command = Command::new(binary(name)?);
        refused(command.args(["--config", &bad]), 2, &["no_such_key", "line 1"])?;
    }
    let mut agent = Command::new(binary("procscope-agent")?);
    refused(
        agent.args(["run", "--token-file", "/nonexistent/token"]),
        2,
        &["/nonexistent/token"],
    )?;
    let mut client = Command::new(binary("procscope")?);
    refused(
        client.args(["top", "--once", "--server", &format!("http://{free}")]),
        1,
        &[&free, "Connection refused"],
    )
}

#[test]
fn a_log_that_cannot_be_written_ends_nothing() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::new()?;
    stack.start_engine()?;
    let full = || fs::OpenOptions::new().write(true).open("/dev/full");
    let mut collector = Command::new(binary("procscope-collector")?);
    collector.args(["run", "--listen", &format!("127.0.0.1:{}", free_port()?)]);
    collector.args(["--http-listen", &format!("127.0.0.1:{}", free_port()?)]);
    collector.args([
        "--store-url",
        "http://127.0.0.1:9",
        "--store-password-file",
        &stack.path("password"),
    ]);
    collector.args(["--ingest-token-file", &stack.path("token")]);
    let mut agent = Command::new(binary("procscope-agent")?);
    agent.args([
        "run",
        "--token-file",
        &stack.path("token"),
        "--state-dir",
        &stack.path("agent"),
    ]);
    agent.args(["--collector", "http://127.0.0.1:9"]);
    for mut command in [collector, agent] {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(full()?)
            .spawn()?;
        // Both have something to say at once: the store, or the collector, is not there.
        std::thread::sleep(Duration::from_secs(2));
        let ended = child.try_wait()?;
        // SAFETY: a plain system call; the child is not reaped yet, so the number is still its own.
        unsafe { libc::kill(child.id().cast_signed(), libc::SIGTERM) };
        let status = child.wait()?;
        ensure!(
            ended.is_none() && status.code() == Some(0),
            "{command:?}: {ended:?}, then {status:?}"
        );
    }
    Ok(())
}

#[test]
fn two_agents_with_one_state_folder_are_refused() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::new()?;
    stack.start_agent()?;
    wait_until("the first has its folder", 20, || {
        stack.agent.as_ref().is_some_and(|agent| {
            agent
                .log()
                .is_ok_and(|log| log.contains("attached to the kernel"))
        })
    })?;
    let mut second = Command::new(binary("procscope-agent")?);
    second.args([
        "run",
        "--token-file",
        &stack.path("token"),
        "--state-dir",
        &stack.path("agent"),
    ]);
    refused(&mut second, 1, &["another agent", "--state-dir"])
}

/// Numbers of programs of ours in the kernel.
fn programs() -> Result<usize> {
    let output = Command::new("bpftool")
        .args(["prog", "show"])
        .output()
        .context("run bpftool (see cargo xtask setup)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter(|line| line.contains("name sched_switch ") || line.contains("name task_iter "))
        .count())
}

fn running(data_dir: &str) -> Result<String> {
    let output = Command::new("pgrep")
        .args(["--list-full", "--full", data_dir])
        .output()
        .context("run pgrep")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter(|line| line.contains("procscope-"))
        .collect::<Vec<_>>()
        .join("\n"))
}

#[test]
fn ctrl_c_on_the_one_command_leaves_nothing_behind() -> Result<()> {
    let _alone = alone();
    let before = programs()?;
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data").display().to_string();
    let mut run = Command::new(binary("xtask")?);
    run.args(["run", "--no-tui", "--data-dir", &data]);
    let http_port = free_port()?;
    run.args(["--http-port", &http_port.to_string()]);
    for option in ["--engine-port", "--grpc-port"] {
        run.args([option, &free_port()?.to_string()]);
    }
    let said_file = dir.path().join("said");
    let said = || fs::read_to_string(&said_file).unwrap_or_default();
    let out = fs::File::create(&said_file)?;
    let mut child = run
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()?;
    let address = format!("http://127.0.0.1:{http_port}");
    let started = wait_until("it says where the dashboard is", 240, || {
        said().contains(&address)
    });
    let list = running(&data)?;
    // SAFETY: a plain system call; the child is not reaped yet, so the number is still its own.
    unsafe { libc::kill(child.id().cast_signed(), libc::SIGINT) };
    let mut status = None;
    let ended = wait_until("it has ended", 40, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    });
    if ended.is_err() {
        drop(child.kill());
        drop(child.wait());
    }
    let said = said();
    started.with_context(|| said.clone())?;
    ended.with_context(|| said.clone())?;
    ensure!(list.lines().count() >= 3, "three parts should run, not:\n{list}");
    ensure!(running(&data)?.is_empty(), "still running:\n{}", running(&data)?);
    wait_until("kernel programs are gone", 10, || {
        programs().is_ok_and(|now| now <= before)
    })?;
    ensure!(
        status.and_then(|status| status.code()) == Some(0),
        "{status:?} {said}"
    );
    Ok(())
}

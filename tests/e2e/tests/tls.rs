//! Agent, collector and client over TLS with certificates on both sides, and certificates that change meanwhile.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use procscope_tests_e2e::{Stack, alone, binary, curl};
use procscope_tests_kernel::wait_until;

/// Runs `procscope-collector certs …` in the folder of the stack.
fn certs(stack: &Stack, arguments: &[&str]) -> Result<()> {
    let output = Command::new(binary("procscope-collector")?)
        .arg("certs")
        .args(arguments)
        .args(["--dir", &stack.path("certs")])
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn node_name() -> Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned())
}

#[test]
fn certificates_on_both_sides_change_while_everything_is_stored_once() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::new()?;
    let host = node_name()?;
    certs(&stack, &["init", "--name", "127.0.0.1"])?;
    certs(&stack, &["agent", "--name", &host])?;
    let file = |name: &str| stack.path(&format!("certs/{name}"));
    let (ca, server, server_key) = (file("ca.pem"), file("server.pem"), file("server.key"));
    let (own, own_key) = (file(&format!("{host}.pem")), file(&format!("{host}.key")));
    // As the lines of `certs agent` say.
    fs::create_dir(stack.path("agent"))?;
    fs::copy(file(&format!("{host}.agent_id")), stack.path("agent/agent_id"))?;

    stack.scheme = "https";
    stack.start_engine()?;
    // Streams are short, so that the new certificates are shown within seconds.
    stack.collector_options = vec![
        format!("--tls-cert={server}"),
        format!("--tls-key={server_key}"),
        format!("--tls-client-ca={ca}"),
        "--stream-max-age=2s".to_owned(),
    ];
    stack.start_collector()?;
    let ready = format!("{}/readyz", stack.http());
    wait_until("the store is ready", 60, || {
        curl(&["--cacert", &ca, &ready]).is_ok()
    })?;
    let options = [
        "--tls-ca",
        &ca,
        "--tls-cert",
        &own,
        "--tls-key",
        &own_key,
        "--interval",
        "200ms",
    ];
    stack.start_agent_with(&options)?;
    stack.wait_for_intervals(10)?;

    let metric = |name: &str| {
        let page = curl(&["--cacert", &ca, &format!("{}/metrics", stack.http())]).unwrap_or_default();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0)
    };
    certs(&stack, &["renew"])?;
    wait_until("the new certificates are in use", 30, || {
        metric("procscope_collector_reloads_total{what=\"certificates\",outcome=\"ok\"}") >= 1
    })?;
    let aged = metric("procscope_collector_streams_aged_total");
    wait_until("streams were opened since", 30, || {
        metric("procscope_collector_streams_aged_total") >= aged + 3
    })?;
    stack.wait_for_intervals(40)?;

    let top = stack.json(&format!("--tls-ca {ca} top --once"))?;
    ensure!(
        top["processes"].as_array().is_some_and(|rows| !rows.is_empty()),
        "{top}"
    );
    let id = fs::read_to_string(stack.path("agent/agent_id"))?;
    let ids = stack.sql("SELECT groupUniqArray(toString(agent_id)) FROM host_samples")?;
    ensure!(ids == format!("['{}']", id.trim()), "{ids} {id}");
    let gaps = "SELECT max(seq) - min(seq) + 1 - count(), count() - uniqExact(seq), uniqExact(epoch) FROM host_samples";
    let gaps = stack.sql(gaps)?;
    ensure!(gaps == "0\t0\t1", "missing, twice, epochs: {gaps}");
    let log = stack.agent.as_ref().context("an agent")?.log()?;
    ensure!(!log.contains("snapshots wait"), "no stream broke: {log}");
    stack.stop()?;
    Ok(())
}

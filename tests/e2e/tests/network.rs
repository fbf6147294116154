//! Wires that are cut, silent, lossy or stalled: nothing lost, nothing twice, and the agent finds back by itself. Nothing is
//! measured, so tests run beside each other.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use procscope_tests_e2e::{Proxy, Stack, rest};
use procscope_tests_kernel::wait_until;

/// Ten intervals a second.
const INTERVAL: [&str; 2] = ["--interval", "100ms"];

fn measured(stack: &Stack) -> u64 {
    stack.agent_figure("procscope_agent_intervals_total")
}

/// Stops the agent once it has nothing left to send, and checks that all it has measured is stored once.
fn check_all_arrived(stack: &mut Stack) -> Result<u64> {
    let measured = measured(stack);
    wait_until("all is stored", 60, || {
        stack
            .sql_number::<u64>("SELECT count() FROM host_samples")
            .is_ok_and(|stored| stored >= measured)
    })
    .with_context(|| stack.logs())?;
    let agent = stack.agent.take().context("it runs")?;
    ensure!(agent.end(libc::SIGTERM)? == Some(0), "{}", stack.logs());
    let stored = stack.check_stored_once()?;
    ensure!(
        stored >= measured,
        "{stored} of {measured} stored\n{}",
        stack.logs()
    );
    Ok(stored)
}

#[test]
fn a_wire_that_is_cut_anywhere_loses_and_doubles_nothing() -> Result<()> {
    let mut stack = Stack::new()?;
    let wire = Proxy::start("127.0.0.1:0", &stack.grpc())?;
    stack.uplink = Some(format!("http://{}", wire.address()));
    stack.start_engine()?;
    stack.start_collector()?;
    stack.start_agent_with(&INTERVAL)?;
    stack.wait_for_intervals(3)?;
    // In the preface, in the first headers, amid snapshots, amid answers.
    let cuts = [20, 100, 700, 3_000, 9_000, 30_000, 100_000];
    for (up, down) in cuts
        .into_iter()
        .map(|bytes| (bytes, u64::MAX))
        .chain([15, 60, 120, 200, 300].map(|bytes| (u64::MAX, bytes)))
    {
        let before = wire.connections();
        wire.cut_after(up, down);
        // The connection that is open has carried more than that.
        wait_until("it was cut, and once more", 60, || {
            wire.connections() >= before + 2
        })
        .with_context(|| format!("{up} up, {down} down\n{}", stack.logs()))?;
    }
    wire.cut_after(u64::MAX, u64::MAX);
    let stored = check_all_arrived(&mut stack)?;
    println!("{stored} snapshots over {} connections", wire.connections());
    Ok(())
}

#[test]
fn a_collector_that_reads_nothing_for_a_while_costs_nothing() -> Result<()> {
    let mut stack = Stack::new()?;
    stack.start_engine()?;
    stack.start_collector()?;
    stack.start_agent_with(&INTERVAL)?;
    stack.wait_for_intervals(3)?;
    let collector = stack.collector.as_ref().context("it runs")?.pid().cast_signed();
    // SAFETY: plain system calls on a child that is not reaped yet.
    unsafe { libc::kill(collector, libc::SIGSTOP) };
    let before = measured(&stack);
    let measures_on = wait_until("the agent measures on", 60, || measured(&stack) >= before + 80);
    // SAFETY: as above.
    unsafe { libc::kill(collector, libc::SIGCONT) };
    measures_on.with_context(|| stack.logs())?;
    check_all_arrived(&mut stack).map(drop)
}

#[test]
fn a_name_that_nobody_knows_is_said_in_one_line_and_costs_nothing() -> Result<()> {
    let mut stack = Stack::new()?;
    stack.uplink = Some("http://collector.invalid:7400".to_owned());
    stack.start_agent_with(&["--interval", "100ms", "--insecure"])?;
    wait_until("it measures", 60, || measured(&stack) >= 30).with_context(|| stack.logs())?;
    let agent = stack.agent.take().context("it runs")?;
    let said = agent.log()?;
    let warned = said
        .lines()
        .filter(|line| line.contains("WARN") && line.contains("collector.invalid"));
    ensure!(warned.count() == 1 && said.contains("dns error"), "{said}");
    ensure!(agent.end(libc::SIGTERM)? == Some(0), "{said}");
    stack.uplink = None;
    stack.start_engine()?;
    stack.start_collector()?;
    stack.start_agent_with(&INTERVAL)?;
    stack.wait_for_intervals(31)?;
    check_all_arrived(&mut stack).map(drop)
}

/// A network of its own for the agent, with one wire to this machine.
struct Network {
    name: String,
    /// This machine's end.
    address: String,
}

impl Network {
    fn make() -> Result<Self> {
        let id = std::process::id();
        let name = format!("procscope-{id}");
        let (third, ours, theirs) = (id % 250, format!("ps{id}a"), format!("ps{id}b"));
        let address = format!("10.213.{third}.1");
        let network = Self { name, address };
        let name = &network.name;
        run(&format!("ip netns add {name}"))?;
        run(&format!(
            "ip link add {ours} type veth peer name {theirs} netns {name}"
        ))?;
        run(&format!("ip addr add {}/24 dev {ours}", network.address))?;
        run(&format!("ip link set {ours} up"))?;
        network.inside(&format!("ip addr add 10.213.{third}.2/24 dev {theirs}"))?;
        network.inside(&format!("ip link set {theirs} up"))?;
        network.inside("ip link set lo up")?;
        Ok(network)
    }

    fn inside(&self, command: &str) -> Result<()> {
        run(&format!("ip netns exec {} {command}", self.name))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The wire goes with it.
        drop(Command::new("ip").args(["netns", "del", &self.name]).status());
    }
}

fn run(command: &str) -> Result<()> {
    let mut words = command.split_whitespace();
    let ran = Command::new(words.next().context("a command")?)
        .args(words)
        .output()
        .with_context(|| format!("run `{command}`"))?;
    ensure!(
        ran.status.success(),
        "`{command}`: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
    Ok(())
}

/// Seconds in which a wire that says nothing has to be noticed.
const NOTICED_SECONDS: u64 = 50;

#[test]
fn a_network_that_loses_packets_and_one_that_falls_silent_lose_nothing() -> Result<()> {
    let network = Network::make()?;
    let mut stack = Stack::new()?;
    let wire = Proxy::start(&format!("{}:0", network.address), &stack.grpc())?;
    stack.uplink = Some(format!("http://{}", wire.address()));
    stack.agent_under = format!("ip netns exec {}", network.name);
    // Another machine asks for it by an address of no loopback.
    stack.collector_options = vec!["--insecure".to_owned()];
    stack.start_engine()?;
    stack.start_collector()?;
    stack.start_agent_with(&["--interval", "1s", "--insecure"])?;
    stack.wait_for_intervals(2)?;

    let loses = "INPUT -p tcp -m statistic --mode random --probability 0.3 -j DROP";
    network.inside(&format!("iptables -A {loses}"))?;
    let stored = |stack: &Stack| {
        stack
            .sql_number::<u64>("SELECT count() FROM host_samples")
            .unwrap_or(0)
    };
    let before = stored(&stack);
    // The agent may have come before the collector was ready for it.
    let connections = wire.connections();
    wait_until("it goes on with every third packet lost", 60, || {
        stored(&stack) >= before + 10
    })
    .with_context(|| stack.logs())?;
    ensure!(
        wire.connections() == connections,
        "{connections} connections became {}\n{}",
        wire.connections(),
        stack.logs()
    );
    network.inside(&format!("iptables -D {loses}"))?;

    let silent = [
        "INPUT -p tcp -j DROP".to_owned(),
        "OUTPUT -p tcp -j DROP".to_owned(),
    ];
    for rule in &silent {
        network.inside(&format!("iptables -A {rule}"))?;
    }
    let since = Instant::now();
    let lost = |stack: &Stack| {
        let said = stack
            .agent
            .as_ref()
            .and_then(|agent| agent.log().ok())
            .unwrap_or_default();
        said.lines().filter(|line| line.contains("WARN")).count()
    };
    let said = lost(&stack);
    let noticed = wait_until("the silence is noticed", NOTICED_SECONDS, || lost(&stack) > said);
    println!("silence was noticed after {:.0?}", since.elapsed());
    for rule in &silent {
        network.inside(&format!("iptables -D {rule}"))?;
    }
    noticed.with_context(|| stack.logs())?;
    let before = stored(&stack);
    wait_until("it is stored again", 60, || stored(&stack) > before).with_context(|| stack.logs())?;
    // What is on its way when the count is read needs an answer.
    for _pause in 0..10 {
        rest();
    }
    // The page of the agent is inside of its network.
    let agent = stack.agent.take().context("it runs")?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(agent.end(libc::SIGTERM)? == Some(0), "{}", stack.logs());
    stack.check_stored_once().map(drop)
}

//! Everything is killed again and again, and at the end each snapshot that was measured is stored once.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use procscope_tests_faults::{
    AGENTS, COLLECTORS, Fleet,
    books::{check_samples, check_windows, stale_windows},
    dice::Dice,
};
use procscope_tests_kernel::wait_until;

/// Kills of a run, by the test and by faults inside of collectors; `PROCSCOPE_FAULTS_KILLS` names another number.
const KILLS: u64 = 200;

/// Kills for each handover of agents from a collector that is stopped to the other, at most.
const KILLS_A_HANDOVER: u64 = 20;

/// How long the killing may take, on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_mins(5);

/// Where a collector's own fault waits.
const POINTS: [&str; 4] = ["frozen", "body", "commit", "ack"];

/// What was done.
#[derive(Debug, Default)]
struct Done {
    agents: u64,
    collectors: u64,
    engines: u64,
    by_faults: u64,
    handovers: u64,
}

impl Done {
    fn kills(&self) -> u64 {
        self.agents + self.collectors + self.engines + self.by_faults
    }
}

/// A run.
struct Run {
    fleet: Fleet,
    dice: Dice,
    done: Done,
    /// The collector that agents reach.
    live: usize,
    /// Snapshots that each agent's present life has said it spooled.
    spooled: [u64; AGENTS],
    /// The same of all lives before.
    spooled_before: u64,
    /// What is worth saying of it.
    notes: Vec<String>,
}

impl Run {
    /// A fault for the next life of a collector; every fourth has none.
    fn fault(&mut self) -> Option<String> {
        let action = *self.dice.one(&["die", "stop", "stop", ""]);
        let point = *self.dice.one(&POINTS);
        let at = 1 + self.dice.below(4);
        (!action.is_empty()).then(|| format!("{action}:{point}:{at}"))
    }

    fn start_collector(&mut self, at: usize) -> Result<()> {
        let fault = self.fault();
        self.fleet.start_collector(at, fault.as_deref())
    }

    /// Notes what agents say of themselves: what they have spooled has to be stored at the end.
    fn listen(&mut self) {
        for at in 0..AGENTS {
            if let Some(spooled) = self.fleet.agent_figure(at, "procscope_agent_spool_writes_total") {
                self.spooled[at] = self.spooled[at].max(spooled);
            }
        }
    }

    fn switch(&mut self) {
        self.live = (self.live + 1) % COLLECTORS;
        self.fleet.switch_to(self.live);
    }

    /// Sees to collectors that have died or stopped by their faults.
    fn attend(&mut self) -> Result<()> {
        for at in 0..COLLECTORS {
            let Some(part) = &mut self.fleet.collectors[at] else {
                continue;
            };
            if part.has_ended() {
                self.done.by_faults += 1;
                self.fleet.collectors[at] = None;
                if at == self.live {
                    self.switch();
                }
                self.start_collector(at)?;
            } else if is_stopped(part.pid()) {
                self.hand_over(at)?;
            }
        }
        Ok(())
    }

    /// The agents of a collector that is stopped in the middle of something go to the other; then it goes on, or dies.
    fn hand_over(&mut self, at: usize) -> Result<()> {
        if at == self.live {
            self.switch();
            self.done.handovers += 1;
        }
        thread::sleep(self.dice.between_ms(200, 900));
        if self.dice.below(4) == 0 {
            self.kill_collector(at)
        } else {
            if let Some(part) = &self.fleet.collectors[at] {
                part.signal(libc::SIGCONT);
            }
            Ok(())
        }
    }

    fn kill_collector(&mut self, at: usize) -> Result<()> {
        if let Some(part) = self.fleet.collectors[at].take() {
            part.end(libc::SIGKILL)?;
            self.done.collectors += 1;
        }
        self.start_collector(at)
    }

    /// One blow at random.
    fn strike(&mut self) -> Result<()> {
        match self.dice.below(10) {
            0..2 => {
                let at = *self.dice.one(&[0, 1]);
                let part = self.fleet.agents[at].take().context("it runs")?;
                self.listen();
                part.end(libc::SIGKILL)?;
                self.done.agents += 1;
                self.spooled_before += std::mem::take(&mut self.spooled[at]);
                self.fleet.start_agent(at)
            }
            2..5 => {
                let part = self.fleet.engine.take().context("it runs")?;
                part.end(libc::SIGKILL)?;
                self.done.engines += 1;
                thread::sleep(self.dice.between_ms(0, 200));
                self.fleet.start_engine()
            }
            5..8 => {
                let live = self.live;
                if self.dice.below(2) == 0 {
                    self.switch();
                }
                self.kill_collector(live)
            }
            8 => {
                // Stopped wherever it stands.
                let at = self.live;
                if let Some(part) = &self.fleet.collectors[at] {
                    part.signal(libc::SIGSTOP);
                }
                self.hand_over(at)
            }
            _ => {
                self.switch();
                Ok(())
            }
        }
    }
}

/// Whether a process is stopped by a signal.
fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('T'))
}

#[test]
fn whatever_is_killed_each_snapshot_is_stored_once_and_minutes_and_hours_agree() -> Result<()> {
    let (dice, seed) = Dice::new()?;
    println!("PROCSCOPE_FAULTS_SEED={seed}");
    let mut run = Run {
        fleet: Fleet::new()?,
        dice,
        done: Done::default(),
        live: 0,
        spooled: [0; AGENTS],
        spooled_before: 0,
        notes: Vec::new(),
    };
    let outcome = play(&mut run);
    println!(
        "{:?}, {} kills; {}",
        run.done,
        run.done.kills(),
        run.notes.join("; ")
    );
    outcome.with_context(|| format!("PROCSCOPE_FAULTS_SEED={seed}\n{}", run.fleet.logs()))
}

fn play(run: &mut Run) -> Result<()> {
    run.fleet.start_engine()?;
    for at in 0..COLLECTORS {
        run.start_collector(at)?;
    }
    for at in 0..AGENTS {
        run.fleet.start_agent(at)?;
    }
    let started = Instant::now();
    let kills = match std::env::var("PROCSCOPE_FAULTS_KILLS") {
        Ok(text) => text.parse().context("PROCSCOPE_FAULTS_KILLS is a number")?,
        Err(_) => KILLS,
    };
    let enough = |done: &Done| done.kills() >= kills && done.handovers >= kills / KILLS_A_HANDOVER;
    while !enough(&run.done) && started.elapsed() < PATIENCE {
        let until = Instant::now() + run.dice.between_ms(20, 600);
        while Instant::now() < until {
            run.attend()?;
            thread::sleep(Duration::from_millis(20));
        }
        run.listen();
        run.strike()?;
    }
    run.notes.push(format!("killed for {:.0?}", started.elapsed()));
    settle(run)?;
    check_samples(&run.fleet)?;
    let spooled = run.spooled_before + run.spooled.iter().sum::<u64>();
    let stored: u64 = run.fleet.sql("SELECT count() FROM host_samples")?.parse()?;
    run.notes.push(format!(
        "{stored} snapshots stored, of which agents said that they kept {spooled}"
    ));
    ensure!(
        stored >= spooled,
        "{stored} snapshots are stored, but {spooled} were kept"
    );
    wait_until("minutes and hours are computed", 120, || {
        stale_windows(&run.fleet).is_ok_and(|left| left == "0\t0")
    })
    .with_context(|| format!("{:?}", stale_windows(&run.fleet)))?;
    check_windows(&run.fleet)?;
    // The books come first: they say more than a machine that was too slow.
    ensure!(enough(&run.done), "{:?} is not {kills} kills", run.done);
    Ok(())
}

/// Nothing is killed any more: everything that waits arrives, agents stop, and the last minute ends.
fn settle(run: &mut Run) -> Result<()> {
    for at in 0..COLLECTORS {
        if let Some(part) = run.fleet.collectors[at].take() {
            part.end(libc::SIGKILL)?;
        }
        run.fleet.start_collector(at, None)?;
    }
    wait_until("a collector is ready", 60, || run.fleet.is_ready(run.live))?;
    wait_until("the backlog is stored", 120, || {
        (0..AGENTS).all(|at| {
            let figure = |name| run.fleet.agent_figure(at, name);
            figure("procscope_agent_spool_segments") == Some(1)
                && figure("procscope_agent_waiting_snapshots").is_some_and(|waiting| waiting <= 20)
        })
    })?;
    run.listen();
    for at in 0..AGENTS {
        let agent = run.fleet.agents[at].take().context("it runs")?;
        ensure!(
            agent.end(libc::SIGTERM)? == Some(0),
            "agent {at} did not stop well"
        );
    }
    let newest = "SELECT intDiv(toUnixTimestamp64Milli(max(time)), 60000) < intDiv(toUnixTimestamp64Milli(now64(3)) - 6000, 60000) FROM host_samples";
    wait_until("the last minute is over", 90, || {
        run.fleet.sql(newest).is_ok_and(|over| over == "1")
    })?;
    // A start looks everything over, hours that are not over as well.
    for at in 0..COLLECTORS {
        if let Some(part) = run.fleet.collectors[at].take() {
            part.end(libc::SIGKILL)?;
        }
    }
    run.fleet.start_collector(run.live, None)
}

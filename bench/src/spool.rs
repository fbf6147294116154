//! `spool`: what an outage of the collector costs the disk, with 200 processes.

use std::{
    fs::{self, Permissions},
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    loads::own_program,
    report::{Verdict, float},
    tasks::Tasks,
};

/// Processes, those of the machine included, and how many do a little ten times a second.
const PROCESSES: usize = 200;
const ACTIVE: usize = 20;
/// Time in which names and first keys are written, which are not the rule.
const WARM_UP: Duration = Duration::from_secs(10);
/// Time that is measured.
const WINDOW: Duration = Duration::from_mins(2);
/// The default quota has to hold the default age.
const QUOTA_BYTES: f64 = 1_073_741_824.0;
const AGE_SECONDS: f64 = 48.0 * 3_600.0;

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        // Already gone, mostly.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Figures of the agent's page.
struct Page(String);

impl Page {
    fn get(address: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address).context("reach the agent's page")?;
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )?;
        let mut text = String::new();
        stream
            .read_to_string(&mut text)
            .context("read the agent's page")?;
        Ok(Self(text))
    }

    fn figure(&self, name: &str) -> Result<u64> {
        let mut lines = self
            .0
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let figure = lines.next().with_context(|| format!("find {name}"))?;
        figure.parse().with_context(|| format!("read {name}"))
    }
}

/// Measures and prints.
///
/// # Errors
/// When the agent does not start.
pub(crate) fn run() -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let there = fs::read_dir("/proc")
        .context("list processes")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .count();
    let _tasks = Tasks::start(PROCESSES.saturating_sub(there).max(ACTIVE), 1, ACTIVE)?;
    let folder = tempfile::tempdir().context("make a folder")?;
    let token = folder.path().join("token");
    fs::write(&token, "benchmark").context("write a token")?;
    fs::set_permissions(&token, Permissions::from_mode(0o600)).context("keep the token private")?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let agent = Command::new(own_program()?.with_file_name("procscope-agent"))
        // Nobody listens there.
        .args([
            "run",
            "--interval",
            "1s",
            "--collector",
            "http://127.0.0.1:9",
            "--metrics-listen",
            &address,
        ])
        .arg("--state-dir")
        .arg(folder.path())
        .arg("--token-file")
        .arg(&token)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start procscope-agent: benches need root")?;
    let _agent = Agent(agent);
    thread::sleep(WARM_UP);
    let before = Page::get(&address)?;
    let since = Instant::now();
    thread::sleep(WINDOW);
    let after = Page::get(&address)?;
    let minutes = since.elapsed().as_secs_f64() / 60.0;
    let rise = |name: &str| Ok::<_, anyhow::Error>(float(after.figure(name)? - before.figure(name)?));
    let intervals = rise("procscope_agent_intervals_total")?;
    let written = rise("procscope_agent_spool_written_bytes_total")?;
    println!(
        "No collector, intervals of 1 s, {} processes of which {ACTIVE} or more are active.\n",
        after.figure("procscope_agent_processes")?
    );
    println!("{:>12.0} bytes an interval", written / intervals);
    println!("{:>12.1} MiB a day", written / intervals * 86_400.0 / 1_048_576.0);
    println!(
        "{:>12.1} writes a minute",
        rise("procscope_agent_spool_writes_total")? / minutes
    );
    println!(
        "{:>12.1} fsyncs a minute\n",
        rise("procscope_agent_spool_syncs_total")? / minutes
    );
    let share = written / intervals * AGE_SECONDS / QUOTA_BYTES;
    println!(
        "{}",
        verdict.at_most("the default age", share, 1.0, "of the default quota")
    );
    Ok(verdict)
}

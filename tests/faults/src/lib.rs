//! An engine, two collectors behind a wire that leads to one or the other, and agents: each part can be killed and started again.

pub mod books;
pub mod dice;

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _};

use anyhow::{Context as _, Result};
use procscope_tests_e2e::{Part, Proxy, curl, free_port, library};
use procscope_tests_kernel::wait_until;

/// Agents: two, so that batches mix them.
pub const AGENTS: usize = 2;

/// Collectors: an agent is handed from one to the other.
pub const COLLECTORS: usize = 2;

/// Ten intervals a second.
const INTERVAL: &str = "100ms";

/// All parts, their folder, ports and secrets.
pub struct Fleet {
    dir: tempfile::TempDir,
    password: String,
    engine_port: u16,
    collector_ports: [(u16, u16); COLLECTORS],
    metrics_ports: [u16; AGENTS],
    /// What agents connect to.
    proxy: Proxy,
    /// The engine.
    pub engine: Option<Part>,
    /// The collectors.
    pub collectors: [Option<Part>; COLLECTORS],
    /// The agents.
    pub agents: [Option<Part>; AGENTS],
}

impl Fleet {
    /// Folder, ports and secrets; nothing runs yet.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let password = format!("{:032x}", std::process::id());
        for (file, secret) in [("password", &password), ("token", &format!("t{password}"))] {
            fs::OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(dir.path().join(file))?
                .write_all(secret.as_bytes())?;
        }
        let mut collector_ports = [(0, 0); COLLECTORS];
        for ports in &mut collector_ports {
            *ports = (free_port()?, free_port()?);
        }
        let mut metrics_ports = [0; AGENTS];
        for port in &mut metrics_ports {
            *port = free_port()?;
        }
        Ok(Self {
            proxy: Proxy::start("127.0.0.1:0", &format!("127.0.0.1:{}", collector_ports[0].0))?,
            dir,
            password,
            engine_port: free_port()?,
            collector_ports,
            metrics_ports,
            engine: None,
            collectors: [None, None],
            agents: [None, None],
        })
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Starts the engine and waits for it.
    ///
    /// # Errors
    /// When it does not answer in 60 s.
    pub fn start_engine(&mut self) -> Result<()> {
        let arguments = [
            "--data-dir",
            &self.path("engine"),
            "--listen",
            &format!("127.0.0.1:{}", self.engine_port),
            "--library",
            &library()?.display().to_string(),
            "--user",
            "procscope",
            "--password-file",
            &self.path("password"),
            "--die-with-parent",
        ]
        .map(str::to_owned);
        let log = self.dir.path().join("engine.log");
        self.engine = Some(Part::start("procscope-engine", &[], &arguments, log)?);
        let url = format!("http://127.0.0.1:{}/ping", self.engine_port);
        wait_until("the engine answers", 60, || {
            curl(&[&url]).is_ok_and(|text| text == "Ok.\n")
        })
    }

    /// Starts a collector, with a fault that waits in it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_collector(&mut self, at: usize, fault: Option<&str>) -> Result<()> {
        let (grpc, http) = self.collector_ports[at];
        let arguments = [
            "run",
            "--listen",
            &format!("127.0.0.1:{grpc}"),
            "--http-listen",
            &format!("127.0.0.1:{http}"),
            "--store-url",
            &format!("http://127.0.0.1:{}", self.engine_port),
            "--store-user",
            "procscope",
            "--store-password-file",
            &self.path("password"),
            "--ingest-token-file",
            &self.path("token"),
            "--flush-interval",
            "100ms",
            "--die-with-parent",
        ]
        .map(str::to_owned);
        let fault = fault.map(|fault| format!("PROCSCOPE_FAULT={fault}"));
        let under: Vec<&str> = fault.iter().flat_map(|fault| ["env", fault]).collect();
        let log = self.dir.path().join(format!("collector{at}.log"));
        self.collectors[at] = Some(Part::start("procscope-collector", &under, &arguments, log)?);
        Ok(())
    }

    /// Starts an agent.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_agent(&mut self, at: usize) -> Result<()> {
        let arguments = [
            "run",
            "--collector",
            &format!("http://{}", self.proxy.address()),
            "--token-file",
            &self.path("token"),
            "--state-dir",
            &self.path(&format!("agent{at}")),
            "--host",
            &format!("host{at}"),
            "--interval",
            INTERVAL,
            "--metrics-listen",
            &format!("127.0.0.1:{}", self.metrics_ports[at]),
            "--die-with-parent",
        ]
        .map(str::to_owned);
        let log = self.dir.path().join(format!("agent{at}.log"));
        self.agents[at] = Some(Part::start("procscope-agent", &[], &arguments, log)?);
        Ok(())
    }

    /// Lets agents reach this collector, and breaks the connections to the other.
    pub fn switch_to(&self, at: usize) {
        self.proxy
            .lead_to(&format!("127.0.0.1:{}", self.collector_ports[at].0));
    }

    /// Whether a collector is ready.
    #[must_use]
    pub fn is_ready(&self, at: usize) -> bool {
        curl(&[&format!("http://127.0.0.1:{}/readyz", self.collector_ports[at].1)]).is_ok()
    }

    /// A figure of a collector's page; 0 while there is none.
    #[must_use]
    pub fn collector_figure(&self, at: usize, name: &str) -> u64 {
        figure(self.collector_ports[at].1, name).unwrap_or(0)
    }

    /// A figure of an agent's page; `None` while there is no page.
    #[must_use]
    pub fn agent_figure(&self, at: usize, name: &str) -> Option<u64> {
        figure(self.metrics_ports[at], name)
    }

    /// Asks the engine in SQL.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub fn sql(&self, query: &str) -> Result<String> {
        let url = format!("http://127.0.0.1:{}/?database=procscope", self.engine_port);
        let user = format!("procscope:{}", self.password);
        let answer = curl(&["--user", &user, "--data-binary", query, &url]);
        Ok(answer.with_context(|| query.to_owned())?.trim().to_owned())
    }

    /// The last lines of all logs, for a test that failed.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for part in ["engine", "collector0", "collector1", "agent0", "agent1"] {
            let log = fs::read_to_string(self.dir.path().join(format!("{part}.log"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(12)..];
            text.extend(["--- ", part, "\n", &last.join("\n"), "\n"]);
        }
        text
    }
}

fn figure(port: u16, name: &str) -> Option<u64> {
    let page = curl(&["--max-time", "1", &format!("http://127.0.0.1:{port}/metrics")]).ok()?;
    page.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

//! Engine, collector and agent as a person starts them, on ports and folders of their own.

mod installed;
mod part;
mod proxy;

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use procscope_tests_kernel::wait_until;
use serde_json::Value;

pub use self::{
    installed::{binary, cache, library, python_program},
    part::Part,
    proxy::Proxy,
};

/// Figures of one test must not be another's load.
static ALONE: Mutex<()> = Mutex::new(());

/// Waits until no other test of this program runs.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A port that nothing listens on.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Folder, ports and secrets of one installation, and its parts while they run.
pub struct Stack {
    folder: PathBuf,
    /// Goes with the installation, unless somebody keeps it.
    _goes: Option<tempfile::TempDir>,
    engine_port: u16,
    grpc_port: u16,
    http_port: u16,
    metrics_port: u16,
    password: String,
    /// Where the agent sends, when that is not the collector itself.
    pub uplink: Option<String>,
    /// Further options of the collector.
    pub collector_options: Vec<String>,
    /// What the agent is started under, in words.
    pub agent_under: String,
    /// Of the collector's addresses: http or https.
    pub scheme: &'static str,
    /// The agent.
    pub agent: Option<Part>,
    /// The collector.
    pub collector: Option<Part>,
    /// The engine.
    pub engine: Option<Part>,
}

impl Stack {
    /// Folder, ports and secrets; nothing runs yet.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn new() -> Result<Self> {
        let goes = tempfile::tempdir()?;
        let stack = Self::within(goes.path())?;
        Ok(Self {
            _goes: Some(goes),
            ..stack
        })
    }

    /// The same in a folder that stays.
    ///
    /// # Errors
    /// When the secrets cannot be written.
    pub fn within(folder: &Path) -> Result<Self> {
        let password = format!("{:032x}", std::process::id());
        for (file, secret) in [("password", &password), ("token", &format!("t{password}"))] {
            fs::OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(folder.join(file))?
                .write_all(secret.as_bytes())?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            _goes: None,
            engine_port: free_port()?,
            grpc_port: free_port()?,
            http_port: free_port()?,
            metrics_port: free_port()?,
            password,
            uplink: None,
            collector_options: Vec::new(),
            agent_under: String::new(),
            scheme: "http",
            agent: None,
            collector: None,
            engine: None,
        })
    }

    /// Everything runs, and a first snapshot can be asked for.
    ///
    /// # Errors
    /// When a part does not start.
    pub fn start() -> Result<Self> {
        let mut stack = Self::new()?;
        stack.start_engine()?;
        stack.start_collector()?;
        stack.start_agent()?;
        stack.wait_for_intervals(1)?;
        Ok(stack)
    }

    /// A path in the installation's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Port of the engine, and the password of its user `procscope`.
    #[must_use]
    pub fn engine_door(&self) -> (u16, &str) {
        (self.engine_port, &self.password)
    }

    /// Starts the engine.
    ///
    /// # Errors
    /// When it does not answer in 60 s.
    pub fn start_engine(&mut self) -> Result<()> {
        let arguments = [
            "--data-dir".to_owned(),
            self.path("engine"),
            "--listen".to_owned(),
            format!("127.0.0.1:{}", self.engine_port),
            "--library".to_owned(),
            library()?.display().to_string(),
            "--user".to_owned(),
            "procscope".to_owned(),
            "--password-file".to_owned(),
            self.path("password"),
            "--reader".to_owned(),
            "reader".to_owned(),
            "--reader-password-file".to_owned(),
            self.path("password"),
            "--die-with-parent".to_owned(),
        ];
        self.engine = Some(Part::start(
            "procscope-engine",
            &[],
            &arguments,
            self.folder.join("engine.log"),
        )?);
        let url = format!("http://127.0.0.1:{}/ping", self.engine_port);
        wait_until("the engine answers", 60, || {
            curl(&[&url]).is_ok_and(|text| text == "Ok.\n")
        })
    }

    /// Starts the collector; it waits for the store by itself.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_collector(&mut self) -> Result<()> {
        let mut arguments = vec![
            "run".to_owned(),
            "--listen".to_owned(),
            format!("127.0.0.1:{}", self.grpc_port),
            "--http-listen".to_owned(),
            format!("127.0.0.1:{}", self.http_port),
            "--store-url".to_owned(),
            format!("http://127.0.0.1:{}", self.engine_port),
            "--store-user".to_owned(),
            "procscope".to_owned(),
            "--store-password-file".to_owned(),
            self.path("password"),
            format!("--state-dir={}", self.path("collector")),
            "--ingest-token-file".to_owned(),
            self.path("token"),
            "--die-with-parent".to_owned(),
        ];
        arguments.extend(self.collector_options.iter().cloned());
        self.collector = Some(Part::start(
            "procscope-collector",
            &[],
            &arguments,
            self.folder.join("collector.log"),
        )?);
        Ok(())
    }

    /// Starts the agent.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_agent(&mut self) -> Result<()> {
        self.start_agent_with(&[])
    }

    /// Starts the agent with further options.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_agent_with(&mut self, options: &[&str]) -> Result<()> {
        let mut arguments = vec![
            "run".to_owned(),
            "--collector".to_owned(),
            self.uplink.clone().unwrap_or_else(|| self.server()),
            "--token-file".to_owned(),
            self.path("token"),
            "--state-dir".to_owned(),
            self.path("agent"),
            "--metrics-listen".to_owned(),
            format!("127.0.0.1:{}", self.metrics_port),
            "--die-with-parent".to_owned(),
        ];
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        self.agent = Some(Part::start(
            "procscope-agent",
            &self.agent_under.split_whitespace().collect::<Vec<_>>(),
            &arguments,
            self.folder.join("agent.log"),
        )?);
        Ok(())
    }

    /// Address of the collector's gRPC side.
    #[must_use]
    pub fn server(&self) -> String {
        format!("{}://{}", self.scheme, self.grpc())
    }

    /// Address of the collector's HTTP side.
    #[must_use]
    pub fn http(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.http_port)
    }

    /// Address of the agent's own page.
    #[must_use]
    pub fn agent_page(&self) -> String {
        format!("http://127.0.0.1:{}/metrics", self.metrics_port)
    }

    /// A figure of the agent's own page; 0 while there is no page.
    #[must_use]
    pub fn agent_figure(&self, name: &str) -> u64 {
        let page = curl(&[&self.agent_page()]).unwrap_or_default();
        let mut figures = page
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        figures.next().unwrap_or(0)
    }

    /// Runs `procscope` with arguments divided by blanks.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn cli(&self, arguments: &str) -> Result<Output> {
        Command::new(binary("procscope")?)
            .args(["--server", &self.server()])
            .args(arguments.split_whitespace())
            .output()
            .context("run procscope")
    }

    /// What `procscope … --json` answers.
    ///
    /// # Errors
    /// When it fails or answers no JSON.
    pub fn json(&self, arguments: &str) -> Result<Value> {
        let output = self.cli(&format!("{arguments} --json"))?;
        ensure!(
            output.status.success(),
            "procscope {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Asks the engine in SQL, as a person with curl does; the answer's text.
    ///
    /// # Errors
    /// When the engine does not answer, or refuses.
    pub fn sql(&self, query: &str) -> Result<String> {
        let url = format!("http://127.0.0.1:{}/?database=procscope", self.engine_port);
        let user = format!("procscope:{}", self.password);
        Ok(curl(&["--user", &user, "--data-binary", query, &url])?
            .trim()
            .to_owned())
    }

    /// Snapshots that the store holds; 0 while it does not answer.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.sql_number("SELECT count() FROM host_samples").unwrap_or(0)
    }

    /// Asks the engine in SQL as the user that may only read; one object for each row, with the names of the columns.
    ///
    /// # Errors
    /// When the engine does not answer, or refuses.
    pub fn rows(&self, query: &str) -> Result<Vec<Value>> {
        let url = format!(
            "http://127.0.0.1:{}/?database=procscope&default_format=JSONEachRow&max_query_size=100000000\
             &output_format_json_quote_64bit_integers=0&date_time_output_format=iso",
            self.engine_port
        );
        let file = self.path("question.sql");
        fs::write(&file, query)?;
        let user = format!("reader:{}", self.password);
        let told = curl(&["--user", &user, "--data-binary", &format!("@{file}"), &url])?;
        told.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// The answer's text as a number.
    ///
    /// # Errors
    /// As `sql`, and when it is no number.
    pub fn sql_number<T: std::str::FromStr>(&self, query: &str) -> Result<T>
    where
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        let text = self.sql(query)?;
        text.parse().with_context(|| format!("{query}: {text}"))
    }

    /// Address and port of the collector's gRPC side.
    #[must_use]
    pub fn grpc(&self) -> String {
        format!("127.0.0.1:{}", self.grpc_port)
    }

    /// Every epoch is stored from its first snapshot to its last, once each, with all of their rows; how many they are.
    ///
    /// # Errors
    /// When it is not, or the engine does not answer.
    pub fn check_stored_once(&self) -> Result<u64> {
        let sums = self.sql(
            "SELECT count() = uniqExact(epoch, seq), sum(samples) = (SELECT count() FROM process_samples), \
             sum(exits) = (SELECT count() FROM process_exits) FROM host_samples",
        )?;
        ensure!(sums == "1\t1\t1", "{sums}\n{}", self.logs());
        let gaps = self.sql(
            "SELECT epoch, count() AS n, max(seq) AS last FROM host_samples GROUP BY epoch HAVING n != last",
        )?;
        ensure!(gaps.is_empty(), "snapshots are missing: {gaps}\n{}", self.logs());
        let lost = self.sql(
            "SELECT arrayJoin(mapKeys(losses)) AS reason FROM host_samples WHERE reason LIKE 'spool%' OR reason IN \
             ('queue_full', 'poison')",
        )?;
        ensure!(lost.is_empty(), "lost: {lost}\n{}", self.logs());
        self.sql_number("SELECT count() FROM host_samples")
    }

    /// Waits until so many intervals can be asked for.
    ///
    /// # Errors
    /// When they cannot in 90 s.
    pub fn wait_for_intervals(&self, count: u64) -> Result<()> {
        wait_until(&format!("{count} intervals are stored"), 90, || {
            self.sql_number::<u64>("SELECT count() FROM host_samples")
                .is_ok_and(|stored| stored >= count)
        })
        .with_context(|| self.logs())
    }

    /// The logs of all parts, for a test that failed.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for part in ["engine", "collector", "agent"] {
            let log = fs::read_to_string(self.folder.join(format!("{part}.log"))).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(8).collect();
            text.extend(["--- ", part, "\n"]);
            for line in tail.into_iter().rev() {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }

    /// Stops agent, collector and engine in this order, as a service manager would; their exit codes.
    ///
    /// # Errors
    /// When one does not end.
    pub fn stop(&mut self) -> Result<Vec<Option<i32>>> {
        let parts = [self.agent.take(), self.collector.take(), self.engine.take()];
        parts
            .into_iter()
            .flatten()
            .map(|part| part.end(libc::SIGTERM))
            .collect()
    }
}

/// Runs curl; what it printed.
///
/// # Errors
/// When the answer is no success.
pub fn curl(arguments: &[&str]) -> Result<String> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail-with-body", "--max-time", "20"])
        .args(arguments)
        .output()
        .context("run curl (see cargo xtask setup)")?;
    ensure!(
        output.status.success(),
        "curl: {} {}",
        String::from_utf8_lossy(&output.stderr).trim(),
        String::from_utf8_lossy(&output.stdout).trim()
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs a program that must fail: one line on stderr, this exit code, and these words.
///
/// # Errors
/// When it does otherwise.
pub fn refused(command: &mut Command, code: i32, says: &[&str]) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut status = None;
    let ended = wait_until("it has ended", 30, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    });
    if ended.is_err() {
        drop(child.kill());
    }
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ended.with_context(|| error.clone().into_owned())?;
    ensure!(
        status.and_then(|status| status.code()) == Some(code),
        "{command:?}: {status:?} {error}"
    );
    let lines: Vec<&str> = error.lines().filter(|line| line.contains("error: ")).collect();
    ensure!(lines.len() == 1, "{command:?}: one line, not: {error}");
    for word in says {
        ensure!(
            lines[0].contains(word),
            "{command:?}: `{word}` is missing in: {error}"
        );
    }
    Ok(())
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// An RFC 3339 time in milliseconds since 1970.
///
/// # Errors
/// When it is none.
pub fn time_ms(value: &Value) -> Result<i64> {
    let text = value.as_str().with_context(|| format!("{value} is no time"))?;
    Ok(text.parse::<jiff::Timestamp>()?.as_millisecond())
}

/// A short rest between two questions.
pub fn rest() {
    std::thread::sleep(Duration::from_millis(20));
}

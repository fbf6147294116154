//! A real engine for tests: started on a free port in a folder of its own, stopped when the test ends.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

pub const PASSWORD: &str = "s3cret-of-the-test";
pub const READER_PASSWORD: &str = "s3cret-of-the-reader";

/// A running `procscope-engine`.
pub struct Engine {
    child: Child,
    dir: PathBuf,
    owned: Option<tempfile::TempDir>,
    pub address: String,
}

impl Engine {
    /// Starts one in a folder that goes with it.
    pub fn start() -> Self {
        let owned = tempfile::tempdir().unwrap();
        let mut engine = Self::start_in(owned.path(), &[]);
        engine.owned = Some(owned);
        engine
    }

    /// Starts one in `dir`, with further arguments.
    pub fn start_in(dir: &Path, extra: &[&str]) -> Self {
        let data_dir = dir.join("data");
        let mut child = command(dir, extra).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_mins(1);
        let address = loop {
            if let Ok(address) = fs::read_to_string(data_dir.join("listen"))
                && TcpStream::connect(address.trim()).is_ok()
            {
                break address.trim().to_owned();
            }
            if child.try_wait().unwrap().is_some() || Instant::now() > deadline {
                child.kill().unwrap();
                let output = child.wait_with_output().unwrap();
                panic!(
                    "the engine did not start: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        // What it logs later must not fill the pipe.
        let mut stderr = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            let mut log = Vec::new();
            drop(stderr.read_to_end(&mut log));
            if std::env::var_os("PROCSCOPE_TEST_LOG").is_some() {
                drop(std::io::stderr().write_all(&log));
            }
        });
        Self {
            child,
            dir: dir.to_path_buf(),
            owned: None,
            address,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The official client, signed in.
    pub fn client(&self) -> clickhouse::Client {
        clickhouse::Client::default()
            .with_url(self.url())
            .with_user("procscope")
            .with_password(PASSWORD)
    }

    /// Posts a statement with curl, signed in; status and body.
    pub fn post(&self, parameters: &str, body: &[u8]) -> (u16, String) {
        let answer = self.curl(parameters, &["--data-binary", "@-"], body);
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// Posts a statement that must succeed.
    pub fn sql(&self, statement: &str) -> String {
        let (status, body) = self.post("", statement.as_bytes());
        assert_eq!(status, 200, "{statement}: {body}");
        body
    }

    /// Runs curl on `/?PARAMETERS`, signed in by headers.
    pub fn curl(&self, parameters: &str, arguments: &[&str], stdin: &[u8]) -> Answer {
        let user = [
            "-H",
            "X-ClickHouse-User: procscope",
            "-H",
            &format!("X-ClickHouse-Key: {PASSWORD}"),
        ]
        .map(str::to_owned);
        let arguments: Vec<_> = user
            .iter()
            .map(String::as_str)
            .chain(arguments.iter().copied())
            .collect();
        curl(&format!("{}/?{parameters}", self.url()), &arguments, stdin)
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Tells it to stop; the exit code and how long it took.
    pub fn terminate(mut self) -> (Option<i32>, Duration) {
        let started = Instant::now();
        signal(self.pid(), "TERM");
        let status = self.child.wait().unwrap();
        (status.code(), started.elapsed())
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Resident set size in MiB. Source: `/proc/PID/status`.
    pub fn rss_mb(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// The binary with its usual arguments and a folder for its files.
pub fn command(dir: &Path, extra: &[&str]) -> Command {
    for (name, secret) in [("password", PASSWORD), ("reader-password", READER_PASSWORD)] {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(dir.join(name))
            .unwrap();
        file.write_all(secret.as_bytes()).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_procscope-engine"));
    command
        .args([
            "--listen",
            "127.0.0.1:0",
            "--memory-limit",
            "1GiB",
            "--reader",
            "viewer",
            "--die-with-parent=false",
        ])
        .arg("--data-dir")
        .arg(dir.join("data"))
        .arg("--password-file")
        .arg(dir.join("password"))
        .arg("--reader-password-file")
        .arg(dir.join("reader-password"))
        .args(extra)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Runs the binary to its end, for what is refused at start.
pub fn run_to_end(dir: &Path, extra: &[&str]) -> Output {
    command(dir, extra).stderr(Stdio::piped()).output().unwrap()
}

/// What curl got.
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: Vec<u8>,
    /// curl's exit code: 18 is an answer that broke off.
    pub exit: i32,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub fn curl(url: &str, arguments: &[&str], stdin: &[u8]) -> Answer {
    let dir = tempfile::tempdir().unwrap();
    let headers = dir.path().join("headers");
    let mut child = Command::new("curl")
        .args(["-sS", "--max-time", "60", "-D"])
        .arg(&headers)
        .args(arguments)
        .arg(url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("curl is needed: `cargo xtask setup` installs it");
    let mut pipe = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    let writer = std::thread::spawn(move || drop(pipe.write_all(&stdin)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let headers = fs::read_to_string(headers).unwrap_or_default();
    // With `Expect: 100-continue` there are two heads; the last one counts.
    let last = headers
        .trim_end()
        .rsplit("\r\n\r\n")
        .next()
        .unwrap_or_default()
        .to_owned();
    let status = last
        .split_whitespace()
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    Answer {
        status,
        headers: last,
        body: output.stdout,
        exit: output.status.code().unwrap_or(-1),
    }
}

/// Waits for a state with a deadline.
pub fn wait_until(what: &str, longest: Duration, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + longest;
    while !reached() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The numbers below `end`, a line each.
pub fn lines(end: u32) -> String {
    let numbers: Vec<_> = (0..end).map(|number| number.to_string()).collect();
    numbers.join("\n") + "\n"
}

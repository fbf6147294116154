//! A running engine with our schema in it.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use crate::tools::{Running, cache, deploy, pipe, program, run, tool, wait_for, write_secret};

const PASSWORD: &str = "0123456789abcdef";
const READER_PASSWORD: &str = "fedcba9876543210";
/// The user of the dashboards, as the units and manifests name it.
pub(crate) const READER: &str = "procscope_reader";

/// An engine of this test alone; gone with it.
pub(crate) struct Store {
    /// Where it listens on loopback.
    pub(crate) port: u16,
    folder: tempfile::TempDir,
    _engine: Running,
}

/// A port of loopback that nobody listens on right now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// The engine's library, where set-up put it.
fn library() -> PathBuf {
    if let Some(path) = std::env::var_os("PROCSCOPE_LIBCHDB") {
        return path.into();
    }
    let folders = std::fs::read_dir(cache())
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path());
    folders
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("libchdb-"))
        })
        .map(|path| path.join("libchdb.so"))
        .find(|path| path.is_file())
        .expect("the engine library is not there: run `cargo xtask setup`")
}

impl Store {
    /// Starts it and waits until it answers.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let password = folder.path().join("password");
        write_secret(&password, PASSWORD);
        let reader_password = folder.path().join("reader-password");
        write_secret(&reader_password, READER_PASSWORD);
        let port = free_port();
        let engine = Running::start(
            Command::new(program("procscope-engine"))
                .arg("--data-dir")
                .arg(folder.path().join("data"))
                .arg(format!("--listen=127.0.0.1:{port}"))
                .arg("--library")
                .arg(library())
                .arg("--user=procscope")
                .arg("--password-file")
                .arg(&password)
                .args(["--reader", READER, "--reader-password-file"])
                .arg(&reader_password)
                .stdout(Stdio::null()),
        );
        let store = Self {
            port,
            folder,
            _engine: engine,
        };
        wait_for("the engine to answer", Duration::from_mins(1), || {
            let mut curl = Command::new(tool("curl"));
            curl.args(["--silent", "--fail", "--max-time", "5"])
                .arg(format!("http://127.0.0.1:{port}/ping"));
            curl.output().unwrap().status.success().then_some(())
        });
        store
    }

    /// Brings the schema in, as a collector with the settings of our manifests does.
    pub(crate) fn migrate(&self) {
        run(Command::new(program("procscope-collector"))
            .arg("migrate")
            .arg("--config")
            .arg(deploy("kubernetes").join("collector.toml"))
            .arg(format!("--store-url=http://127.0.0.1:{}", self.port))
            .arg("--store-user=procscope")
            .arg("--store-password-file")
            .arg(self.folder.path().join("password")));
    }

    /// Runs one statement as the collector.
    pub(crate) fn write(&self, sql: &str) -> String {
        self.query("procscope", PASSWORD, sql)
    }

    /// Runs one query as a dashboard.
    pub(crate) fn read(&self, sql: &str) -> String {
        self.query(READER, READER_PASSWORD, sql)
    }

    /// The limit of time is the one that Grafana's plugin sends with each query.
    fn query(&self, user: &str, password: &str, sql: &str) -> String {
        let mut curl = Command::new(tool("curl"));
        curl.args([
            "--silent",
            "--show-error",
            "--fail-with-body",
            "--max-time",
            "60",
            "--data-binary",
            "@-",
        ])
        .arg("--header")
        .arg(format!("X-ClickHouse-User: {user}"))
        .arg("--header")
        .arg(format!("X-ClickHouse-Key: {password}"))
        .arg(format!(
            "http://127.0.0.1:{}/?database=procscope&max_execution_time=60",
            self.port
        ));
        pipe(&mut curl, sql)
    }
}

//! Statements to the engine that may take as long as they like, and waiting for its merges.

use std::{
    fmt::Display,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use axum::{
    body::{Body, Bytes},
    http::Request,
};
use procscope_tests_e2e::Stack;

use crate::http::Client;

/// How long the engine may merge.
const MERGES_MAX: Duration = Duration::from_mins(10);

/// One statement, with parameters and data.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    url: String,
    password: String,
    body: Bytes,
}

impl Statement {
    /// A statement to the engine of this installation.
    pub(crate) fn new(stack: &Stack, sql: &str) -> Self {
        let (port, password) = stack.engine_door();
        Self {
            url: format!("http://127.0.0.1:{port}/?database=procscope"),
            password: password.to_owned(),
            body: Bytes::from(sql.to_owned()),
        }
    }

    /// With a setting, or a parameter: `param_name`.
    pub(crate) fn with(mut self, name: &str, value: impl Display) -> Self {
        self.url.extend(["&", name, "=", &value.to_string()]);
        self
    }

    /// With data, which stand behind the statement.
    pub(crate) fn with_data(mut self, data: Bytes) -> Self {
        let sql = String::from_utf8_lossy(&self.body).replace(' ', "%20");
        self.url.extend(["&query=", &sql]);
        self.body = data;
        self
    }

    /// Sends it; the whole answer.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) async fn send(self, client: &Client) -> Result<Bytes> {
        let request = Request::post(self.url)
            .header("x-clickhouse-user", "procscope")
            .header("x-clickhouse-key", self.password)
            .body(Body::from(self.body))?;
        client.succeed(request).await
    }
}

/// Waits until the engine has merged what it wants to.
///
/// # Errors
/// When it does not answer, or goes on and on.
pub(crate) fn settle(stack: &Stack) -> Result<()> {
    let started = Instant::now();
    let mut quiet = 0;
    while quiet < 2 {
        let merges: u64 = stack.sql_number("SELECT count() FROM system.merges")?;
        quiet = if merges == 0 { quiet + 1 } else { 0 };
        ensure!(
            started.elapsed() < MERGES_MAX,
            "the engine merges for longer than {MERGES_MAX:?}: other work takes the machine"
        );
        thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

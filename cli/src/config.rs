//! Options over environment over file, checked once into `Settings`.

use std::{path::PathBuf, time::Duration};

use jiff::Timestamp;
use procscope_proto::v1::TimeRange;
use procscope_startup::{
    Failure, Result, read_config,
    wire::{Call, Files, Way},
};
use serde::Deserialize;
use tonic::transport::Endpoint;

use crate::{
    args::Global,
    text,
    when::{self, When},
};

const DEFAULT_SERVER: &str = "http://127.0.0.1:7400";
/// A collector on the same continent answers a connection within a second; this leaves room for a slow link.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A dead peer is noticed within the sum of both.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    server: Option<String>,
    token_file: Option<PathBuf>,
    tls_ca: Option<PathBuf>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    insecure: Option<bool>,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Table,
    Json,
    Csv,
}

/// What all commands need to know.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub format: Format,
    pub hosts: Vec<String>,
    pub limit: Option<u32>,
    /// `None`: the range that the server takes by default.
    pub range: Option<TimeRange>,
    /// The collector's URL, safe to show.
    pub server: String,
    pub call: Call,
}

impl Settings {
    /// Reads the file and the token, and checks all of it.
    pub(crate) fn new(common: &procscope_startup::Common, global: &Global, now: Timestamp) -> Result<Self> {
        let raw: Raw = read_config(common.config.as_deref())?;
        let server = global
            .server
            .clone()
            .or(raw.server)
            .unwrap_or_else(|| DEFAULT_SERVER.to_owned());
        let files = Files {
            tls_ca: global.tls_ca.clone().or(raw.tls_ca),
            tls_cert: global.tls_cert.clone().or(raw.tls_cert),
            tls_key: global.tls_key.clone().or(raw.tls_key),
            token: global.token_file.clone().or(raw.token_file),
        };
        let insecure = global.insecure || raw.insecure.unwrap_or(false);
        let (mut call, _as_read_first) =
            Way::new("--server", &text::safe(&server), files, insecure, tune)?.call();
        call.endpoint = call
            .endpoint
            .user_agent(concat!("procscope/", env!("CARGO_PKG_VERSION")))
            .map_err(Failure::failed)?;
        Ok(Self {
            format: match (global.json, global.csv) {
                (true, _) => Format::Json,
                (_, true) => Format::Csv,
                _ => Format::Table,
            },
            hosts: global.hosts.clone(),
            limit: global.limit,
            range: range(global.since, global.until, now)?,
            server: text::safe(&server),
            call,
        })
    }

    /// How many rows are shown where all are shown when nobody says how many.
    pub(crate) fn rows_max(&self) -> usize {
        self.limit
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(usize::MAX)
    }

    /// The limit, when it is one that this command can keep.
    pub(crate) fn limit_up_to(&self, max: u32, default: u32) -> Result<u32> {
        match self.limit {
            Some(limit) if limit > max => Err(Failure::usage(format_args!(
                "--limit {limit} is too many rows here: the most is {max}"
            ))),
            limit => Ok(limit.unwrap_or(default)),
        }
    }
}

fn range(since: Option<When>, until: Option<When>, now: Timestamp) -> Result<Option<TimeRange>> {
    when::range(since, until, now).map_err(Failure::usage)
}

fn tune(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use clap::Parser as _;

    use super::*;
    use crate::args::Cli;

    fn check(line: &str, file: &str) -> Result<Settings> {
        let dir = tempfile::tempdir().unwrap();
        let (config, token) = (dir.path().join("procscope.toml"), dir.path().join("token"));
        fs::write(&token, "s3cret\n").unwrap();
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&config, file.replace("TOKEN", &token.display().to_string())).unwrap();
        let line = format!("procscope --config {} {line}", config.display())
            .replace("TOKEN", &token.display().to_string());
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        Settings::new(&cli.common, &cli.global, "2026-01-31T12:00:00Z".parse().unwrap())
    }

    #[test]
    fn an_option_wins_over_the_file_and_the_file_over_the_default() {
        assert_eq!(check("hosts", "").unwrap().server, DEFAULT_SERVER);
        assert_eq!(
            check("hosts", "server = \"http://[::1]:1\"").unwrap().server,
            "http://[::1]:1"
        );
        let both = check("hosts --server http://localhost:2", "server = \"http://[::1]:1\"").unwrap();
        assert_eq!(both.server, "http://localhost:2");
    }

    #[test]
    fn an_unknown_key_or_a_broken_url_is_wrong_usage() {
        for (line, file) in [
            ("hosts", "sever = \"http://[::1]:1\""),
            ("hosts --server localhost:7400", ""),
            ("hosts --server ftp://localhost:7400", ""),
            ("hosts --server https://localhost:7400 --tls-ca /nonexistent", ""),
            ("hosts --tls-ca /nonexistent", ""),
            ("hosts --server http://localhost:7400/api", ""),
            ("hosts --server http://user:password@localhost:7400", ""),
            ("hosts --server http://", ""),
            ("hosts --since 1h --until 2h", ""),
            ("hosts --token-file /nonexistent", ""),
        ] {
            assert_eq!(check(line, file).unwrap_err().code(), 2, "{line} {file}");
        }
    }

    #[test]
    fn a_token_does_not_leave_the_machine_in_the_clear_without_a_word() {
        assert!(
            check("hosts --token-file TOKEN", "")
                .unwrap()
                .call
                .token
                .is_some()
        );
        let refused = check("hosts --token-file TOKEN --server http://collector:7400", "").unwrap_err();
        assert!(
            refused.code() == 2 && refused.to_string().contains("--insecure"),
            "{refused}"
        );
        assert!(
            check(
                "hosts --server http://collector:7400 --insecure",
                "token_file = \"TOKEN\""
            )
            .is_ok()
        );
        let shown = format!("{:?}", check("hosts --token-file TOKEN", "").unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}

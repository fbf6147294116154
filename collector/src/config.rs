//! File, environment and arguments into one checked `Config`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use procscope_startup::{Failure, Result, check_listen, parse_duration, read_config, read_secret};
use serde::Deserialize;

use crate::retention::{Retention, RetentionKeys};

/// Where gRPC listens unless told otherwise.
const LISTEN: &str = "127.0.0.1:7400";

/// Where HTTP listens unless told otherwise.
const HTTP_LISTEN: &str = "127.0.0.1:7401";

/// The embedded engine's address.
const STORE_URL: &str = "http://127.0.0.1:8123";

/// Half a second: inserts of a small fleet stay few, and a sample is visible well within 3 s.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);

/// Shorter intervals make parts faster than the store merges them; longer ones break the promise of 3 s.
const FLUSH_INTERVAL_ALLOWED: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(50)..=Duration::from_mins(1);

/// Options of `run`, `check` and `migrate`. Each is also a key of the file, with `_` for `-`; those of the store stand
/// in its table `[store]`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Address for gRPC: ingest, queries, health [default: 127.0.0.1:7400]
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        env = "PROCSCOPE_COLLECTOR_LISTEN"
    )]
    pub listen: Option<SocketAddr>,
    /// Address for HTTP: the page, /metrics, /healthz, /readyz [default: 127.0.0.1:7401]
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        env = "PROCSCOPE_COLLECTOR_HTTP_LISTEN"
    )]
    pub http_listen: Option<SocketAddr>,
    /// ClickHouse over HTTP: the embedded engine, or a server of your own [default: `http://127.0.0.1:8123`]
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "PROCSCOPE_COLLECTOR_STORE_URL"
    )]
    pub store_url: Option<String>,
    /// User in the store [default: procscope]
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "PROCSCOPE_COLLECTOR_STORE_USER"
    )]
    pub store_user: Option<String>,
    /// File that holds the user's password; none: no password
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "PROCSCOPE_COLLECTOR_STORE_PASSWORD_FILE"
    )]
    pub store_password_file: Option<PathBuf>,
    /// Database in the store [default: procscope]
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "PROCSCOPE_COLLECTOR_STORE_DATABASE"
    )]
    pub store_database: Option<String>,
    /// File that holds the token agents have to show
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "PROCSCOPE_COLLECTOR_INGEST_TOKEN_FILE"
    )]
    pub ingest_token_file: Option<PathBuf>,
    /// Allow addresses other than loopback without TLS, and any Host header
    #[arg(long, global = true, env = "PROCSCOPE_COLLECTOR_INSECURE")]
    pub insecure: bool,
    /// How long samples may wait for a batch, 50ms to 60s [default: 500ms]
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse_duration,
          env = "PROCSCOPE_COLLECTOR_FLUSH_INTERVAL")]
    pub flush_interval: Option<Duration>,
    /// Stop when the process that started this one ends
    #[arg(long, global = true, env = "PROCSCOPE_COLLECTOR_DIE_WITH_PARENT")]
    pub die_with_parent: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    listen: Option<SocketAddr>,
    http_listen: Option<SocketAddr>,
    ingest_token_file: Option<PathBuf>,
    insecure: Option<bool>,
    flush_interval: Option<String>,
    die_with_parent: Option<bool>,
    #[serde(default)]
    store: StoreKeys,
    #[serde(default)]
    retention: RetentionKeys,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreKeys {
    url: Option<String>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    database: Option<String>,
}

/// How the collector runs. Checked: it cannot be wrong, except for what only the outside world knows.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address for gRPC.
    pub listen: SocketAddr,
    /// Address for HTTP.
    pub http_listen: SocketAddr,
    /// The store.
    pub store: StoreConfig,
    /// The token agents have to show; `None`: no agent is let in.
    pub ingest_token: Option<Secret>,
    /// Any Host header is accepted.
    pub insecure: bool,
    /// How long samples may wait for a batch.
    pub flush_interval: Duration,
    /// Stop with the parent process.
    pub die_with_parent: bool,
    /// How long rows are kept, and how full the disk may get.
    pub retention: Retention,
}

/// How to reach the store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// `http://HOST:PORT`.
    pub url: String,
    /// User name.
    pub user: String,
    /// Password, if the user has one.
    pub password: Option<Secret>,
    /// Database name, an identifier.
    pub database: String,
}

impl StoreConfig {
    /// Whether the store is on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        let rest = self
            .url
            .split_once("://")
            .map_or(self.url.as_str(), |(_, rest)| rest);
        ["127.", "localhost", "[::1]"]
            .iter()
            .any(|local| rest.starts_with(local))
    }
}

/// A text that is never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Layers options (which clap has joined with the environment) over the file over the defaults, and checks them.
///
/// # Errors
/// Exit code 2, naming the option and what is allowed.
pub fn load(options: &Options, file: Option<&Path>) -> Result<Config> {
    let file: Keys = read_config(file)?;
    let insecure = options.insecure || file.insecure.unwrap_or(false);
    let address = |name: &str, option: Option<SocketAddr>, key: Option<SocketAddr>, default: &str| {
        let address = match option.or(key) {
            Some(address) => address,
            None => default
                .parse()
                .map_err(|error| Failure::usage(format_args!("{name} {default}: {error}")))?,
        };
        check_listen(name, address, insecure)?;
        Ok(address)
    };
    let flush_interval = match (options.flush_interval, &file.flush_interval) {
        (Some(interval), _) => interval,
        (None, Some(text)) => {
            parse_duration(text).map_err(|why| Failure::usage(format_args!("flush_interval: {why}")))?
        }
        (None, None) => FLUSH_INTERVAL,
    };
    if !FLUSH_INTERVAL_ALLOWED.contains(&flush_interval) {
        return Err(Failure::usage(
            "--flush-interval has to lie between 50ms and 60s; leave it out for 500ms",
        ));
    }
    let secret = |file: Option<&PathBuf>| file.map(|file| read_secret(file).map(Secret::new)).transpose();
    Ok(Config {
        listen: address("--listen", options.listen, file.listen, LISTEN)?,
        http_listen: address(
            "--http-listen",
            options.http_listen,
            file.http_listen,
            HTTP_LISTEN,
        )?,
        store: StoreConfig {
            url: checked_url(options.store_url.clone().or(file.store.url))?,
            user: options
                .store_user
                .clone()
                .or(file.store.user)
                .unwrap_or_else(|| "procscope".to_owned()),
            password: secret(
                options
                    .store_password_file
                    .as_ref()
                    .or(file.store.password_file.as_ref()),
            )?,
            database: checked_database(options.store_database.clone().or(file.store.database))?,
        },
        ingest_token: secret(
            options
                .ingest_token_file
                .as_ref()
                .or(file.ingest_token_file.as_ref()),
        )?,
        insecure,
        flush_interval,
        die_with_parent: options.die_with_parent || file.die_with_parent.unwrap_or(false),
        retention: file.retention.check()?,
    })
}

fn checked_url(url: Option<String>) -> Result<String> {
    let url = url.unwrap_or_else(|| STORE_URL.to_owned());
    let fail = |why: &str| {
        Failure::usage(format_args!(
            "--store-url `{url}` {why}; write it as http://HOST:PORT, such as {STORE_URL}"
        ))
    };
    let parsed: http::Uri = url
        .parse()
        .map_err(|error| fail(&format!("is no URL: {error}")))?;
    if parsed.scheme_str() != Some("http") {
        return Err(fail("does not begin with http://"));
    }
    if parsed
        .authority()
        .is_none_or(|authority| authority.as_str().contains('@'))
    {
        return Err(fail(
            "carries credentials, which belong into --store-user and --store-password-file",
        ));
    }
    Ok(url)
}

fn checked_database(name: Option<String>) -> Result<String> {
    let name = name.unwrap_or_else(|| "procscope".to_owned());
    let good = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if good {
        Ok(name)
    } else {
        Err(Failure::usage(format_args!(
            "--store-database `{name}` is no name: use at most 64 letters, digits and underscores"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(options: &Options, text: &str) -> Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("collector.toml");
        std::fs::write(&file, text).unwrap();
        load(options, Some(&file))
    }

    #[test]
    fn defaults_are_loopback() {
        let config = load(&Options::default(), None).unwrap();
        assert_eq!(config.listen.to_string(), LISTEN);
        assert_eq!(config.http_listen.to_string(), HTTP_LISTEN);
        assert!(config.store.is_local());
    }

    #[test]
    fn an_option_wins_over_the_file() {
        let file = "listen = \"127.0.0.1:1\"\nflush_interval = \"1s\"\n[store]\nurl = \"http://ch:8123\"\n";
        let options = Options {
            listen: Some("127.0.0.1:2".parse().unwrap()),
            ..Options::default()
        };
        let config = check(&options, file).unwrap();
        assert_eq!(config.listen.port(), 2);
        assert_eq!(config.flush_interval, Duration::from_secs(1));
        assert!(!config.store.is_local());
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        for (file, name) in [
            ("listen = \"0.0.0.0:1\"", "--listen"),
            ("flush_interval = \"1ms\"", "--flush-interval"),
            ("flush = 1", "flush"),
            ("[store]\nurl = \"8123\"", "--store-url"),
            ("[store]\nurl = \"http://me:pw@h:1\"", "--store-user"),
            ("[store]\ndatabase = \"a b\"", "--store-database"),
            ("[store]\nhost = \"x\"", "host"),
            ("[retention]\nsamples_days = 0", "samples_days"),
            ("[retention]\nminutes_days = 3", "minutes_days"),
            ("[retention]\nhours_days = 29", "hours_days"),
            ("[retention]\ndays = 3", "days"),
        ] {
            let failure = check(&Options::default(), file).unwrap_err();
            assert!(
                failure.code() == 2 && failure.to_string().contains(name),
                "{failure}"
            );
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret::new("hush".to_owned())), "Secret(…)");
    }
}

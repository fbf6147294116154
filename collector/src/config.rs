//! File, environment and arguments into one checked `Config`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use procscope_startup::{Failure, Result, check_listen, parse_duration, read_config, read_secret};

mod options;

use options::Keys;
pub use options::Options;

use crate::{
    access::{limits::Rate, tls},
    api::watch::UNREAD_MAX,
    groups::NamedGroups,
    retention::Retention,
};

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

/// Where the tokens are kept unless told otherwise.
const STATE_DIR: &str = "/var/lib/procscope-collector";

/// An hour: a certificate that was replaced or taken back is shown again by then.
const STREAM_MAX_AGE: Duration = Duration::from_hours(1);

/// Streams that are opened more often than they carry something make work and no progress.
const STREAM_MAX_AGE_ALLOWED: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_hours(24 * 7);

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
    /// Where the tokens are kept.
    pub state_dir: PathBuf,
    /// Certificates; `None`: both ports are in the clear.
    pub tls: Option<tls::Files>,
    /// What one agent may send.
    pub rate: Rate,
    /// How long a stream of an agent may last.
    pub stream_max_age: Duration,
    /// Any Host header is accepted, and reading needs no token.
    pub insecure: bool,
    /// How long samples may wait for a batch.
    pub flush_interval: Duration,
    /// How long those who listen or fetch may leave an answer unread.
    pub unread_max: Duration,
    /// Stop with the parent process.
    pub die_with_parent: bool,
    /// How long rows are kept, and how full the disk may get.
    pub retention: Retention,
    /// Groups of processes that can be asked for by name.
    pub groups: NamedGroups,
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
    let named = |option: &Option<PathBuf>, key: &Option<PathBuf>| option.clone().or_else(|| key.clone());
    let tls = certificates(
        named(&options.tls_cert, &file.tls_cert),
        named(&options.tls_key, &file.tls_key),
        named(&options.tls_client_ca, &file.tls_client_ca),
    )?;
    let stream_max_age = duration(
        "stream_max_age",
        options.stream_max_age,
        file.stream_max_age.as_deref(),
        STREAM_MAX_AGE,
    )?;
    if !STREAM_MAX_AGE_ALLOWED.contains(&stream_max_age) {
        return Err(Failure::usage(
            "--stream-max-age has to lie between 1s and 7d; leave it out for 1h",
        ));
    }
    let address = |name: &str, option: Option<SocketAddr>, key: Option<SocketAddr>, default: &str| {
        let address = match option.or(key) {
            Some(address) => address,
            None => default
                .parse()
                .map_err(|error| Failure::usage(format_args!("{name} {default}: {error}")))?,
        };
        let remedy = "make certificates with `procscope-collector certs init` and name them with --tls-cert and \
                      --tls-key, ";
        check_listen(name, address, insecure || tls.is_some(), remedy)?;
        Ok(address)
    };
    let flush_interval = duration(
        "flush_interval",
        options.flush_interval,
        file.flush_interval.as_deref(),
        FLUSH_INTERVAL,
    )?;
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
        state_dir: named(&options.state_dir, &file.state_dir).unwrap_or_else(|| PathBuf::from(STATE_DIR)),
        tls,
        rate: Rate {
            snapshots: at_least_one(
                "agent_snapshots_per_second",
                options
                    .agent_snapshots_per_second
                    .or(file.agent_snapshots_per_second),
                Rate::default().snapshots,
            )?,
            bytes: at_least_one(
                "agent_bytes_per_second",
                options.agent_bytes_per_second.or(file.agent_bytes_per_second),
                Rate::default().bytes,
            )?,
        },
        stream_max_age,
        insecure,
        flush_interval,
        unread_max: UNREAD_MAX,
        die_with_parent: options.die_with_parent || file.die_with_parent.unwrap_or(false),
        retention: file.retention.check()?,
        groups: NamedGroups::check(file.groups)?,
    })
}

/// The folder that keeps the tokens, for commands that need nothing else.
///
/// # Errors
/// Exit code 2 when the file cannot be used.
pub fn state_dir(options: &Options, file: Option<&Path>) -> Result<PathBuf> {
    let file: Keys = read_config(file)?;
    Ok(options
        .state_dir
        .clone()
        .or(file.state_dir)
        .unwrap_or_else(|| PathBuf::from(STATE_DIR)))
}

fn certificates(
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
) -> Result<Option<tls::Files>> {
    match (cert, key, client_ca) {
        (Some(cert), Some(key), client_ca) => Ok(Some(tls::Files { cert, key, client_ca })),
        (None, None, None) => Ok(None),
        (None, None, Some(_)) => Err(Failure::usage(
            "--tls-client-ca needs a certificate of this collector: name one with --tls-cert and --tls-key",
        )),
        _ => Err(Failure::usage(
            "--tls-cert and --tls-key go together: name both, or none",
        )),
    }
}

fn duration(key: &str, option: Option<Duration>, text: Option<&str>, default: Duration) -> Result<Duration> {
    match (option, text) {
        (Some(duration), _) => Ok(duration),
        (None, Some(text)) => {
            parse_duration(text).map_err(|why| Failure::usage(format_args!("{key}: {why}")))
        }
        (None, None) => Ok(default),
    }
}

fn at_least_one(key: &str, number: Option<u32>, default: u32) -> Result<u32> {
    match number.unwrap_or(default) {
        0 => Err(Failure::usage(format_args!(
            "{key} is 0, which lets nobody send: leave it out"
        ))),
        number => Ok(number),
    }
}

fn checked_url(url: Option<String>) -> Result<String> {
    let url = url.unwrap_or_else(|| STORE_URL.to_owned());
    let fail = |why: &str| {
        Failure::usage(format_args!(
            "--store-url `{url}` {why}; write it as http://HOST:PORT or https://HOST:PORT, such as {STORE_URL}"
        ))
    };
    let parsed: http::Uri = url
        .parse()
        .map_err(|error| fail(&format!("is no URL: {error}")))?;
    if !matches!(parsed.scheme_str(), Some("http" | "https")) {
        return Err(fail("does not begin with http:// or https://"));
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
            ("tls_cert = \"x\"", "--tls-key"),
            ("tls_client_ca = \"x\"", "--tls-cert"),
            ("stream_max_age = \"1ms\"", "--stream-max-age"),
            ("agent_bytes_per_second = 0", "agent_bytes_per_second"),
            ("[store]\nurl = \"ftp://h\"", "--store-url"),
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
    fn an_address_beyond_this_machine_needs_tls_or_a_word() {
        assert!(check(&Options::default(), "listen = \"0.0.0.0:1\"").is_err());
        assert!(check(&Options::default(), "listen = \"0.0.0.0:1\"\ninsecure = true").is_ok());
        let tls = "listen = \"0.0.0.0:1\"\ntls_cert = \"c\"\ntls_key = \"k\"";
        assert!(check(&Options::default(), tls).unwrap().tls.is_some());
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret::new("hush".to_owned())), "Secret(…)");
    }
}

//! What can be set: options, environment, and the keys of the file.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use procscope_startup::parse_duration;
use serde::Deserialize;

use crate::{groups::GroupKeys, retention::RetentionKeys};

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
    /// Folder that keeps the tokens [default: /var/lib/procscope-collector]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "PROCSCOPE_COLLECTOR_STATE_DIR"
    )]
    pub state_dir: Option<PathBuf>,
    /// The collector's certificate for both ports, and those that lead to its authority, PEM
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "PROCSCOPE_COLLECTOR_TLS_CERT"
    )]
    pub tls_cert: Option<PathBuf>,
    /// The key of that certificate, PEM (mode 0600)
    #[arg(long, global = true, value_name = "FILE", env = "PROCSCOPE_COLLECTOR_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// Authorities that certificates of agents and clients come from, PEM
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "PROCSCOPE_COLLECTOR_TLS_CLIENT_CA"
    )]
    pub tls_client_ca: Option<PathBuf>,
    /// Snapshots a second that one agent may send [default: 1000]
    #[arg(long, global = true, value_name = "N", env = "PROCSCOPE_COLLECTOR_AGENT_SNAPSHOTS_PER_SECOND",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub agent_snapshots_per_second: Option<u32>,
    /// Bytes a second that one agent may send [default: 67108864]
    #[arg(long, global = true, value_name = "BYTES", env = "PROCSCOPE_COLLECTOR_AGENT_BYTES_PER_SECOND",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub agent_bytes_per_second: Option<u32>,
    /// How long a stream of an agent may last before it is asked to open another, 1s to 7d [default: 1h]
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse_duration,
          env = "PROCSCOPE_COLLECTOR_STREAM_MAX_AGE")]
    pub stream_max_age: Option<Duration>,
    /// Allow addresses other than loopback without TLS, any Host header, and reading without a token
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
pub(super) struct Keys {
    pub(super) listen: Option<SocketAddr>,
    pub(super) http_listen: Option<SocketAddr>,
    pub(super) ingest_token_file: Option<PathBuf>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) tls_cert: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
    pub(super) tls_client_ca: Option<PathBuf>,
    pub(super) agent_snapshots_per_second: Option<u32>,
    pub(super) agent_bytes_per_second: Option<u32>,
    pub(super) stream_max_age: Option<String>,
    pub(super) insecure: Option<bool>,
    pub(super) flush_interval: Option<String>,
    pub(super) die_with_parent: Option<bool>,
    #[serde(default)]
    pub(super) store: StoreKeys,
    #[serde(default)]
    pub(super) retention: RetentionKeys,
    #[serde(default)]
    pub(super) groups: BTreeMap<String, GroupKeys>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoreKeys {
    pub(super) url: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) database: Option<String>,
}

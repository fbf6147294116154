//! An authority with a collector's certificate and clients of every kind.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use procscope_collector::access::{certs, tls};
use procscope_proto::v1;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use uuid::Uuid;

use crate::support::{Collector, Engine, Push, wait_until};

/// The agent that most certificates are of.
pub(crate) const ID: u8 = 1;

/// A folder with an authority, a collector's certificate for 127.0.0.1, and clients.
pub(crate) struct Authority {
    dir: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let authority = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        Self::run(&certs::Command::Init {
            dir: authority.path(""),
            name: vec!["127.0.0.1".to_owned(), "collector.example".to_owned()],
            days: 30,
        });
        authority
    }

    pub(crate) fn run(command: &certs::Command) {
        certs::run(command, procscope_collector::clock::now_ms()).unwrap();
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub(crate) fn text(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap()
    }

    pub(crate) fn files(&self) -> tls::Files {
        tls::Files {
            cert: self.path("server.pem"),
            key: self.path("server.key"),
            client_ca: Some(self.path("ca.pem")),
        }
    }

    pub(crate) fn agent(&self, host: &str, id: u8) -> Identity {
        Self::run(&certs::Command::Agent {
            dir: self.path(""),
            name: host.to_owned(),
            agent_id: Some(Uuid::from_bytes([id; 16])),
            days: 30,
        });
        self.identity(host)
    }

    pub(crate) fn reader(&self, name: &str) -> Identity {
        Self::run(&certs::Command::Reader {
            dir: self.path(""),
            name: name.to_owned(),
            admin: false,
            days: 30,
        });
        self.identity(name)
    }

    pub(crate) fn identity(&self, name: &str) -> Identity {
        Identity::from_pem(
            self.text(&format!("{name}.pem")),
            self.text(&format!("{name}.key")),
        )
    }

    /// A certificate of the same authority with other days, or of another authority.
    pub(crate) fn odd(&self, days: Range<SystemTime>, other_authority: bool) -> Identity {
        let mut issuer = CertificateParams::default();
        issuer.distinguished_name = rcgen::DistinguishedName::new();
        issuer
            .distinguished_name
            .push(rcgen::DnType::CommonName, "procscope CA");
        let issuer_key = if other_authority {
            KeyPair::generate().unwrap()
        } else {
            KeyPair::from_pem(&self.text("ca.key")).unwrap()
        };
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (days.start.into(), days.end.into());
        let uri = format!("spiffe://procscope/agent/{}", Uuid::from_bytes([ID; 16]));
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &Issuer::new(issuer, issuer_key)).unwrap();
        Identity::from_pem(certificate.pem(), key.serialize_pem())
    }
}

/// When a year begins, or nearly so.
pub(crate) fn year(number: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours((number - 1970) * 8_766)
}

pub(crate) async fn channel(
    authority: &Authority,
    collector: &Collector,
    identity: Option<Identity>,
) -> Result<Channel, tonic::Status> {
    channel_as(collector, &authority.text("ca.pem"), identity, "127.0.0.1").await
}

pub(crate) async fn channel_as(
    collector: &Collector,
    ca: &str,
    identity: Option<Identity>,
    name: &str,
) -> Result<Channel, tonic::Status> {
    let mut config = tls_config(ca, name);
    if let Some(identity) = identity {
        config = config.identity(identity);
    }
    connect(collector.grpc, config).await
}

/// To an address that leads to a collector.
pub(crate) async fn channel_at(
    authority: &Authority,
    address: std::net::SocketAddr,
) -> Result<Channel, tonic::Status> {
    connect(address, tls_config(&authority.text("ca.pem"), "127.0.0.1")).await
}

fn tls_config(ca: &str, name: &str) -> ClientTlsConfig {
    ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca))
        .domain_name(name)
}

async fn connect(address: std::net::SocketAddr, config: ClientTlsConfig) -> Result<Channel, tonic::Status> {
    let endpoint = Channel::from_shared(format!("https://{address}")).unwrap();
    let connected = endpoint.tls_config(config).unwrap().connect().await;
    connected.map_err(|error| tonic::Status::unavailable(format!("{error:?}")))
}

pub(crate) async fn start(engine: &Engine, authority: &Authority, state: Option<&Path>) -> Collector {
    let state = state.map(Path::to_path_buf);
    let collector = Collector::start_as(engine.config(), |config| {
        config.tls = Some(authority.files());
        config.state_dir = state.unwrap_or_else(|| config.state_dir.clone());
    })
    .await;
    let url = format!("https://{}/readyz", collector.http);
    wait_until("the collector is ready", || async {
        curl(authority, &[&url]).is_some()
    })
    .await;
    collector
}

/// What curl says, when it is content.
pub(crate) fn curl(authority: &Authority, arguments: &[&str]) -> Option<String> {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "10",
            "--cacert",
        ])
        .arg(authority.path("ca.pem"))
        .args(arguments)
        .output()
        .unwrap();
    output
        .status
        .success()
        .then(|| String::from_utf8(output.stdout).unwrap())
}

pub(crate) fn metric(authority: &Authority, collector: &Collector, name: &str) -> u64 {
    let page = curl(authority, &[&format!("https://{}/metrics", collector.http)]).unwrap();
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

/// Sends one snapshot; the error, if it was not stored.
pub(crate) async fn send(
    channel: Result<Channel, tonic::Status>,
    token: Option<&str>,
    frame: &v1::PushSnapshotsRequest,
) -> Result<(), tonic::Status> {
    let mut push = Push::open(channel?, token).await?;
    push.send(std::slice::from_ref(frame)).await;
    push.durable(frame.seq).await
}

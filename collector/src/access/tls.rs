//! Certificates: files into what a handshake needs, read again when they change; and who a certificate is of.

use std::{
    io::BufReader,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use procscope_startup::{Failure, Result, read_private, read_public};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tracing::{info, warn};
use uuid::Uuid;

use super::Scope;
use crate::{clock, self_stats::SelfStats};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often a certificate that was shown is looked at again: each time a signature is checked.
const VERIFY_EVERY: Duration = Duration::from_secs(10);

/// What begins the name of an agent or a person in a certificate.
pub const SPIFFE: &str = "spiffe://";

/// Where certificates stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The collector's certificate and those that lead to its authority.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authorities that certificates of callers come from; `None`: callers show none.
    pub client_ca: Option<PathBuf>,
}

/// What a port speaks inside of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/2; and HTTP/1.1, only so that a browser or curl is told where it is.
    Grpc,
    /// HTTP/1.1.
    Http,
}

/// The certificates in use.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    now: RwLock<Now>,
}

#[derive(Debug, Clone)]
struct Now {
    grpc: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Exit code 2 when they cannot be used, or do not belong together.
    pub fn open(files: Files) -> Result<Self> {
        let now = RwLock::new(read(&files)?);
        Ok(Self { files, now })
    }

    /// For the next handshake.
    #[must_use]
    pub fn config(&self, speaks: Speaks) -> Arc<ServerConfig> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(match speaks {
            Speaks::Grpc => &now.grpc,
            Speaks::Http => &now.http,
        })
    }

    /// Whether a handshake would take this certificate now, as it has taken it before.
    fn still_takes(&self, chain: &[CertificateDer<'_>]) -> bool {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (Some(clients), Some((first, others))) = (now.clients, chain.split_first()) else {
            return false;
        };
        let time = UnixTime::since_unix_epoch(Duration::from_millis(clock::now_ms().max(0).cast_unsigned()));
        clients.verify_client_cert(first, others, time).is_ok()
    }

    /// Reads the files again whenever they change, for ever. Files that cannot be used change nothing.
    pub async fn follow(&self, stats: &SelfStats) {
        let files = [
            Some(&self.files.cert),
            Some(&self.files.key),
            self.files.client_ca.as_ref(),
        ];
        let files: Vec<PathBuf> = files.into_iter().flatten().cloned().collect();
        let mut seen = mark(&files).await;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = mark(&files).await;
            if now == seen {
                continue;
            }
            seen = now;
            match read(&self.files) {
                Ok(now) => {
                    *self.now.write().unwrap_or_else(PoisonError::into_inner) = now;
                    stats.reloaded("certificates", true);
                    info!("the certificates have changed and were read again");
                }
                Err(failure) => {
                    stats.reloaded("certificates", false);
                    warn!(%failure, "the certificates cannot be used now; those read before stay in use");
                }
            }
        }
    }
}

/// A certificate that somebody has shown and goes on using.
#[derive(Debug, Clone)]
pub struct Shown {
    tls: Arc<Tls>,
    chain: Arc<[CertificateDer<'static>]>,
}

impl Shown {
    /// What came with a handshake; the first is of who has come, the others lead to its authority.
    pub(super) fn new(tls: &Arc<Tls>, chain: &[CertificateDer<'static>]) -> Self {
        Self {
            tls: Arc::clone(tls),
            chain: chain.into(),
        }
    }

    /// Ends when the certificate would not be taken any more: its days are over, or its authority was replaced.
    pub(super) async fn lapsed(&self) {
        loop {
            tokio::time::sleep(VERIFY_EVERY).await;
            if !self.tls.still_takes(&self.chain) {
                return;
            }
        }
    }
}

/// What tells that a file is another one, or has been written to.
pub(super) type Mark = Vec<Option<(u64, u64, i64, i64)>>;

/// The marks of files as they are now.
pub(super) async fn mark(files: &[PathBuf]) -> Mark {
    let files = files.to_vec();
    let mark = |file: &PathBuf| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((
            metadata.ino(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        ))
    };
    // A folder over a network may hang; nobody else waits for it.
    tokio::task::spawn_blocking(move || files.iter().map(mark).collect())
        .await
        .unwrap_or_default()
}

fn read(files: &Files) -> Result<Now> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let fail = |file: &Path, why: &dyn std::fmt::Display| {
        Failure::usage(format_args!(
            "could not use {}: {why}; name PEM files that belong together with --tls-cert, --tls-key and \
             --tls-client-ca (`procscope-collector certs init` makes some)",
            file.display()
        ))
    };
    let certificates = |file: &Path| -> Result<Vec<CertificateDer<'static>>> {
        let text = read_public(file)?;
        let found: std::result::Result<Vec<_>, _> =
            CertificateDer::pem_reader_iter(BufReader::new(text.as_bytes())).collect();
        let found = found.map_err(|error| fail(file, &error))?;
        if found.is_empty() {
            return Err(fail(file, &"it holds no certificate"));
        }
        Ok(found)
    };
    let key_text = read_private(&files.key)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| fail(&files.cert, &error))?;
    let mut clients: Option<Arc<dyn ClientCertVerifier>> = None;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|error| fail(file, &error))?;
            }
            // A token may do instead: who shows neither is sent away behind the handshake, with words.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| fail(file, &error))?;
            clients = Some(verifier.clone());
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_slice(key_text.as_bytes()).map_err(|error| fail(&files.key, &error))?;
    let mut config = builder
        .with_single_cert(certificates(&files.cert)?, key)
        .map_err(|error| fail(&files.cert, &error))?;
    // Each connection shows its certificate anew, so that one that was replaced or has expired is gone.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let speak = |protocols: &[&[u8]]| {
        let mut config = config.clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    };
    Ok(Now {
        grpc: speak(&[b"h2", b"http/1.1"]),
        http: speak(&[b"http/1.1"]),
        clients,
    })
}

/// Who a certificate is of, by its one name `spiffe://DOMAIN/agent/UUID`, `…/agent/UUID/HOST`, `…/reader/NAME` or
/// `…/admin/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// The name.
    pub uri: String,
    /// What it is good for; `None`: nothing here.
    pub scope: Option<Scope>,
    /// The agent.
    pub agent_id: Option<Uuid>,
    /// The host that this agent may speak of.
    pub host: Option<String>,
}

/// Reads the name out of a certificate that a handshake has verified.
#[must_use]
pub fn certified(certificate: &CertificateDer<'_>) -> Certified {
    let mut names = Vec::new();
    if let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) {
        names.extend(
            parsed
                .valid_uri_names()
                .filter(|uri| uri.starts_with(SPIFFE))
                .map(str::to_owned),
        );
    }
    match names.as_slice() {
        [uri] => named(uri),
        _ => Certified {
            uri: "a certificate without one spiffe:// name".to_owned(),
            scope: None,
            agent_id: None,
            host: None,
        },
    }
}

fn named(uri: &str) -> Certified {
    let path = uri.strip_prefix(SPIFFE).and_then(|rest| rest.split_once('/'));
    let parts: Vec<&str> = path.map_or("", |(_domain, path)| path).split('/').collect();
    let of = |scope, agent_id, host: Option<&str>| Certified {
        uri: uri.to_owned(),
        scope,
        agent_id,
        host: host.map(str::to_owned),
    };
    let uuid = |text: &str| Uuid::parse_str(text).ok();
    match parts.as_slice() {
        ["agent", id] if uuid(id).is_some() => of(Some(Scope::Ingest), uuid(id), None),
        ["agent", id, host] if uuid(id).is_some() && !host.is_empty() => {
            of(Some(Scope::Ingest), uuid(id), Some(host))
        }
        ["reader", name] if !name.is_empty() => of(Some(Scope::Query), None, None),
        ["admin", name] if !name.is_empty() => of(Some(Scope::Admin), None, None),
        _ => of(None, None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_its_certificate_is_good_for() {
        let id = "8a1b2c3d-0000-4000-8000-000000000001";
        let check = |path: &str, scope: Option<Scope>, host: Option<&str>| {
            let read = named(&format!("spiffe://site/{path}"));
            assert_eq!((read.scope, read.host.as_deref()), (scope, host), "{path}");
            assert_eq!(read.agent_id.is_some(), scope == Some(Scope::Ingest), "{path}");
        };
        check(&format!("agent/{id}"), Some(Scope::Ingest), None);
        check(&format!("agent/{id}/node-7"), Some(Scope::Ingest), Some("node-7"));
        check("reader/grafana", Some(Scope::Query), None);
        check("admin/anna", Some(Scope::Admin), None);
        for nothing in [
            "agent",
            "agent/",
            "agent/node-7",
            "reader/",
            "admin/a/b",
            "",
            "server/x",
        ] {
            check(nothing, None, None);
        }
        check(&format!("agent/{id}/"), None, None);
        check(&format!("agent/{id}/a/b"), None, None);
        assert_eq!(named("spiffe://").scope, None);
    }
}

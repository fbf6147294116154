//! Who may come in and how much: connections, certificates, tokens, limits.

mod activity;
pub mod certs;
pub mod door;
pub mod guard;
pub mod limits;
pub mod pace;
pub mod tls;
pub mod tokens;

use std::sync::{Arc, atomic::AtomicI64};

use tokio::sync::watch;
use uuid::Uuid;

/// What a credential is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Send snapshots.
    Ingest,
    /// Ask.
    Query,
    /// Ask, and change what there is to change.
    Admin,
}

impl Scope {
    /// Whether this is enough where `needed` is asked for.
    #[must_use]
    pub fn allows(self, needed: Self) -> bool {
        self == needed || (self == Self::Admin && needed == Self::Query)
    }

    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Query => "query",
            Self::Admin => "admin",
        }
    }
}

/// Who has come in, by what was shown and never by what was said.
#[derive(Debug, Clone)]
pub struct Caller {
    /// For the log.
    pub name: Arc<str>,
    /// The one agent this is; `None`: a credential that several share.
    pub agent_id: Option<Uuid>,
    /// The one host this may speak of.
    pub host: Option<Arc<str>>,
    /// The token that was shown, if it is one of the state folder.
    token: Option<tokens::Held>,
    /// The certificate that was shown.
    certificate: Option<tls::Shown>,
    reserved: watch::Receiver<Arc<tokens::Table>>,
}

impl Caller {
    /// Ends when the token that was shown is revoked or expires; never without one.
    pub async fn lapsed(&self) -> &'static str {
        match &self.token {
            Some(held) => held.lapsed().await,
            None => std::future::pending().await,
        }
    }

    /// Ends when the certificate that was shown is good no more; never without one.
    pub async fn outlived(&self) {
        match &self.certificate {
            Some(shown) => shown.lapsed().await,
            None => std::future::pending().await,
        }
    }

    /// Whether this may speak as an agent.
    ///
    /// # Errors
    /// What the credential says instead.
    pub fn may_be_agent(&self, agent_id: Uuid) -> Result<(), String> {
        match self.agent_id {
            Some(own) if own != agent_id => Err(format!(
                "the credential is of agent {own}, the message says {agent_id}: give the agent the credential of \
                 its own id, or make one with --agent-id {agent_id}"
            )),
            None if self.reserved.borrow().is_reserved(agent_id) => Err(format!(
                "agent {agent_id} has a token of its own and this is another: show that one"
            )),
            _ => Ok(()),
        }
    }

    /// Whether this may speak of a host.
    ///
    /// # Errors
    /// What the credential says instead.
    pub fn may_speak_of(&self, host: &str) -> Result<(), String> {
        match &self.host {
            Some(own) if **own != *host => Err(format!(
                "the credential is of host {own}, the snapshot says {host}: set --host {own}, or make a credential \
                 for {host}"
            )),
            _ => Ok(()),
        }
    }
}

/// Lets one line through every ten seconds: what strangers do must not fill the log.
#[derive(Debug, Default)]
struct Sparse {
    said_ms: AtomicI64,
}

impl Sparse {
    fn is_due(&self) -> bool {
        use std::sync::atomic::Ordering;
        let now_ms = crate::clock::now_ms();
        let said_ms = self.said_ms.load(Ordering::Relaxed);
        (now_ms < said_ms || now_ms - said_ms >= 10_000)
            && self
                .said_ms
                .compare_exchange(said_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// Random bytes of the system.
fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_no_random| std::io::Error::other("the system gives no random bytes"))?;
    Ok(bytes)
}

//! Tokens: made once, kept as digests in a file of the state folder, read again when it changes.
//!
//! A token is 256 random bits, so its plain SHA-256 tells nobody anything: slow hashes guard what people think up,
//! and nobody can try 2^256 tokens. It carries a public number by which it is found; its digest is compared in
//! constant time.

mod file;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use procscope_startup::Result;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;
use tracing::{info, warn};
use uuid::Uuid;

pub use file::{FILE, Request, create, list, revoke};

use super::Scope;
use crate::{config::Secret, model::hex, self_stats::SelfStats};

/// How often the file is looked at: a token that is revoked is good for no longer than this and the next message.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What stands before every token, so that one is known when it is found where it should not be.
const PREFIX: &str = "procscope_";

/// Bytes of chance in a token.
const SECRET_BYTES: usize = 32;

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Its public number.
    pub id: String,
    /// What it is good for.
    pub scope: Scope,
    /// What a person called it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The one agent that may show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Uuid>,
    /// The one host that may be spoken of with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// When it ends, in seconds since 1970; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
    /// SHA-256 of its text, in hex.
    pub digest: String,
}

impl Token {
    /// Whether it has ended.
    #[must_use]
    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.expires
            .is_some_and(|expires| expires <= now_ms.div_euclid(1_000))
    }
}

/// All tokens that are good now, by number.
#[derive(Debug, Default)]
pub struct Table {
    by_id: HashMap<String, Token>,
    agents: HashSet<Uuid>,
}

impl Table {
    fn new(tokens: Vec<Token>) -> Self {
        Self {
            agents: tokens.iter().filter_map(|token| token.agent_id).collect(),
            by_id: tokens
                .into_iter()
                .map(|token| (token.id.clone(), token))
                .collect(),
        }
    }

    /// Whether an agent has a token of its own.
    pub(super) fn is_reserved(&self, agent_id: Uuid) -> bool {
        self.agents.contains(&agent_id)
    }

    fn find(&self, text: &str) -> Option<&Token> {
        let (id, _secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let token = self.by_id.get(id)?;
        bool::from(digest(text).as_bytes().ct_eq(token.digest.as_bytes())).then_some(token)
    }
}

fn digest(text: &str) -> String {
    hex(&Sha256::digest(text))
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody made it, or it was revoked.
    #[error("the token is not known here: it was revoked, or is another collector's")]
    Unknown,
    /// Its time is over.
    #[error("the token has expired: make another with `procscope-collector tokens create`")]
    Expired,
}

/// What a good token says.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: Arc<str>,
    pub(super) scope: Scope,
    pub(super) agent_id: Option<Uuid>,
    pub(super) host: Option<Arc<str>>,
    pub(super) held: Option<Held>,
}

/// A token that somebody has shown and goes on using.
#[derive(Debug, Clone)]
pub(super) struct Held {
    id: Arc<str>,
    table: watch::Receiver<Arc<Table>>,
}

impl Held {
    /// Ends when the token is good no more.
    pub(super) async fn lapsed(&self) -> &'static str {
        let mut table = self.table.clone();
        loop {
            let expires = match table.borrow_and_update().by_id.get(&*self.id) {
                None => return "the token was revoked",
                Some(token) if token.is_expired(crate::clock::now_ms()) => return "the token has expired",
                Some(token) => token.expires,
            };
            // The wall clock may be set, so an end is looked for again and again.
            let look = async {
                match expires {
                    Some(_) => tokio::time::sleep(LOOK_EVERY).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = table.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                () = look => {}
            }
        }
    }
}

/// The tokens of a collector.
#[derive(Debug)]
pub struct Tokens {
    table: watch::Sender<Arc<Table>>,
    folder: Option<PathBuf>,
    /// The one that set-up makes for this machine, good for any agent; its digest.
    shared: Option<String>,
}

impl Tokens {
    /// Reads those of a state folder; `shared` is the one that stands in a file of its own.
    ///
    /// # Errors
    /// Exit code 2 when the file is there and cannot be used.
    pub fn open(folder: Option<&Path>, shared: Option<&Secret>) -> Result<Self> {
        let tokens = match folder {
            Some(folder) => file::read(folder)?,
            None => Vec::new(),
        };
        Ok(Self {
            table: watch::Sender::new(Arc::new(Table::new(tokens))),
            folder: folder.map(Path::to_path_buf),
            shared: shared.map(|secret| digest(secret.reveal())),
        })
    }

    /// Whether anybody could be let in by a token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.is_none() && self.table.borrow().by_id.is_empty()
    }

    /// Reads the file again whenever it changes, for ever. A file that cannot be used changes nothing.
    pub async fn follow(&self, stats: &SelfStats) {
        let Some(folder) = &self.folder else {
            return std::future::pending().await;
        };
        let mut seen = None;
        loop {
            let path = folder.join(FILE);
            let now = super::tls::mark(std::slice::from_ref(&path)).await;
            if seen.as_ref() != Some(&now) {
                let first = seen.is_none();
                seen = Some(now);
                match file::read(folder) {
                    Ok(tokens) => {
                        if !first {
                            info!(
                                tokens = tokens.len(),
                                "the tokens have changed and were read again"
                            );
                            stats.reloaded("tokens", true);
                        }
                        self.table.send_replace(Arc::new(Table::new(tokens)));
                    }
                    Err(failure) => {
                        stats.reloaded("tokens", false);
                        warn!(%failure, "the tokens cannot be read now; those read before stay good");
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// All that are good now, as they change.
    pub(super) fn table(&self) -> watch::Receiver<Arc<Table>> {
        self.table.subscribe()
    }

    /// What a token says, if it is good.
    pub(super) fn find(&self, text: &str, now_ms: i64) -> std::result::Result<Found, Refused> {
        if let Some(shared) = &self.shared
            && bool::from(digest(text).as_bytes().ct_eq(shared.as_bytes()))
        {
            return Ok(Found {
                name: "the token of --ingest-token-file".into(),
                scope: Scope::Ingest,
                agent_id: None,
                host: None,
                held: None,
            });
        }
        let table = self.table.subscribe();
        let now = Arc::clone(&table.borrow());
        let token = now.find(text).ok_or(Refused::Unknown)?;
        if token.is_expired(now_ms) {
            return Err(Refused::Expired);
        }
        Ok(Found {
            name: format!("token {} {}", token.id, token.name).trim_end().into(),
            scope: token.scope,
            agent_id: token.agent_id,
            host: token.host.as_deref().map(Into::into),
            held: Some(Held {
                id: token.id.as_str().into(),
                table,
            }),
        })
    }
}

#[cfg(test)]
mod tests;

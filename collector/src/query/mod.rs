//! Top, history, exits, hosts, audit: limits and defaults, with no transport in sight.

mod coverage;
mod exits;
mod grouped;
mod history;
mod hosts;
pub(crate) mod limits;
mod lists;
mod memory;
mod processes;
mod range;
mod top;
mod turns;
mod windows;

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::SemaphorePermit;

pub use coverage::Coverage;
pub use exits::{Exits, ExitsQuery};
pub use history::{History, HistoryQuery, Point};
pub use hosts::{Audit, AuditQuery, Host, Hosts};
pub use range::AskedRange;
pub use top::{GroupBy, Groups, GroupsQuery, Metric, Top, TopQuery};

use crate::{
    groups::NamedGroups,
    model::TimeRange,
    retention::Retention,
    store::{Store, StoreError, parts::Parts},
};
use memory::Memory;
use turns::{AT_ONCE_MAX, Turns};

/// Hosts that a question may name, and that an answer lists.
pub(crate) const HOSTS_MAX: usize = 10_000;

/// Bytes of a name or an expression in a question.
pub(crate) const TEXT_BYTES_MAX: usize = 1_000;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The question cannot be answered as it stands.
    #[error("{field}: {reason}")]
    Invalid {
        /// Path of the field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody ever heard of what was asked for.
    #[error("{0}")]
    NotFound(String),
    /// Too many questions at once.
    #[error("{AT_ONCE_MAX} questions are being answered and more wait: ask again in a moment")]
    Busy,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl QueryError {
    fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            reason: reason.into(),
        }
    }
}

/// Answers questions from the store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queries {
    store: Store,
    kept: Retention,
    groups: Arc<NamedGroups>,
    turns: Arc<Turns>,
    memory: Arc<Memory>,
}

impl Queries {
    /// Questions to this store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            kept: Retention::default(),
            groups: Arc::default(),
            turns: Arc::new(Turns::new()),
            memory: Arc::new(Memory::new(Counter::default(), Counter::default())),
        }
    }

    /// The same to a store that keeps rows for so long.
    #[must_use]
    pub fn keeping(self, kept: Retention) -> Self {
        Self { kept, ..self }
    }

    /// The same with groups of processes that have names.
    #[must_use]
    pub fn grouping(self, groups: NamedGroups) -> Self {
        let groups = Arc::new(groups);
        Self { groups, ..self }
    }

    /// The same with counters of answers that are given again, and of those that gave way to others.
    #[must_use]
    pub fn counting(self, recalled: Counter, forgotten: Counter) -> Self {
        let memory = Arc::new(Memory::new(recalled, forgotten));
        Self { memory, ..self }
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, QueryError> {
        self.turns.turn().await
    }

    /// The answer of before, where the store holds the very parts that it was made of; else a new one, of about so many
    /// `bytes`. Whoever asks the store is given its parts as they were before, where they are known. Those who come with
    /// a question while it is answered wait for that.
    async fn recalled<A, Asked>(
        &self,
        question: String,
        (range, ended): (TimeRange, bool),
        bytes: impl Fn(&A) -> usize,
        ask: impl FnOnce(Option<Arc<Parts>>) -> Asked,
    ) -> Result<A, QueryError>
    where
        A: Clone + Send + 'static,
        Asked: Future<Output = Result<A, QueryError>>,
    {
        let _alone = self.memory.alone(&question).await;
        let before = if self.memory.was_asked(&question) || ended {
            self.store.parts().await
        } else {
            None
        };
        let Some(seen) = before.as_ref().map(|parts| parts.of(range)) else {
            return Box::pin(ask(None)).await;
        };
        if let Some(answer) = self.memory.get(&question, seen) {
            return Ok(answer);
        }
        let answer = Box::pin(ask(before)).await?;
        if self
            .store
            .parts()
            .await
            .is_some_and(|after| after.of(range) == seen)
        {
            self.memory.put(question, seen, answer.clone(), bytes(&answer));
        }
        Ok(answer)
    }
}

/// Host names as they were asked for.
fn check_hosts(hosts: &[String]) -> Result<(), QueryError> {
    if hosts.len() > HOSTS_MAX {
        return Err(QueryError::invalid(
            "hosts",
            format!("names {} hosts, more than {HOSTS_MAX}", hosts.len()),
        ));
    }
    if hosts.iter().any(String::is_empty) {
        return Err(QueryError::invalid(
            "hosts",
            "is empty: name a host, or leave it out for all",
        ));
    }
    hosts.iter().try_for_each(|host| check_text("hosts", host))
}

fn check_text(field: &'static str, text: &str) -> Result<(), QueryError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(QueryError::invalid(
            field,
            format!("has {} bytes, more than {TEXT_BYTES_MAX}", text.len()),
        ));
    }
    Ok(())
}

/// A limit with its default for 0.
fn check_limit(field: &'static str, asked: u32, default: u32, most: u32) -> Result<u32, QueryError> {
    match asked {
        0 => Ok(default),
        asked if asked <= most => Ok(asked),
        asked => Err(QueryError::invalid(
            field,
            format!("is {asked}, not within 1 and {most}"),
        )),
    }
}

/// A process id in its one written form, so that it can be compared as text.
fn check_process_id(id: &str) -> Result<String, QueryError> {
    if id.is_empty() {
        return Ok(String::new());
    }
    let parsed = uuid::Uuid::try_parse(id)
        .map_err(|error| QueryError::invalid("process_id", format!("is no process id: {error}")))?;
    Ok(parsed.hyphenated().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_has_a_default_and_an_end() {
        assert_eq!(check_limit("limit", 0, 10, 1_000).unwrap(), 10);
        assert_eq!(check_limit("limit", 1_000, 10, 1_000).unwrap(), 1_000);
        assert!(check_limit("limit", 1_001, 10, 1_000).is_err());
    }

    #[test]
    fn a_host_has_a_name() {
        assert!(check_hosts(&[]).is_ok() && check_hosts(&["a".to_owned()]).is_ok());
        let refused = check_hosts(&["a".to_owned(), String::new()]).unwrap_err();
        assert!(refused.to_string().starts_with("hosts: is empty"), "{refused}");
    }

    #[test]
    fn a_process_id_has_one_written_form() {
        let id = "00000000-0000-0000-0000-00000000ABCD";
        assert_eq!(check_process_id(id).unwrap(), id.to_lowercase());
        assert_eq!(
            check_process_id("0000000000000000000000000000abcd").unwrap(),
            id.to_lowercase()
        );
        assert!(check_process_id("' OR 1").is_err());
        assert_eq!(check_process_id("").unwrap(), "");
    }
}

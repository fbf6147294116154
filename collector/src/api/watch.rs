//! A top again and again, each time a new interval is complete: for gRPC, SSE and WebSocket alike.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{
    Mutex, OwnedSemaphorePermit, Semaphore,
    mpsc::{self, error::SendTimeoutError},
    watch,
};

use super::answer;
use crate::{
    access::Caller,
    clock,
    query::{Queries, QueryError, Top, TopQuery},
    self_stats::{OpenWatch, SelfStats},
};

/// Watchers at once: each asks the store a small question a few times a second.
pub const WATCHERS_MAX: usize = 64;

/// What they are told who come when that many watch.
pub const WATCHERS_FULL: &str = "64 watch already, which is the most";

/// What they are told who watch when the collector stops.
pub const STOPPING: &str = "the collector is stopping";

/// How long those wait who would watch when all places are taken: people watch for minutes.
pub const WATCH_WAIT: Duration = Duration::from_secs(10);

/// How often a watcher looks for a new interval. Small against the shortest useful interval of a second.
const WATCH_EVERY: Duration = Duration::from_millis(300);

/// How long what is known of the newest interval serves others who watch the same hosts.
const FRESH: Duration = Duration::from_millis(150);

/// How long a watcher may leave an answer unread, when nobody says otherwise.
pub const UNREAD_MAX: Duration = Duration::from_secs(30);

/// Why a watch ended by itself.
#[derive(Debug)]
pub enum End {
    /// A question was not answered.
    Failed(QueryError),
    /// The credential is good no more.
    Lapsed(&'static str),
    /// The collector stops.
    Stopping,
}

/// Why there is no watch.
#[derive(Debug)]
pub enum Refused {
    /// The first question was not answered.
    Failed(QueryError),
    /// All places are taken.
    Full,
}

/// What a watcher reads; no more come after an end.
pub type Answers = mpsc::Receiver<Result<Top, End>>;

/// The end of the newest complete interval of some hosts, and when that was asked: no more than there are watchers.
type Newest = HashMap<Vec<String>, (Instant, Option<i64>)>;

/// All who watch. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Watchers {
    queries: Queries,
    stats: Arc<SelfStats>,
    places: Arc<Semaphore>,
    newest: Arc<Mutex<Newest>>,
    unread_max: Duration,
    stop: watch::Receiver<bool>,
}

impl Watchers {
    /// Nobody yet; all end when `stop` becomes true, and one who leaves an answer unread for longer than `unread_max`.
    #[must_use]
    pub fn new(
        queries: &Queries,
        stats: &Arc<SelfStats>,
        stop: &watch::Receiver<bool>,
        unread_max: Duration,
    ) -> Self {
        Self {
            queries: queries.clone(),
            stats: Arc::clone(stats),
            places: Arc::new(Semaphore::new(WATCHERS_MAX)),
            newest: Arc::default(),
            unread_max,
            stop: stop.clone(),
        }
    }

    /// How long an answer may stay unread.
    #[must_use]
    pub fn unread_max(&self) -> Duration {
        self.unread_max
    }

    /// Begins to watch. A reader that leaves an answer unread is dropped after a while, and holds nobody back before.
    ///
    /// # Errors
    /// When the question cannot be answered as it stands, or all places are taken.
    pub async fn open(&self, query: TopQuery, caller: Option<Caller>) -> Result<Answers, Refused> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.stats.refused("watchers");
            return Err(Refused::Full);
        };
        // Asked once in the open, so that a wrong question is refused at once and by its own code.
        self.top(&query).await.map_err(Refused::Failed)?;
        let (answers, receiver) = mpsc::channel(1);
        let open = self.stats.watch();
        tokio::spawn(self.clone().watch(query, answers, caller, (place, open)));
        Ok(receiver)
    }

    async fn top(&self, query: &TopQuery) -> Result<Top, QueryError> {
        answer(&self.stats, "top", self.queries.top(query, clock::now_ms())).await
    }

    /// The end of the newest complete interval, asked once for all who watch the same hosts.
    async fn newest(&self, hosts: &[String]) -> Result<Option<i64>, QueryError> {
        let mut known = self.newest.lock().await;
        known.retain(|_hosts, (asked, _newest_ms)| asked.elapsed() < FRESH);
        if let Some((_asked, newest_ms)) = known.get(hosts) {
            return Ok(*newest_ms);
        }
        let newest_ms = self.queries.newest_complete_ms(hosts, clock::now_ms()).await?;
        known.insert(hosts.to_vec(), (Instant::now(), newest_ms));
        Ok(newest_ms)
    }

    /// Sends a top each time a new interval is complete, until nobody reads any more.
    async fn watch(
        self,
        query: TopQuery,
        answers: mpsc::Sender<Result<Top, End>>,
        caller: Option<Caller>,
        _place: (OwnedSemaphorePermit, OpenWatch),
    ) {
        let lapsed = async {
            match &caller {
                Some(caller) => caller.lapsed().await,
                None => std::future::pending().await,
            }
        };
        let mut lapsed = std::pin::pin!(lapsed);
        let mut shown_ms = None;
        loop {
            let newest = self.newest(&query.hosts).await;
            let answer = match newest {
                Ok(newest_ms) if newest_ms == shown_ms && shown_ms.is_some() => None,
                Ok(None) => None,
                Ok(Some(_newer_ms)) => match self.top(&query).await {
                    // Others keep the collector busy: the next interval is as good.
                    Err(QueryError::Busy) => None,
                    // Another interval may have become complete since it was asked which is the newest.
                    Ok(top) if Some(top.range.end_ms) == shown_ms => None,
                    answer => {
                        shown_ms = answer.as_ref().ok().map(|top| top.range.end_ms);
                        Some(answer.map_err(End::Failed))
                    }
                },
                Err(error) => Some(Err(End::Failed(error))),
            };
            if let Some(answer) = answer {
                let failed = answer.is_err();
                match answers.send_timeout(answer, self.unread_max).await {
                    Ok(()) if !failed => {}
                    Err(SendTimeoutError::Timeout(_unread)) => return self.stats.watcher_dropped(),
                    Ok(()) | Err(SendTimeoutError::Closed(_)) => return,
                }
            }
            tokio::select! {
                () = tokio::time::sleep(WATCH_EVERY) => {}
                () = answers.closed() => return,
                why = &mut lapsed => {
                    drop(answers.try_send(Err(End::Lapsed(why))));
                    return;
                }
                () = crate::stopped(self.stop.clone()) => {
                    drop(answers.try_send(Err(End::Stopping)));
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::StoreConfig,
        query::{GroupBy, Metric},
        store::Store,
    };

    #[tokio::test]
    async fn when_all_places_are_taken_nobody_more_watches_and_nothing_is_asked() {
        let nowhere = Store::new(&StoreConfig {
            url: "http://127.0.0.1:1".to_owned(),
            user: String::new(),
            password: None,
            database: "procscope".to_owned(),
        });
        let stats = Arc::new(SelfStats::new());
        let (_stop, stop) = watch::channel(false);
        let watchers = Watchers::new(&Queries::new(nowhere), &stats, &stop, UNREAD_MAX);
        let query = TopQuery {
            hosts: Vec::new(),
            metric: Metric::Cpu,
            limit: 0,
            group_by: GroupBy::Process,
            range: None,
            last_intervals: 0,
            name_contains: String::new(),
        };
        let taken = Arc::clone(&watchers.places).try_acquire_many_owned(64).unwrap();
        let refused = watchers.open(query.clone(), None).await.unwrap_err();
        assert!(matches!(refused, Refused::Full), "{refused:?}");
        assert!(stats.text().contains("refused_total{reason=\"watchers\"} 1"));
        drop(taken);
        // There is a place again, and it is free again after a question that was not answered.
        for _ in 0..=WATCHERS_MAX {
            let refused = watchers.open(query.clone(), None).await.unwrap_err();
            assert!(matches!(refused, Refused::Failed(_)), "{refused:?}");
        }
    }
}

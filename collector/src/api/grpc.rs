//! `QueryService` over gRPC, with health and reflection beside it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use procscope_proto::v1::{self, query_service_server::QueryService};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{come_again, convert, invalid_argument, outcome, status};
use crate::{
    access::Caller,
    clock,
    query::{AuditQuery, ExitsQuery, GroupsQuery, HistoryQuery, Queries, QueryError, TopQuery},
    self_stats::SelfStats,
};

/// Watchers at once: each asks the store a small question a few times a second.
const WATCHERS_MAX: usize = 64;

/// How long those wait who would watch when all places are taken: people watch for minutes.
const WATCH_WAIT: Duration = Duration::from_secs(10);

/// How often a watcher looks for a new interval. Small against the shortest useful interval of a second.
const WATCH_EVERY: Duration = Duration::from_millis(300);

/// How long a watcher may leave an answer unread.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// Answers questions over gRPC.
#[derive(Debug, Clone)]
pub struct Grpc {
    queries: Queries,
    stats: Arc<SelfStats>,
    watchers: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl Grpc {
    /// Answers from `queries`; watchers end when `stop` becomes true.
    #[must_use]
    pub fn new(queries: Queries, stats: Arc<SelfStats>, stop: watch::Receiver<bool>) -> Self {
        Self {
            queries,
            stats,
            watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
            stop,
        }
    }

    /// Times a question and counts how its answer ended.
    async fn answer<T>(
        &self,
        question: &'static str,
        answer: impl Future<Output = Result<T, QueryError>>,
    ) -> Result<T, Status> {
        let started = Instant::now();
        let answered = answer.await;
        let word = answered.as_ref().err().map_or("ok", |error| outcome(error).word);
        self.stats.asked(question, word, started.elapsed());
        answered.map_err(|error| status(&error))
    }

    async fn top(&self, query: &TopQuery) -> Result<v1::ListTopProcessesResponse, Status> {
        let answer = self
            .answer("top", self.queries.top(query, clock::now_ms()))
            .await?;
        Ok(convert::top(answer, query))
    }

    /// Sends a top each time a new interval is complete, until nobody reads any more.
    async fn watch(
        self,
        query: TopQuery,
        answers: mpsc::Sender<Result<v1::WatchTopProcessesResponse, Status>>,
        caller: Option<Caller>,
        _place: OwnedSemaphorePermit,
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
            let newest = self
                .queries
                .newest_complete_ms(&query.hosts, clock::now_ms())
                .await;
            let answer = match newest {
                Ok(newest_ms) if newest_ms == shown_ms && shown_ms.is_some() => None,
                Ok(None) => None,
                Ok(newest_ms) => {
                    shown_ms = newest_ms;
                    Some(self.top(&query).await)
                }
                Err(error) => Some(Err(status(&error))),
            };
            if let Some(answer) = answer {
                let failed = answer.is_err();
                let answer = answer.map(|top| v1::WatchTopProcessesResponse { top: Some(top) });
                if answers.send_timeout(answer, UNREAD_MAX).await.is_err() || failed {
                    return;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(WATCH_EVERY) => {}
                () = answers.closed() => return,
                why = &mut lapsed => {
                    drop(answers.try_send(Err(Status::unauthenticated(why))));
                    return;
                }
                () = crate::stopped(self.stop.clone()) => {
                    drop(answers.try_send(Err(Status::unavailable("the collector is stopping"))));
                    return;
                }
            }
        }
    }
}

#[tonic::async_trait]
impl QueryService for Grpc {
    async fn list_top_processes(
        &self,
        request: Request<v1::ListTopProcessesRequest>,
    ) -> Result<Response<v1::ListTopProcessesResponse>, Status> {
        let query = convert::top_query(request.into_inner())?;
        Ok(Response::new(self.top(&query).await?))
    }

    type WatchTopProcessesStream = ReceiverStream<Result<v1::WatchTopProcessesResponse, Status>>;

    async fn watch_top_processes(
        &self,
        request: Request<v1::WatchTopProcessesRequest>,
    ) -> Result<Response<Self::WatchTopProcessesStream>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let request = request.into_inner().query.unwrap_or_default();
        if request.range.is_some() {
            return Err(invalid_argument(
                "query.range",
                "must be absent: a watch shows the last intervals",
            ));
        }
        let query = convert::top_query(request)?;
        // Asked once in the open, so that a wrong question is refused at once and by its own code.
        self.top(&query).await?;
        let place = Arc::clone(&self.watchers).try_acquire_owned().map_err(|_full| {
            come_again(
                WATCH_WAIT,
                format!("{WATCHERS_MAX} watch already, which is the most"),
            )
        })?;
        let (answers, receiver) = mpsc::channel(1);
        tokio::spawn(self.clone().watch(query, answers, caller, place));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get_process_history(
        &self,
        request: Request<v1::GetProcessHistoryRequest>,
    ) -> Result<Response<v1::GetProcessHistoryResponse>, Status> {
        let request = request.into_inner();
        let query = HistoryQuery {
            process_id: request.process_id,
            host: request.host,
            name: request.name,
            range: convert::asked_range(request.range)?,
            step_ms: request.step_ms,
        };
        let answer = self
            .answer("history", self.queries.history(&query, clock::now_ms()))
            .await?;
        Ok(Response::new(convert::history(answer)))
    }

    async fn list_groups(
        &self,
        request: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        let request = request.into_inner();
        let query = GroupsQuery {
            base: request.base,
            regex: request.regex,
            group: request.group,
            hosts: request.hosts,
            range: convert::asked_range(request.range)?,
            limit: request.limit,
        };
        let answer = self
            .answer("groups", self.queries.groups(&query, clock::now_ms()))
            .await?;
        Ok(Response::new(convert::groups(answer)))
    }

    async fn list_process_exits(
        &self,
        request: Request<v1::ListProcessExitsRequest>,
    ) -> Result<Response<v1::ListProcessExitsResponse>, Status> {
        let request = request.into_inner();
        let query = ExitsQuery {
            hosts: request.hosts,
            name: request.name,
            range: convert::asked_range(request.range)?,
            max_lifetime_ns: request.max_lifetime_ns,
            failed: request.failed,
            page_size: request.page_size,
            page_token: request.page_token,
            process_id: request.process_id,
        };
        let answer = self
            .answer("exits", self.queries.exits(&query, clock::now_ms()))
            .await?;
        Ok(Response::new(convert::exits(answer)))
    }

    async fn list_hosts(
        &self,
        request: Request<v1::ListHostsRequest>,
    ) -> Result<Response<v1::ListHostsResponse>, Status> {
        let range = convert::asked_range(request.into_inner().range)?;
        let answer = self
            .answer("hosts", self.queries.hosts(range, clock::now_ms()))
            .await?;
        Ok(Response::new(convert::hosts(answer)))
    }

    async fn get_audit(
        &self,
        request: Request<v1::GetAuditRequest>,
    ) -> Result<Response<v1::GetAuditResponse>, Status> {
        let request = request.into_inner();
        let query = AuditQuery {
            hosts: request.hosts,
            range: convert::asked_range(request.range)?,
        };
        let answer = self
            .answer("audit", self.queries.audit(&query, clock::now_ms()))
            .await?;
        Ok(Response::new(convert::audit(answer)))
    }
}

//! `QueryService` over gRPC, with health and reflection beside it.

use std::{pin::Pin, sync::Arc};

use procscope_proto::v1::{self, query_service_server::QueryService};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{
    come_again, convert, invalid_argument, status,
    watch::{End, Refused, STOPPING, WATCH_WAIT, WATCHERS_FULL, Watchers},
};
use crate::{
    access::Caller,
    clock,
    query::{AuditQuery, ExitsQuery, GroupsQuery, HistoryQuery, Queries, QueryError, TopQuery},
    self_stats::SelfStats,
};

/// Answers questions over gRPC.
#[derive(Debug, Clone)]
pub struct Grpc {
    queries: Queries,
    stats: Arc<SelfStats>,
    watchers: Watchers,
}

impl Grpc {
    /// Answers from `queries`.
    #[must_use]
    pub fn new(queries: Queries, stats: Arc<SelfStats>, watchers: Watchers) -> Self {
        Self {
            queries,
            stats,
            watchers,
        }
    }

    /// Times a question and counts how its answer ended.
    async fn answer<T>(
        &self,
        question: &'static str,
        answer: impl Future<Output = Result<T, QueryError>>,
    ) -> Result<T, Status> {
        super::answer(&self.stats, question, answer)
            .await
            .map_err(|error| status(&error))
    }

    async fn top(&self, query: &TopQuery) -> Result<v1::ListTopProcessesResponse, Status> {
        let answer = self
            .answer("top", self.queries.top(query, clock::now_ms()))
            .await?;
        Ok(convert::top(answer, query))
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

    type WatchTopProcessesStream =
        Pin<Box<dyn Stream<Item = Result<v1::WatchTopProcessesResponse, Status>> + Send>>;

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
        let tops = match self.watchers.open(query.clone(), caller).await {
            Ok(tops) => ReceiverStream::new(tops),
            Err(Refused::Failed(error)) => return Err(status(&error)),
            Err(Refused::Full) => return Err(come_again(WATCH_WAIT, WATCHERS_FULL)),
        };
        let answers = tops.map(move |top| match top {
            Ok(top) => Ok(v1::WatchTopProcessesResponse {
                top: Some(convert::top(top, &query)),
            }),
            Err(End::Failed(error)) => Err(status(&error)),
            Err(End::Lapsed(why)) => Err(Status::unauthenticated(why)),
            Err(End::Stopping) => Err(Status::unavailable(STOPPING)),
        });
        Ok(Response::new(Box::pin(answers)))
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

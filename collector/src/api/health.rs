//! `grpc.health.v1.Health`: whether the store is ready, for each service; and that another one is not known here.

use procscope_proto::v1::{
    ingest_service_server::IngestServiceServer, query_service_server::QueryServiceServer,
};
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt as _, wrappers::WatchStream};
use tonic::{Request, Response, Status, server::NamedService};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server::Health,
};

use super::grpc::Grpc;
use crate::ingest::Ingest;

/// Services that have a health; the empty name is all of them.
const SERVICES: [&str; 3] = [
    "",
    <IngestServiceServer<Ingest> as NamedService>::NAME,
    <QueryServiceServer<Grpc> as NamedService>::NAME,
];

/// Tells what `ready` says until `stop`.
#[derive(Debug)]
pub(crate) struct Readiness {
    ready: watch::Receiver<bool>,
    stop: watch::Receiver<bool>,
}

impl Readiness {
    pub(crate) fn new(ready: watch::Receiver<bool>, stop: watch::Receiver<bool>) -> Self {
        Self { ready, stop }
    }
}

fn status(service: &str, ready: bool) -> ServingStatus {
    match (SERVICES.contains(&service), ready) {
        (false, _) => ServingStatus::ServiceUnknown,
        (true, true) => ServingStatus::Serving,
        (true, false) => ServingStatus::NotServing,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl Health for Readiness {
    type WatchStream = Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + Unpin>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match status(&request.get_ref().service, *self.ready.borrow()) {
            ServingStatus::ServiceUnknown => Err(Status::not_found(format!(
                "this collector has {} and {}",
                SERVICES[1], SERVICES[2]
            ))),
            known => Ok(Response::new(response(known))),
        }
    }

    /// As the protocol asks: a service that is not known has a status, and a status is sent when it changes.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let mut last = None;
        let statuses = WatchStream::new(self.ready.clone()).filter_map(move |ready| {
            let status = status(&service, ready);
            (last.replace(status) != Some(status)).then(|| Ok(response(status)))
        });
        let stops = WatchStream::from_changes(self.stop.clone()).map(|_stop| None);
        let statuses = statuses.map(Some).merge(stops).map_while(|told| told);
        Ok(Response::new(Box::new(statuses)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn watched(service: &str, changes: &[bool]) -> Vec<ServingStatus> {
        let (sender, ready) = watch::channel(false);
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let (stops, stop) = watch::channel(false);
        let watched = Readiness::new(ready, stop).watch(Request::new(request)).await;
        let mut statuses = watched.unwrap().into_inner();
        let mut got = Vec::new();
        for ready in changes {
            sender.send(*ready).unwrap();
            while let Ok(Some(status)) =
                tokio::time::timeout(std::time::Duration::ZERO, statuses.next()).await
            {
                got.push(status.unwrap().status());
            }
        }
        stops.send(true).unwrap();
        assert!(statuses.next().await.is_none(), "it ends with the collector");
        got
    }

    #[tokio::test]
    async fn a_status_is_told_when_it_changes_and_an_unknown_service_has_one() {
        let (up, down) = (ServingStatus::Serving, ServingStatus::NotServing);
        let changes = [false, true, true, false];
        assert_eq!(
            watched("procscope.v1.QueryService", &changes).await,
            [down, up, down]
        );
        assert_eq!(watched("", &changes).await, [down, up, down]);
        assert_eq!(watched("nobody", &changes).await, [ServingStatus::ServiceUnknown]);
    }
}

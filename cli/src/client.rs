//! The connection to a collector: requests with their deadline and token, and what its errors mean to a person.

use std::{error::Error as _, time::Duration};

use procscope_proto::v1::{
    GetAuditRequest, GetAuditResponse, GetProcessHistoryRequest, GetProcessHistoryResponse, Host,
    ListGroupsRequest, ListGroupsResponse, ListHostsRequest, ListHostsResponse, ListProcessExitsRequest,
    ListProcessExitsResponse, ListTopProcessesRequest, ListTopProcessesResponse, TimeRange,
    WatchTopProcessesRequest, WatchTopProcessesResponse, query_service_client::QueryServiceClient,
};
use procscope_startup::{
    Failure, Result,
    wire::{broke_off, hint_of_tls},
};
use tonic::{
    Code, Request, Response, Status, Streaming,
    codec::CompressionEncoding,
    transport::{self, Channel},
};
use tonic_types::StatusExt as _;

use crate::{
    config::{Format, Settings},
    text,
};

/// A question over a year of a large fleet takes seconds; one that takes longer is not answered by waiting.
const DEADLINE: Duration = Duration::from_secs(30);
/// The largest answer taken: 100,000 exits are about a third of it.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A connected client.
pub(crate) struct Client {
    inner: QueryServiceClient<Channel>,
    settings: Settings,
    busy: bool,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Exit code 1, naming the URL, why it could not be reached, and what to do.
    pub(crate) async fn connect(settings: &Settings) -> Result<Self> {
        let channel = settings.call.endpoint.connect().await.map_err(|error| {
            Failure::failed(format_args!(
                "could not reach the collector at {}: {}; start procscope-collector there, or name another with \
                 --server",
                settings.server,
                why(&error)
            ))
        })?;
        let inner = QueryServiceClient::new(channel)
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Self {
            inner,
            settings: settings.clone(),
            busy: false,
        })
    }

    /// Whether the last question was turned away because too many ask.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy
    }

    /// What a refusal in the middle of a stream means.
    pub(crate) fn broken(&mut self, status: &Status) -> Failure {
        self.busy = is_busy(status);
        explain(&self.settings.server, status)
    }

    /// Asks for the top list.
    pub(crate) async fn top(&mut self, message: ListTopProcessesRequest) -> Result<ListTopProcessesResponse> {
        let request = self.request(message);
        self.answer(self.inner.clone().list_top_processes(request).await)
    }

    /// Asks for the top list, again each time a new interval is complete.
    pub(crate) async fn watch(
        &mut self,
        query: ListTopProcessesRequest,
    ) -> Result<Streaming<WatchTopProcessesResponse>> {
        let mut request = Request::new(WatchTopProcessesRequest { query: Some(query) });
        self.authorize(&mut request);
        self.answer(self.inner.clone().watch_top_processes(request).await)
    }

    /// Asks for one process over time.
    pub(crate) async fn history(
        &mut self,
        message: GetProcessHistoryRequest,
    ) -> Result<GetProcessHistoryResponse> {
        let request = self.request(message);
        self.answer(self.inner.clone().get_process_history(request).await)
    }

    /// Asks for a group.
    pub(crate) async fn groups(&mut self, message: ListGroupsRequest) -> Result<ListGroupsResponse> {
        let request = self.request(message);
        self.answer(self.inner.clone().list_groups(request).await)
    }

    /// Asks for a page of exits.
    pub(crate) async fn exits(
        &mut self,
        message: ListProcessExitsRequest,
    ) -> Result<ListProcessExitsResponse> {
        let request = self.request(message);
        self.answer(self.inner.clone().list_process_exits(request).await)
    }

    /// Asks for the hosts.
    pub(crate) async fn hosts(&mut self, message: ListHostsRequest) -> Result<ListHostsResponse> {
        let request = self.request(message);
        self.answer(self.inner.clone().list_hosts(request).await)
    }

    /// The hosts that an answer is about, for its heading: those with something in its range, whether or not they
    /// have a row. None where nobody reads a heading, or where the collector does not say: the answer is worth
    /// showing without them.
    pub(crate) async fn hosts_within(&mut self, range: Option<TimeRange>) -> Vec<Host> {
        if self.settings.format != Format::Table {
            return Vec::new();
        }
        let mut hosts = self
            .hosts(ListHostsRequest { range })
            .await
            .map_or_else(|_unknown| Vec::new(), |response| response.hosts);
        let asked = &self.settings.hosts;
        hosts.retain(|host| asked.is_empty() || asked.contains(&host.host));
        hosts
    }

    /// Asks where the CPU time went.
    pub(crate) async fn audit(&mut self, message: GetAuditRequest) -> Result<GetAuditResponse> {
        let request = self.request(message);
        self.answer(self.inner.clone().get_audit(request).await)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(DEADLINE);
        self.authorize(&mut request);
        request
    }

    fn authorize<T>(&self, request: &mut Request<T>) {
        if let Some(token) = &self.settings.call.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
    }

    fn answer<T>(&mut self, answer: std::result::Result<Response<T>, Status>) -> Result<T> {
        self.busy = false;
        answer
            .map(Response::into_inner)
            .map_err(|status| self.broken(&status))
    }
}

/// Whether the collector says when to come again: nothing is wrong with the question.
fn is_busy(status: &Status) -> bool {
    status.code() == Code::ResourceExhausted && status.get_details_retry_info().is_some()
}

/// What a refusal of the collector means: the line names the server, why, and what to do.
pub(crate) fn explain(server: &str, status: &Status) -> Failure {
    let said = match text::safe(status.message()) {
        said if said.is_empty() => format!("{:?}", status.code()),
        said => said,
    };
    match status.code() {
        _ if broke_off(status) => Failure::failed(format_args!(
            "the collector at {server} broke off: {}; see its log{}",
            status.source().map_or(said, deepest),
            hint_of_tls(server, status)
        )),
        Code::InvalidArgument | Code::OutOfRange => Failure::usage(format_args!(
            "the collector at {server} does not take this question: {said}"
        )),
        Code::Unauthenticated | Code::PermissionDenied => Failure::failed(format_args!(
            "the collector at {server} does not let this client in: {said}; show it a token with --token-file"
        )),
        Code::Unimplemented => Failure::failed(format_args!(
            "the collector at {server} does not know this question: {said}; it may be older than this client, or \
             the address another service's"
        )),
        // What is not there is an answer, not a failure of the collector.
        Code::NotFound => Failure::failed(format_args!(
            "{said} (asked the collector at {server}); see `procscope hosts`, or ask for longer with --since"
        )),
        Code::DeadlineExceeded | Code::Cancelled => Failure::failed(format_args!(
            "the collector at {server} did not answer within {} s: {said}; ask for a shorter range with --since",
            DEADLINE.as_secs()
        )),
        Code::ResourceExhausted if is_busy(status) => Failure::failed(format_args!(
            "the collector at {server} is busy: {said}; try again in a moment"
        )),
        Code::ResourceExhausted => Failure::failed(format_args!(
            "the answer of the collector at {server} is too much: {said}; ask for less with --limit or --since"
        )),
        Code::Unavailable => Failure::failed(format_args!(
            "the collector at {server} is not available: {}; try again, and see its log",
            status.source().map_or(said, deepest)
        )),
        // The first byte of a page or of JSON where a message of gRPC begins with a flag.
        _ if said.contains("invalid compression flag") => Failure::failed(format_args!(
            "{server} does not answer in gRPC: it looks like the HTTP port; the collector's port for gRPC is 7400 by \
             default, name it with --server"
        )),
        code => Failure::failed(format_args!(
            "the collector at {server} failed: {said} ({code:?}); see its log"
        )),
    }
}

fn why(error: &transport::Error) -> String {
    error
        .source()
        .map_or_else(|| text::safe(&error.to_string()), deepest)
}

/// The innermost cause is the one that a person can act on.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    text::safe(&cause.to_string())
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn check(status: &Status, code: u8, part: &str) {
        let failure = explain("http://h:1", status);
        assert_eq!(failure.code(), code);
        let line = failure.to_string();
        assert!(line.contains("http://h:1") && line.contains(part), "{line}");
        assert!(!line.chars().any(text::is_unsafe), "{line:?}");
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        check(
            &Status::invalid_argument("limit: at most 1000"),
            2,
            "limit: at most 1000",
        );
        check(&Status::unauthenticated(""), 1, "--token-file");
        check(&Status::deadline_exceeded("Timeout expired"), 1, "--since");
        check(&Status::resource_exhausted(""), 1, "--limit");
        let again = ErrorDetails::with_retry_info(None);
        let busy = Status::with_error_details(Code::ResourceExhausted, "8 questions", again);
        check(&busy, 1, "is busy: 8 questions; try again");
        let page =
            "protocol error: received message with invalid compression flag: 123 (valid flags are 0 and 1)";
        check(&Status::internal(page), 1, "HTTP port");
        check(&Status::unavailable("store"), 1, "store");
        check(&Status::unimplemented(""), 1, "older");
        check(&Status::internal("x"), 1, "log");
        assert_eq!(
            explain("http://h:1", &Status::not_found("no host `a` is known")).to_string(),
            "no host `a` is known (asked the collector at http://h:1); see `procscope hosts`, or ask for longer \
             with --since"
        );
        check(&Status::not_found(""), 1, "NotFound");
    }

    #[test]
    fn an_error_cannot_write_to_the_terminal_either() {
        check(
            &Status::internal("a\x1b]0;owned\x07\u{202e}\nb"),
            1,
            "a\\x1b]0;owned\\x07",
        );
    }
}

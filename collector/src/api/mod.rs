//! One table: our error → gRPC code and HTTP status. And who may ask at all.

pub mod convert;
pub mod grpc;
pub(crate) mod health;
pub mod host_check;
mod html;
pub mod http;
pub mod problem;
pub mod refusals;
mod rest;
pub mod watch;

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tracing::warn;

use crate::{query::QueryError, self_stats::SelfStats, store::StoreError};

/// How long those wait who ask while as many as may are asking: questions take less than a second.
const BUSY_WAIT: Duration = Duration::from_secs(1);

/// How an error looks to those who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Canonical code of gRPC.
    pub code: Code,
    /// Status of HTTP.
    pub status: StatusCode,
    /// The word in our metrics.
    pub word: &'static str,
}

/// The table.
#[must_use]
pub fn outcome(error: &QueryError) -> Outcome {
    let outcome = |code, status, word| Outcome { code, status, word };
    match error {
        QueryError::Invalid { .. } => outcome(Code::InvalidArgument, StatusCode::BAD_REQUEST, "invalid"),
        QueryError::NotFound(_) => outcome(Code::NotFound, StatusCode::NOT_FOUND, "not_found"),
        QueryError::Busy => outcome(Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS, "busy"),
        QueryError::Store(error) => match error.code() {
            // TOO_MANY_ROWS, MEMORY_LIMIT_EXCEEDED, TOO_MANY_ROWS_OR_BYTES
            Some(158 | 241 | 396) => {
                outcome(Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS, "too_much")
            }
            // TIMEOUT_EXCEEDED, TOO_SLOW
            Some(159 | 160) => outcome(Code::DeadlineExceeded, StatusCode::GATEWAY_TIMEOUT, "too_long"),
            _ if error.is_transient() => outcome(
                Code::Unavailable,
                StatusCode::SERVICE_UNAVAILABLE,
                "store_unavailable",
            ),
            _ => outcome(Code::Internal, StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        },
    }
}

/// What the one who asked may read about it: the store's own words stay in the log.
#[must_use]
pub fn message(error: &QueryError) -> String {
    let QueryError::Store(store) = error else {
        return error.to_string();
    };
    warn!(error = store.chain(), "a question was not answered");
    match outcome(error).code {
        Code::ResourceExhausted => {
            "the question needs more than the store allows one: ask for a shorter range"
        }
        Code::DeadlineExceeded => {
            "the question took longer than the store allows one: ask for a shorter range"
        }
        Code::Unavailable => "the store does not answer now: ask again in a moment",
        _ => "the store could not answer the question; the collector's log says why",
    }
    .to_owned()
}

/// Times a question and counts how its answer ended.
async fn answer<T>(
    stats: &SelfStats,
    question: &'static str,
    answer: impl Future<Output = Result<T, QueryError>>,
) -> Result<T, QueryError> {
    let started = Instant::now();
    let answered = answer.await;
    let word = answered.as_ref().err().map_or("ok", |error| outcome(error).word);
    stats.asked(question, word, started.elapsed());
    answered
}

/// An error as gRPC tells it, with the field where the request was wrong.
#[must_use]
pub fn status(error: &QueryError) -> Status {
    match error {
        QueryError::Invalid { field, reason } => invalid_argument(field, reason),
        QueryError::Busy => come_again(BUSY_WAIT, message(error)),
        error => Status::new(outcome(error).code, message(error)),
    }
}

/// `INVALID_ARGUMENT` with a field violation.
#[must_use]
pub fn invalid_argument(field: &str, reason: &str) -> Status {
    let details = ErrorDetails::with_bad_request_violation(field, reason);
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {reason}"), details)
}

/// `RESOURCE_EXHAUSTED` that passes: the sender keeps what it has and comes again after a while.
#[must_use]
pub fn come_again(wait: Duration, reason: impl Into<String>) -> Status {
    let details = ErrorDetails::with_retry_info(Some(wait));
    Status::with_error_details(Code::ResourceExhausted, reason, details)
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        status(&QueryError::Store(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u32) -> QueryError {
        let message = format!("Code: {code}. DB::Exception: secret table names");
        QueryError::Store(StoreError::Refused {
            what: "x",
            code: Some(code),
            message,
        })
    }

    #[test]
    fn each_error_has_its_code() {
        for (error, code) in [
            (QueryError::Busy, Code::ResourceExhausted),
            (QueryError::NotFound("no such process".to_owned()), Code::NotFound),
            (refused(241), Code::ResourceExhausted),
            (refused(159), Code::DeadlineExceeded),
            (refused(210), Code::Unavailable),
            (refused(47), Code::Internal),
        ] {
            assert_eq!(status(&error).code(), code, "{error}");
        }
    }

    #[test]
    fn the_words_of_the_store_stay_inside() {
        assert!(!status(&refused(47)).message().contains("secret"));
    }

    #[test]
    fn a_wrong_field_is_named_for_machines_too() {
        let status = invalid_argument("limit", "is 7");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(
            (&*violations[0].field, &*violations[0].description),
            ("limit", "is 7")
        );
    }
}

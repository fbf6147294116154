//! Errors over HTTP: RFC 9457 `application/problem+json`, which names the field where a request is wrong.

use std::time::Duration;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{BUSY_WAIT, message, outcome};
use crate::query::QueryError;

/// Media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request was not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    kind: &'static str,
    /// The words of the status.
    title: &'static str,
    /// The status.
    status: u16,
    /// What is wrong and what to do, in one sentence.
    detail: String,
    /// What is wrong with which parameter; empty when it is none of them.
    errors: Vec<FieldError>,
    #[serde(skip)]
    #[schema(ignore)]
    retry_after: Option<Duration>,
}

/// What is wrong with one parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Its name as in the request.
    pub field: String,
    /// What is wrong with it.
    pub detail: String,
}

impl Problem {
    /// A problem without a field.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Unknown"),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
        }
    }

    /// Wrong parameters.
    #[must_use]
    pub fn fields(errors: Vec<FieldError>) -> Self {
        let told = errors
            .iter()
            .map(|FieldError { field, detail }| format!("{field}: {detail}"));
        let detail = told.collect::<Vec<_>>().join("; ");
        Self {
            errors,
            ..Self::new(StatusCode::BAD_REQUEST, detail)
        }
    }

    /// One wrong parameter.
    #[must_use]
    pub fn field(field: &str, detail: impl Into<String>) -> Self {
        Self::fields(vec![FieldError {
            field: field.to_owned(),
            detail: detail.into(),
        }])
    }

    /// It passes: when to come again.
    #[must_use]
    pub fn come_again(status: StatusCode, wait: Duration, detail: impl Into<String>) -> Self {
        Self {
            retry_after: Some(wait),
            ..Self::new(status, detail)
        }
    }
}

impl From<&QueryError> for Problem {
    fn from(error: &QueryError) -> Self {
        if let QueryError::Invalid { field, reason } = error {
            return Self::field(parameter(field), reason);
        }
        let status = outcome(error).status;
        let passes = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
        Self {
            retry_after: passes.then_some(BUSY_WAIT),
            ..Self::new(status, message(error))
        }
    }
}

/// The parameter that a field of a question comes from.
fn parameter(field: &'static str) -> &'static str {
    match field {
        "hosts" => "host",
        "range" => "start",
        "range.end" => "end",
        "step_ms" => "step",
        "page_size" => "limit",
        "last_intervals" => "intervals",
        "max_lifetime_ns" => "max_lifetime",
        field => field,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Text, numbers and lists of them always have a form in JSON.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        if let Some(wait) = self.retry_after {
            // Whole seconds, and never too early.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_the_field_and_when_to_come_again() {
        let problem = Problem::from(&QueryError::Invalid {
            field: "hosts",
            reason: "is \"x\"".to_owned(),
        });
        assert_eq!(
            serde_json::to_string(&problem).unwrap(),
            r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"host: is \"x\"","#
                .to_owned()
                + r#""errors":[{"field":"host","detail":"is \"x\""}]}"#
        );
        let response = Problem::from(&QueryError::Busy).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
    }
}

//! REST: the questions of the query layer over HTTP, described by an `OpenAPI` document made from these handlers.

mod answers;
mod docs;
mod export;
mod live;
mod params;
mod parquet;
mod questions;
mod routes;
mod sheet;

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};

use super::{
    problem::{PROBLEM_JSON, Problem},
    watch::Watchers,
};
use crate::{query::Queries, self_stats::SelfStats};

/// Bytes of a body that nobody asked for: it is not read, and a longer one is refused.
const BODY_BYTES_MAX: u64 = 64 << 10;

/// What the routes share. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Rest {
    pub(super) queries: Queries,
    pub(super) stats: Arc<SelfStats>,
    pub(super) watchers: Watchers,
}

/// All routes of REST, with the document that describes them.
pub(super) fn router(rest: Rest) -> Router {
    let answers = Router::new()
        .route("/api/v1/processes/top", get(routes::top))
        .route("/api/v1/processes/history", get(routes::history))
        .route("/api/v1/processes/groups", get(routes::groups))
        .route("/api/v1/processes/exits", get(routes::exits))
        .route("/api/v1/hosts", get(routes::hosts))
        .route("/api/v1/audit", get(routes::audit))
        .layer(middleware::from_fn(|request: Request, next: Next| {
            in_form("application/json", request, next)
        }));
    let events = Router::new()
        .route("/api/v1/live", get(live::events))
        .layer(middleware::from_fn(|request: Request, next: Next| {
            in_form("text/event-stream", request, next)
        }));
    answers
        .merge(events)
        .route("/api/v1/live/ws", get(live::socket))
        .route("/api/v1/export", get(export::export))
        .with_state(rest)
        .route("/api/openapi.json", get(docs::document))
        .route("/docs", get(docs::page))
}

/// Answers only those who take the form that there is.
async fn in_form(form: &'static str, request: Request, next: Next) -> Response {
    if !takes(request.headers(), form) {
        let detail = format!("there is {form} here, and Accept asks for other forms");
        return Problem::new(StatusCode::NOT_ACCEPTABLE, detail).into_response();
    }
    let mut response = next.run(request).await;
    response
        .headers_mut()
        .append(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// Whether one who sent these headers takes a media type. Problems come in their own, whatever was asked for.
fn takes(headers: &HeaderMap, form: &str) -> bool {
    let mut accept = headers.get_all(header::ACCEPT).iter().peekable();
    if accept.peek().is_none() {
        return true;
    }
    let (kind, _) = form.split_once('/').unwrap_or((form, ""));
    let ranges = accept
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let mut taken = ranges.map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or("").to_ascii_lowercase();
        let refused = parts.any(|part| {
            let weight = part
                .strip_prefix("q=")
                .and_then(|weight| weight.parse::<f32>().ok());
            weight.is_some_and(|weight| weight <= 0.0)
        });
        let fits = name == "*/*"
            || name == form
            || name.strip_suffix("/*").is_some_and(|name| name == kind)
            || name == PROBLEM_JSON;
        fits && !refused
    });
    taken.any(|taken| taken)
}

/// Refuses a body: no question has one.
pub(super) async fn without_body(request: Request, next: Next) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > BODY_BYTES_MAX) {
        let detail = "the request has a long body, and no question has any: put parameters into the address";
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).into_response();
    }
    next.run(request).await
}

/// For what there is not.
pub(super) async fn unknown(request: Request) -> Problem {
    let path: String = request.uri().path().chars().take(200).collect();
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("{path} is no address here; /docs lists them"),
    )
}

/// For what there is and is asked for in another way.
pub(super) async fn wrong_method(request: Request) -> Problem {
    let detail = format!("{} is not answered here: only GET and HEAD are", request.method());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_taken_or_refused_as_accept_says() {
        for (accept, taken) in [
            ("application/json", true),
            ("*/*", true),
            ("text/html, application/*;q=0.8", true),
            ("application/problem+json", true),
            ("text/html", false),
            ("application/json;q=0", false),
            ("Application/JSON; charset=utf-8", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(takes(&headers, "application/json"), taken, "{accept}");
        }
        assert!(takes(&HeaderMap::new(), "application/json"));
    }
}

//! One function for each question: parameters in, an answer of the query layer in JSON out.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::IntoResponses;

use super::{
    Rest, answers,
    params::{Asked, AuditParams, ExitsParams, GroupsParams, HistoryParams, HostsParams, TopParams},
    questions,
};
use crate::{
    api::{
        convert,
        problem::{PROBLEM_JSON, Problem},
    },
    clock,
    model::hex,
    query::QueryError,
};

/// How a question is refused.
pub(super) struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>> {
        let refusals = [
            (StatusCode::BAD_REQUEST, "A parameter is wrong; it is named"),
            (StatusCode::UNAUTHORIZED, "A token is missing or wrong"),
            (
                StatusCode::FORBIDDEN,
                "The credential is not good for this, or the name of the host is not ours",
            ),
            (StatusCode::NOT_FOUND, "Nobody ever heard of what was asked for"),
            (StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD are answered"),
            (
                StatusCode::NOT_ACCEPTABLE,
                "The answer has none of the forms that were asked for",
            ),
            (StatusCode::PAYLOAD_TOO_LARGE, "The request has a body"),
            (
                StatusCode::TOO_MANY_REQUESTS,
                "Too many questions, or one that is too large: see Retry-After",
            ),
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "A mistake of the collector; its log says which",
            ),
            (StatusCode::SERVICE_UNAVAILABLE, "The store does not answer now"),
            (StatusCode::GATEWAY_TIMEOUT, "The question took too long"),
        ];
        let content = || {
            utoipa::openapi::ContentBuilder::new()
                .schema(Some(utoipa::openapi::Ref::from_schema_name("Problem")))
                .build()
        };
        refusals
            .into_iter()
            .map(|(status, says)| {
                let response = utoipa::openapi::ResponseBuilder::new()
                    .description(says)
                    .content(PROBLEM_JSON, content())
                    .build();
                (status.as_str().to_owned(), response.into())
            })
            .chain(std::iter::once((
                StatusCode::URI_TOO_LONG.as_str().to_owned(),
                // Refused before anything of ours reads it.
                utoipa::openapi::ResponseBuilder::new()
                    .description("Path and parameters have more than 64 KiB; there is no body")
                    .build()
                    .into(),
            )))
            .collect()
    }
}

/// An answer in JSON, with a tag by which the same one need not be sent again.
pub(super) fn json(answer: &impl Serialize, headers: &HeaderMap) -> Response {
    let Ok(body) = serde_json::to_vec(answer) else {
        return Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the answer has no form in JSON",
        )
        .into_response();
    };
    // Weak: the same answer may be compressed or not.
    let tag = format!("W/\"{}\"", hex(&Sha256::digest(&body)[..12]));
    let cached = [
        (header::ETAG, tag.as_str()),
        (header::CACHE_CONTROL, "private, no-cache"),
    ];
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|tags| tags.to_str().ok());
    if known.is_some_and(|tags| {
        tags.split(',')
            .any(|known| matches!(known.trim(), "*") || known.trim() == tag)
    }) {
        return (StatusCode::NOT_MODIFIED, cached).into_response();
    }
    (cached, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

impl Rest {
    /// Asks the query layer, and counts how that went.
    pub(super) async fn ask<T>(
        &self,
        question: &'static str,
        answer: impl Future<Output = Result<T, QueryError>>,
    ) -> Result<T, Problem> {
        let answered = crate::api::answer(&self.stats, question, answer).await;
        answered.map_err(|error| Problem::from(&error))
    }
}

type Answered = Result<Response, Problem>;

/// The processes or groups that used most of something.
#[utoipa::path(get, path = "/api/v1/processes/top", params(TopParams),
    responses((status = 200, description = "The top", body = answers::Top), Refusals))]
pub(super) async fn top(State(rest): State<Rest>, headers: HeaderMap, asked: Asked<TopParams>) -> Answered {
    let query = questions::top(&asked);
    let top = rest.ask("top", rest.queries.top(&query, clock::now_ms())).await?;
    let top = answers::Top::new(convert::top(top, &query), asked.hours());
    Ok(json(&top, &headers))
}

/// One process, or all processes of a name on a host, over time.
#[utoipa::path(get, path = "/api/v1/processes/history", params(HistoryParams),
    responses((status = 200, description = "The history", body = answers::History), Refusals))]
pub(super) async fn history(
    State(rest): State<Rest>,
    headers: HeaderMap,
    asked: Asked<HistoryParams>,
) -> Answered {
    let query = questions::history(&asked)?;
    let history = rest
        .ask("history", rest.queries.history(&query, clock::now_ms()))
        .await?;
    let history = answers::History::new(convert::history(history), asked.hours());
    Ok(json(&history, &headers))
}

/// A group of processes by their names: its total and its members.
#[utoipa::path(get, path = "/api/v1/processes/groups", params(GroupsParams),
    responses((status = 200, description = "The group", body = answers::Groups), Refusals))]
pub(super) async fn groups(
    State(rest): State<Rest>,
    headers: HeaderMap,
    asked: Asked<GroupsParams>,
) -> Answered {
    let query = questions::groups(&asked);
    let groups = rest
        .ask("groups", rest.queries.groups(&query, clock::now_ms()))
        .await?;
    let groups = answers::Groups::new(convert::groups(groups), asked.hours());
    Ok(json(&groups, &headers))
}

/// Every process that ended, newest first, page by page.
#[utoipa::path(get, path = "/api/v1/processes/exits", params(ExitsParams),
    responses((status = 200, description = "A page of exits", body = answers::Exits), Refusals))]
pub(super) async fn exits(
    State(rest): State<Rest>,
    headers: HeaderMap,
    asked: Asked<ExitsParams>,
) -> Answered {
    let query = questions::exits(&asked)?;
    let exits = rest
        .ask("exits", rest.queries.exits(&query, clock::now_ms()))
        .await?;
    let exits = answers::Exits::new(convert::exits(exits), asked.hours());
    Ok(json(&exits, &headers))
}

/// Hosts that sent something within a range.
#[utoipa::path(get, path = "/api/v1/hosts", params(HostsParams),
    responses((status = 200, description = "The hosts", body = answers::Hosts), Refusals))]
pub(super) async fn hosts(
    State(rest): State<Rest>,
    headers: HeaderMap,
    asked: Asked<HostsParams>,
) -> Answered {
    let range = Some(asked.range());
    let hosts = rest
        .ask("hosts", rest.queries.hosts(range, clock::now_ms()))
        .await?;
    let hosts = answers::Hosts::new(convert::hosts(hosts), asked.hours());
    Ok(json(&hosts, &headers))
}

/// Where each CPU-second of each host went, and what was lost.
#[utoipa::path(get, path = "/api/v1/audit", params(AuditParams),
    responses((status = 200, description = "The audit", body = answers::Audit), Refusals))]
pub(super) async fn audit(
    State(rest): State<Rest>,
    headers: HeaderMap,
    asked: Asked<AuditParams>,
) -> Answered {
    let query = questions::audit(&asked);
    let audit = rest
        .ask("audit", rest.queries.audit(&query, clock::now_ms()))
        .await?;
    let audit = answers::Audit::new(convert::audit(audit), asked.hours());
    Ok(json(&audit, &headers))
}

//! What those are told on the gRPC port who do not speak gRPC, name no method of ours or send no message of ours.

use std::time::Duration;

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tonic::{Code, Status};

/// How tonic begins to tell of a request that it could not read. It calls that INTERNAL, as a bug of ours would be.
const UNREADABLE: [&str; 3] = [
    "failed to decode Protobuf message",
    "protocol error: received message",
    "Missing request message",
];

/// So long before the time is over we say that it is. At the end itself tonic would, and call it CANCELLED.
const BEFORE: Duration = Duration::from_millis(3);

/// How long the caller waits, from `grpc-timeout`: at most eight digits and a unit. Others are tonic's to refuse.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: u64 = digits.parse().ok().filter(|_amount| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3_600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// Passes gRPC on, and makes refusals say whose mistake it is.
pub async fn explain(request: Request, next: Next) -> Response {
    let is_grpc = |headers: &HeaderMap| {
        let kind = headers.get(header::CONTENT_TYPE);
        kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
    };
    if !is_grpc(request.headers()) {
        let why =
            "this port speaks gRPC; the page, /metrics and /healthz are at the address of --http-listen\n";
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, why).into_response();
    }
    let path = request.uri().path().to_owned();
    let answered = match deadline(request.headers()) {
        Some(wait) => tokio::time::timeout(wait.saturating_sub(BEFORE), next.run(request)).await,
        None => Ok(next.run(request).await),
    };
    let Ok(response) = answered else {
        return Status::deadline_exceeded("the answer took longer than the caller waits").into_http();
    };
    let Some(status) = Status::from_header_map(response.headers()) else {
        return response;
    };
    let said = status.message();
    match status.code() {
        Code::Internal if UNREADABLE.iter().any(|begin| said.starts_with(begin)) => {
            Status::invalid_argument(format!("the request of {path} could not be read: {said}")).into_http()
        }
        Code::Unimplemented if said.is_empty() => Status::unimplemented(format!(
            "{path} is no method of this collector; reflection lists them"
        ))
        .into_http(),
        _ => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_a_number_and_a_unit() {
        for (text, wait) in [
            ("5S", Some(Duration::from_secs(5))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("1H", Some(Duration::from_hours(1))),
            ("100000000S", None),
            ("S", None),
            ("5", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            assert_eq!(deadline(&headers), wait, "{text}");
        }
    }
}

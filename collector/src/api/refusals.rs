//! What those are told on the gRPC port who do not speak gRPC, name no method of ours or send no message of ours.

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
    let response = next.run(request).await;
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

//! The live top: server-sent events and WebSocket, from the same watch as gRPC's.

use std::{convert::Infallible, time::Duration};

use axum::{
    Extension,
    extract::{
        State,
        ws::{
            CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code,
            rejection::WebSocketUpgradeRejection,
        },
    },
    http::{HeaderMap, StatusCode, header},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use super::{
    Rest, answers,
    params::{Asked, LiveParams},
    questions,
    routes::Refusals,
};
use crate::{
    access::Caller,
    api::{
        convert,
        problem::Problem,
        watch::{Answers, End, Refused, STOPPING, WATCH_WAIT, WATCHERS_FULL},
    },
    query::{Top, TopQuery},
};

/// What a listener may send: nothing but control frames is expected of it.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// How often a silent line is used, so that what stands between does not cut it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

fn refused(refused: &Refused) -> Problem {
    match refused {
        Refused::Failed(error) => Problem::from(error),
        Refused::Full => Problem::come_again(StatusCode::SERVICE_UNAVAILABLE, WATCH_WAIT, WATCHERS_FULL),
    }
}

fn ended(end: &End) -> Problem {
    match end {
        End::Failed(error) => Problem::from(error),
        End::Lapsed(why) => Problem::new(StatusCode::UNAUTHORIZED, *why),
        End::Stopping => Problem::come_again(StatusCode::SERVICE_UNAVAILABLE, WATCH_WAIT, STOPPING),
    }
}

fn text(top: Top, query: &TopQuery) -> String {
    let top = answers::Top::new(convert::top(top, query), None);
    // Text, numbers and lists of them always have a form in JSON.
    serde_json::to_string(&top).unwrap_or_default()
}

/// The top, again each time a new interval is complete, as server-sent events.
///
/// Each event is called `top`, its id is the end of what it covers, and its data is what
/// `/api/v1/processes/top` answers. An event `problem` comes before an end by the collector.
#[utoipa::path(get, path = "/api/v1/live", params(LiveParams),
    responses((status = 200, description = "Events", body = String, content_type = "text/event-stream"), Refusals))]
pub(super) async fn events(
    State(rest): State<Rest>,
    caller: Option<Extension<Caller>>,
    asked: Asked<LiveParams>,
) -> Result<Response, Problem> {
    let query = questions::live(&asked);
    let tops = rest
        .watchers
        .open(query.clone(), caller.map(|caller| caller.0))
        .await;
    let tops = tops.map_err(|why| refused(&why))?;
    let events = ReceiverStream::new(tops).map(move |top| {
        let event = match top {
            Ok(top) => {
                let id = top.range.end_ms.to_string();
                Event::default().event("top").id(id).data(text(top, &query))
            }
            Err(end) => {
                let problem = serde_json::to_string(&ended(&end)).unwrap_or_default();
                Event::default().event("problem").data(problem)
            }
        };
        Ok::<_, Infallible>(event)
    });
    Ok(Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response())
}

/// The top, again each time a new interval is complete, as text messages of a WebSocket.
///
/// Each message is what `/api/v1/processes/top` answers. A page may open it only from this very address.
#[utoipa::path(get, path = "/api/v1/live/ws", params(LiveParams),
    responses((status = 101, description = "A WebSocket"), (status = 426, description = "No WebSocket was asked for",
        body = Problem, content_type = "application/problem+json"), Refusals))]
pub(super) async fn socket(
    State(rest): State<Rest>,
    headers: HeaderMap,
    caller: Option<Extension<Caller>>,
    asked: Asked<LiveParams>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    if !is_own_page(&headers) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "Origin is another address: only a page of this one may listen",
        ));
    }
    let upgrade = upgrade.map_err(|no_upgrade| {
        let detail = format!("no WebSocket was asked for: {no_upgrade}; /api/v1/live has the same as events");
        Problem::new(StatusCode::UPGRADE_REQUIRED, detail)
    })?;
    let query = questions::live(&asked);
    let tops = rest
        .watchers
        .open(query.clone(), caller.map(|caller| caller.0))
        .await;
    let tops = tops.map_err(|why| refused(&why))?;
    Ok(upgrade
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .on_upgrade(move |socket| speak(rest, socket, tops, query)))
}

/// A browser says by `Origin` which page asks; what is no browser says nothing.
fn is_own_page(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    matches!((origin, host), (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host))
}

/// Sends what comes until one side ends.
async fn speak(rest: Rest, mut socket: WebSocket, mut tops: Answers, query: TopQuery) {
    loop {
        let top = tokio::select! {
            top = tops.recv() => top,
            heard = socket.recv() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                // Pings are answered below us; anything else means nothing.
                Some(Ok(_)) => continue,
            },
        };
        let (message, last) = match top {
            Some(Ok(top)) => (Message::Text(text(top, &query).into()), false),
            Some(Err(end)) => (close(&end), true),
            None => return,
        };
        match tokio::time::timeout(rest.watchers.unread_max(), socket.send(message)).await {
            Ok(Ok(())) if !last => {}
            Err(_unread) => return rest.stats.watcher_dropped(),
            Ok(_) => return,
        }
    }
}

fn close(end: &End) -> Message {
    let (code, reason) = match end {
        End::Failed(error) => (close_code::ERROR, crate::api::message(error)),
        End::Lapsed(why) => (close_code::POLICY, (*why).to_owned()),
        End::Stopping => (close_code::AWAY, STOPPING.to_owned()),
    };
    // A control frame has room for 123 bytes of reason.
    let reason: String = reason.chars().filter(char::is_ascii).take(120).collect();
    Message::Close(Some(CloseFrame {
        code,
        reason: reason.into(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_page_may_listen() {
        for (origin, host, good) in [
            (None, "localhost:7401", true),
            (Some("http://localhost:7401"), "localhost:7401", true),
            (Some("https://Collector.example"), "collector.example", true),
            (Some("http://localhost:8080"), "localhost:7401", false),
            (Some("http://evil.example"), "localhost:7401", false),
            (Some("null"), "localhost:7401", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(is_own_page(&headers), good, "{origin:?} {host}");
        }
    }
}

//! One process over time, as the live top asks for it and keeps it. `run` asks again while somebody looks.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use procscope_proto::v1::{GetProcessHistoryRequest, GetProcessHistoryResponse, TimeRange, TopProcess};
use procscope_startup::Result;
use tokio::sync::{mpsc, watch};

use super::state::Update;
use crate::{client::Client, clock, config::Settings, when};

/// Lengths of time that a chart may show; the first is the default.
pub(super) const SPANS: [Duration; 4] = [
    Duration::from_mins(10),
    Duration::from_hours(1),
    Duration::from_hours(6),
    Duration::from_hours(24),
];
/// A chart of the present is drawn again after so long, or after the step of its points if that is longer.
const AGAIN_MIN: Duration = Duration::from_secs(2);
/// Waiting time after a failure.
const RETRY: Duration = Duration::from_secs(2);

/// Whose history it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    Process(String),
    Name { host: String, name: String },
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub subject: Subject,
    pub span: Duration,
    /// `None`: now.
    pub until: Option<Timestamp>,
}

/// A chart on the screen.
#[derive(Debug, Clone)]
pub(super) struct Trend {
    pub wanted: Wanted,
    /// The row it was opened on, which tells who it is.
    pub row: TopProcess,
    /// The newest answer, to whichever length of time.
    pub answer: Option<GetProcessHistoryResponse>,
    /// Why there is no newer one.
    pub failure: Option<String>,
}

/// Asks for what is wanted, and again as time passes; ends when nobody listens.
pub(super) async fn run(
    settings: Settings,
    mut wanted: watch::Receiver<Option<Wanted>>,
    updates: mpsc::Sender<Update>,
) {
    let mut client = None;
    loop {
        let now = wanted.borrow_and_update().clone();
        let asked = async {
            let Some(now) = now else {
                return std::future::pending().await;
            };
            let answer = ask(&settings, &mut client, &now).await;
            let again = match &answer {
                Ok(response) if now.until.is_none() => {
                    Some(Duration::from_millis(response.step_ms).max(AGAIN_MIN))
                }
                Ok(_) => None,
                Err(_) => Some(RETRY),
            };
            if answer.is_err() {
                // A new connection next time: this one may be what is broken.
                client = None;
            }
            let answer = Box::new(answer.map_err(|failure| failure.to_string()));
            if updates.send(Update::Trend { wanted: now, answer }).await.is_err() {
                return;
            }
            match again {
                Some(again) => tokio::time::sleep(again).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = asked => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
        if updates.is_closed() {
            return;
        }
    }
}

async fn ask(
    settings: &Settings,
    client: &mut Option<Client>,
    wanted: &Wanted,
) -> Result<GetProcessHistoryResponse> {
    let client = match client {
        Some(client) => client,
        None => client.insert(Client::connect(settings).await?),
    };
    client.history(request(wanted, clock::now())).await
}

fn request(wanted: &Wanted, now: Timestamp) -> GetProcessHistoryRequest {
    let (process_id, host, name) = match &wanted.subject {
        Subject::Process(id) => (id.clone(), String::new(), String::new()),
        Subject::Name { host, name } => (String::new(), host.clone(), name.clone()),
    };
    let end = wanted.until.unwrap_or(now);
    let start = SignedDuration::try_from(wanted.span)
        .ok()
        .and_then(|span| end.checked_sub(span).ok());
    let range = start.map(|start| TimeRange {
        // Now ends with the newest complete interval, which the collector knows.
        end: wanted.until.map(when::to_wire),
        start: Some(when::to_wire(start)),
    });
    GetProcessHistoryRequest {
        process_id,
        host,
        name,
        range,
        step_ms: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_present_has_no_end_and_the_past_ends_where_the_table_does() {
        let now = Timestamp::from_second(10_000).unwrap();
        let mut wanted = Wanted {
            subject: Subject::Process("id".to_owned()),
            span: SPANS[0],
            until: None,
        };
        let range = request(&wanted, now).range.unwrap();
        assert_eq!((range.start.unwrap().seconds, range.end), (9_400, None));
        wanted.until = Timestamp::from_second(5_000).ok();
        let range = request(&wanted, now).range.unwrap();
        assert_eq!(
            (range.start.unwrap().seconds, range.end.unwrap().seconds),
            (4_400, 5_000)
        );
    }
}

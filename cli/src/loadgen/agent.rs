//! One agent of the load: freezes a snapshot an interval, sends, keeps what is not stored, and sends that again.

use std::{collections::VecDeque, time::Instant};

use procscope_proto::v1::{
    PushSnapshotsRequest, PushSnapshotsResponse, ingest_service_client::IngestServiceClient,
};
use prost::Message as _;
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};
use uuid::Uuid;

use super::{Shared, machine::Machine};
use crate::{args::Loadgen, clock, config::Settings};

/// Snapshots that wait to be stored; the oldest gives way.
const WAITING_MAX: usize = 600;
/// Snapshots on their way on one stream.
const WINDOW: usize = 32;
/// The shortest and the longest wait before a new stream.
const BACKOFF_MS: (u64, u64) = (100, 5_000);

/// The agent.
pub(super) struct Agent {
    machine: Machine,
    settings: Settings,
    interval: std::time::Duration,
    shared: Shared,
    id: Vec<u8>,
    epoch: u64,
    seq: u64,
    /// Not stored, with the instant at which each was first sent.
    waiting: VecDeque<(PushSnapshotsRequest, Option<Instant>)>,
    /// How many of them are on their way.
    sent: usize,
}

/// Why a stream is over.
enum Over {
    /// Everything is stored, or nobody waits any longer.
    Done,
    /// It broke.
    Broken(Status),
}

/// Whether trying again makes it no better: the token is missing, or not good for this.
fn is_final(status: &Status) -> bool {
    matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied)
}

impl Agent {
    /// An agent that nobody has heard of.
    pub(super) fn new(machine: Machine, settings: &Settings, load: &Loadgen, shared: Shared) -> Self {
        Self {
            machine,
            settings: settings.clone(),
            interval: load.interval,
            shared,
            id: Uuid::new_v4().into_bytes().to_vec(),
            epoch: Uuid::new_v4().as_u64_pair().0.max(1),
            seq: 0,
            waiting: VecDeque::new(),
            sent: 0,
        }
    }

    /// Measures from `start` until `ends`, and waits until `given_up` for what it has sent to be stored.
    pub(super) async fn run(mut self, start: Instant, ends: Instant, given_up: Instant) {
        let mut ticks = tokio::time::interval_at(start.into(), self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut backoff_ms = BACKOFF_MS.0;
        loop {
            let stored = self.shared.lock().stored;
            let stream = self.converse(&mut ticks, ends);
            let over = tokio::time::timeout_at(given_up.into(), stream).await;
            match over {
                Ok(Over::Done) | Err(_) => return,
                Ok(Over::Broken(status)) if is_final(&status) => {
                    self.shared.lock().refused = Some(status);
                    return;
                }
                Ok(Over::Broken(status)) => {
                    let mut figures = self.shared.lock();
                    if figures.stored > stored {
                        backoff_ms = BACKOFF_MS.0;
                    }
                    let said = crate::text::safe(status.message());
                    figures.trouble = Some(format!("{:?}: {said}", status.code()));
                }
            }
            self.sent = 0;
            // Full jitter: agents that lost one collector do not come back at one time.
            let wait_ms = Uuid::new_v4().as_u64_pair().1 % backoff_ms;
            tokio::time::sleep(std::time::Duration::from_millis(wait_ms)).await;
            backoff_ms = (backoff_ms * 2).min(BACKOFF_MS.1);
        }
    }

    /// One stream, from its opening to its end.
    async fn converse(&mut self, ticks: &mut tokio::time::Interval, ends: Instant) -> Over {
        let channel = match self.settings.call.endpoint.connect().await {
            Ok(channel) => channel,
            Err(error) => return Over::Broken(Status::unavailable(error.to_string())),
        };
        let (sender, receiver) = mpsc::channel(WINDOW);
        let mut request = Request::new(ReceiverStream::new(receiver));
        if let Some(token) = &self.settings.call.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        let mut client = IngestServiceClient::new(channel);
        let mut acks: Streaming<PushSnapshotsResponse> = match client.push_snapshots(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return Over::Broken(status),
        };
        self.shared.lock().streams += 1;
        loop {
            let measures = Instant::now() < ends;
            if !measures && self.waiting.is_empty() {
                return Over::Done;
            }
            let next = (self.sent < self.waiting.len().min(WINDOW)).then_some(self.sent);
            tokio::select! {
                _instant = ticks.tick(), if measures => self.freeze(),
                permit = sender.reserve(), if next.is_some() => {
                    let (Ok(permit), Some((request, first))) =
                        (permit, next.and_then(|next| self.waiting.get_mut(next)))
                    else {
                        return Over::Broken(Status::unavailable("the stream was closed"));
                    };
                    first.get_or_insert_with(Instant::now);
                    permit.send(request.clone());
                    self.sent += 1;
                }
                answer = acks.message() => match answer {
                    Ok(Some(answer)) => self.stored_through(answer.durable_seq),
                    Ok(None) => return Over::Broken(Status::unavailable("the collector ended the stream")),
                    Err(status) => return Over::Broken(status),
                },
            }
        }
    }

    fn freeze(&mut self) {
        let now = clock::now();
        let snapshot = self.machine.interval(prost_types::Timestamp {
            seconds: now.as_second(),
            nanos: now.subsec_nanosecond(),
        });
        let rows = snapshot.samples.len() + snapshot.exits.len() + snapshot.processes.len() + 1;
        let snapshot = snapshot.encode_to_vec();
        self.seq += 1;
        let mut figures = self.shared.lock();
        figures.made += 1;
        figures.rows += u64::try_from(rows).unwrap_or(0);
        figures.bytes += u64::try_from(snapshot.len()).unwrap_or(0);
        if self.waiting.len() >= WAITING_MAX && self.sent == 0 {
            self.waiting.pop_front();
            figures.dropped += 1;
        }
        drop(figures);
        let request = PushSnapshotsRequest {
            agent_id: self.id.clone(),
            epoch: self.epoch,
            seq: self.seq,
            snapshot_crc32c: crc32c::crc32c(&snapshot),
            snapshot,
            backlog: false,
        };
        self.waiting.push_back((request, None));
    }

    fn stored_through(&mut self, seq: u64) {
        let mut figures = self.shared.lock();
        while self.sent > 0
            && let Some((request, first)) = self.waiting.front()
            && request.seq <= seq
        {
            figures.stored += 1;
            figures.delayed(first.map_or_else(Default::default, |first| first.elapsed()));
            self.waiting.pop_front();
            self.sent -= 1;
        }
    }
}

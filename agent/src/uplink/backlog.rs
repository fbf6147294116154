//! Brings what earlier lives have left, beside the stream of the present one and only while that one is stored: the
//! newest questions are answered first.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use procscope_proto::v1::PushSnapshotsRequest;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{
    BACKOFF_MAX, BACKOFF_MIN, Outbox, REOPEN_MAX, Way, describe, is_refusal, jitter,
    poison::Suspicion,
    stream::{self, Next, Source, Window},
    wait,
};
use crate::spool::keeper::{Answer, Desk};

/// Acknowledgements take a second or less: at ten intervals a second this is more than twenty times what is measured,
/// and it is no more than an eighth of what a collector lets wait.
const WINDOW: Window = Window {
    len: 256,
    bytes: 8 << 20,
};
/// How often the spool is asked whether earlier lives have left something, when nothing was.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is left of an epoch, as a source.
struct Left<'a> {
    desk: &'a Desk,
    epoch: u64,
    read: VecDeque<PushSnapshotsRequest>,
    asked: Option<oneshot::Receiver<Answer>>,
    over: bool,
}

impl Left<'_> {
    fn take(&mut self, answer: Result<Answer, oneshot::error::RecvError>) {
        self.asked = None;
        match answer {
            Ok(Ok(Some(batch))) if batch.epoch == self.epoch && !batch.requests.is_empty() => {
                self.read.extend(batch.requests);
            }
            // Another epoch is another stream; what could not be read now is asked for later.
            _ => self.over = true,
        }
    }
}

impl Source for Left<'_> {
    fn next(&mut self, _sent: u64) -> Next {
        if let Some(request) = self.read.pop_front() {
            if self.read.is_empty() && self.asked.is_none() && !self.over {
                self.asked = Some(self.desk.backlog());
            }
            return Next::Snapshot(request);
        }
        if self.over { Next::End } else { Next::Nothing }
    }

    fn stored_through(&mut self, seq: u64) {
        self.desk.stored(self.epoch, seq);
    }

    async fn changed(&mut self) {
        match &mut self.asked {
            Some(asked) => {
                let answer = asked.await;
                self.take(answer);
            }
            None => std::future::pending().await,
        }
    }
}

/// Sends for ever; drop it to stop.
pub(super) async fn run(way: Arc<Way>, outbox: Arc<Outbox>) {
    let Some(desk) = outbox.desk() else {
        return std::future::pending().await;
    };
    let mut backoff = BACKOFF_MIN;
    let mut suspicion = Suspicion::default();
    loop {
        outbox.connected().await;
        desk.rewind();
        let Ok(Ok(Some(batch))) = desk.backlog().await else {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        };
        if batch.requests.is_empty() {
            // Nothing of that epoch could be read; the next answer is of another.
            tokio::time::sleep(BACKOFF_MIN).await;
            continue;
        }
        let mut source = Left {
            desk,
            epoch: batch.epoch,
            read: batch.requests.into(),
            asked: None,
            over: false,
        };
        let window = suspicion.narrow(WINDOW);
        let (mut sent, mut last) = (0_u64, 0);
        let ended = stream::run(&way, window, &mut source, &mut |durable| {
            (sent, last) = (sent + 1, durable);
        })
        .await;
        suspicion.passed(last);
        let Err(status) = ended.status else {
            info!(
                epoch = batch.epoch,
                seq = last,
                "what an earlier life of this agent has left is stored"
            );
            (backoff, suspicion) = (BACKOFF_MIN, Suspicion::default());
            continue;
        };
        if let Some(seq) = suspicion.failed(status.code(), &ended.on_the_way) {
            warn!(
                epoch = batch.epoch,
                seq,
                reason = status.message(),
                "a snapshot is refused for good: given up"
            );
            desk.set_aside(batch.epoch, seq);
            suspicion.passed(seq);
        }
        if sent > 0 {
            backoff = BACKOFF_MIN;
        }
        if ended.in_order {
            tokio::time::sleep(jitter(REOPEN_MAX)).await;
            continue;
        }
        let wait = wait(&status, is_refusal(status.code()) && !suspicion.is_on(), backoff);
        warn!(reason = %describe(&way, &status), retry_in_ms = wait.as_millis(), "the backlog does not get through");
        backoff = (backoff * 2).min(BACKOFF_MAX);
        tokio::time::sleep(wait).await;
    }
}

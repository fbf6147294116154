//! One gRPC stream of one epoch, from connect to its end: keeps a window full, takes acknowledgements.

use std::{collections::VecDeque, time::Duration};

use procscope_proto::v1::{
    PushSnapshotsRequest, PushSnapshotsResponse, ingest_service_client::IngestServiceClient,
};
use procscope_startup::wire::Way;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming, transport::Channel};
use tracing::warn;

/// Without an acknowledgement for so long while something is sent, the stream is taken for dead.
const ACK_TIMEOUT: Duration = Duration::from_secs(45);

/// What may be on its way, at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Snapshots.
    pub(super) len: usize,
    /// Their bytes; one snapshot is sent however long it is.
    pub(super) bytes: usize,
}

/// What a source has.
#[derive(Debug)]
pub(super) enum Next {
    /// A snapshot.
    Snapshot(PushSnapshotsRequest),
    /// Nothing now.
    Nothing,
    /// Nothing any more.
    End,
    /// Snapshots that this stream cannot bring.
    Gap,
}

/// Where the snapshots of a stream come from.
pub(super) trait Source {
    /// The collector lets this agent in; nothing was asked for yet.
    fn opened(&mut self) {}
    /// The oldest after `sent`, which was handed out last; 0: none was.
    fn next(&mut self, sent: u64) -> Next;
    /// The collector has stored everything up to and with `seq`.
    fn stored_through(&mut self, seq: u64);
    /// Waits until there may be more.
    async fn changed(&mut self);
}

/// How a stream has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Why; `Ok`: the source came to its end, and all is stored.
    pub(super) status: Result<(), Status>,
    /// The collector has ended it without an error, after it had stored something: another may be opened at once.
    pub(super) in_order: bool,
    /// What was on its way.
    pub(super) on_the_way: Vec<u64>,
}

struct Flight {
    sender: mpsc::Sender<PushSnapshotsRequest>,
    window: Window,
    sent: u64,
    ended: bool,
    on_the_way: VecDeque<(u64, usize)>,
    bytes: usize,
    stored: u64,
    in_order: bool,
}

impl Flight {
    /// Sends as far as the window allows.
    fn fill(&mut self, source: &mut impl Source) -> Result<(), Status> {
        while self.on_the_way.is_empty()
            || (self.on_the_way.len() < self.window.len && self.bytes < self.window.bytes)
        {
            match source.next(self.sent) {
                Next::Snapshot(request) => {
                    let (seq, bytes) = (request.seq, request.snapshot.len());
                    // There is room for a window in the channel; without a receiver the other side tells why.
                    if self.sender.try_send(request).is_err() {
                        return Ok(());
                    }
                    self.sent = seq;
                    self.bytes += bytes;
                    self.on_the_way.push_back((seq, bytes));
                }
                Next::Nothing => return Ok(()),
                Next::End => {
                    self.ended = true;
                    return Ok(());
                }
                Next::Gap => {
                    return Err(Status::aborted(
                        "snapshots gave way while the stream stood still; starting a new one",
                    ));
                }
            }
        }
        Ok(())
    }

    fn stored_through(&mut self, durable: u64) {
        self.stored = self.stored.max(durable);
        while let Some((seq, bytes)) = self.on_the_way.front().copied()
            && seq <= durable
        {
            self.on_the_way.pop_front();
            self.bytes -= bytes;
        }
    }
}

/// Connects and sends until the source or the stream comes to its end. `stored` hears of each acknowledgement.
pub(super) async fn run(
    way: &Way,
    window: Window,
    source: &mut impl Source,
    stored: &mut impl FnMut(u64),
) -> Ended {
    let (sender, receiver) = mpsc::channel(window.len);
    let mut flight = Flight {
        sender,
        window,
        sent: 0,
        ended: false,
        on_the_way: VecDeque::new(),
        bytes: 0,
        stored: 0,
        in_order: false,
    };
    let status = converse(way, &mut flight, receiver, source, stored).await;
    Ended {
        status,
        in_order: flight.in_order,
        on_the_way: flight.on_the_way.into_iter().map(|(seq, _)| seq).collect(),
    }
}

async fn converse(
    way: &Way,
    flight: &mut Flight,
    receiver: mpsc::Receiver<PushSnapshotsRequest>,
    source: &mut impl Source,
    stored: &mut impl FnMut(u64),
) -> Result<(), Status> {
    let (call, wrong) = way.call();
    if let Some(failure) = wrong {
        warn!(%failure, "the files of the connection are wrong now; going on with what they held before");
    }
    let channel: Channel = call
        .endpoint
        .connect()
        .await
        .map_err(|error| Status::unavailable(chain(&error)))?;
    let mut request = Request::new(ReceiverStream::new(receiver));
    if let Some(token) = call.token {
        request.metadata_mut().insert("authorization", token);
    }
    let mut client = IngestServiceClient::new(channel);
    let mut acks: Streaming<PushSnapshotsResponse> =
        tokio::time::timeout(ACK_TIMEOUT, client.push_snapshots(request))
            .await
            .map_err(|_elapsed| Status::deadline_exceeded("the collector did not open the stream"))??
            .into_inner();
    source.opened();
    flight.fill(source)?;
    while !(flight.ended && flight.on_the_way.is_empty()) {
        let ack = tokio::select! {
            ack = tokio::time::timeout(ACK_TIMEOUT, acks.message()) => Some(ack),
            () = source.changed(), if !flight.ended => None,
        };
        match ack {
            None => {}
            Some(Ok(Ok(Some(ack)))) => {
                // No collector can have stored what it was not sent.
                let durable = ack.durable_seq.min(flight.sent);
                flight.stored_through(durable);
                source.stored_through(durable);
                if durable > 0 {
                    stored(durable);
                }
            }
            Some(Ok(Ok(None))) => {
                flight.in_order = flight.stored > 0;
                return Err(Status::unavailable("the collector ended the stream"));
            }
            Some(Ok(Err(status))) => return Err(status),
            Some(Err(_elapsed)) if !flight.on_the_way.is_empty() => {
                return Err(Status::deadline_exceeded("nothing was acknowledged"));
            }
            Some(Err(_elapsed)) => {}
        }
        flight.fill(source)?;
    }
    Ok(())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Endless;

    impl Source for Endless {
        fn next(&mut self, sent: u64) -> Next {
            Next::Snapshot(PushSnapshotsRequest {
                seq: sent + 1,
                snapshot: vec![0; 100],
                ..PushSnapshotsRequest::default()
            })
        }
        fn stored_through(&mut self, _seq: u64) {}
        async fn changed(&mut self) {}
    }

    fn flight(window: Window) -> (Flight, mpsc::Receiver<PushSnapshotsRequest>) {
        let (sender, receiver) = mpsc::channel(1000);
        let flight = Flight {
            sender,
            window,
            sent: 0,
            ended: false,
            on_the_way: VecDeque::new(),
            bytes: 0,
            stored: 0,
            in_order: false,
        };
        (flight, receiver)
    }

    fn check(window: Window, acks: &[u64], sent: &[u64]) {
        let (mut flight, mut receiver) = flight(window);
        for (ack, sent) in acks.iter().zip(sent) {
            flight.stored_through(*ack);
            flight.fill(&mut Endless).unwrap();
            assert_eq!(flight.sent, *sent, "after {ack}");
        }
        let mut seq = 0;
        while let Ok(request) = receiver.try_recv() {
            seq += 1;
            assert_eq!(request.seq, seq);
        }
        assert_eq!(Some(&seq), sent.last());
    }

    #[test]
    fn the_window_bounds_what_is_on_its_way() {
        let bytes = usize::MAX;
        check(Window { len: 32, bytes }, &[0, 10, 10, 42], &[32, 42, 42, 74]);
        check(Window { len: 1, bytes }, &[0, 1], &[1, 2]);
        check(Window { len: 32, bytes: 250 }, &[0, 1, 3], &[3, 4, 6]);
        check(Window { len: 32, bytes: 1 }, &[0, 1], &[1, 2]);
    }
}

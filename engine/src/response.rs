//! The way of an answer from the thread that executes to the client: head, chunks, and an error in the middle.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::{HeaderMap, Response, StatusCode, header::HeaderValue};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::{Sleep, sleep, timeout},
};

use crate::{
    compression::Compressor,
    engine::Facts,
    exception::{Code, Exception},
    formats,
    request::Wire,
    running::Client,
    stats::Stats,
};

/// Chunks on their way to a client that reads slowly; beyond them the engine waits.
const CHUNKS_WAITING_MAX: usize = 4;
/// Bytes of a buffered answer that are handed over as one chunk.
const PIECE_BYTES: usize = 1 << 20;
/// How long a client may take nothing of its answer before the query is cancelled.
const STALL_MAX: Duration = Duration::from_mins(3);
/// How long the socket has to take the last chunk of a broken answer before the connection is closed under it.
const ABORT_AFTER: Duration = Duration::from_millis(200);

/// What travels from the executing thread to the client.
#[derive(Debug)]
enum Chunk {
    Data(Bytes),
    End,
}

/// The executing thread's end.
#[derive(Debug)]
pub struct Sink {
    head: Option<oneshot::Sender<Head>>,
    chunks: mpsc::Sender<Chunk>,
    compressor: Option<Compressor>,
    tag: String,
    wire: Wire,
    runtime: Handle,
    started: tokio::time::Instant,
}

/// Status and headers.
#[derive(Debug)]
pub struct Head {
    status: StatusCode,
    headers: Vec<(&'static str, String)>,
}

/// The client's end.
#[derive(Debug)]
pub struct Source {
    head: oneshot::Receiver<Head>,
    chunks: mpsc::Receiver<Chunk>,
}

/// The two ends for one request.
#[must_use]
pub fn channel(wire: Wire) -> (Sink, Source) {
    let (head, head_receiver) = oneshot::channel();
    let (chunks, chunks_receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
    let tag = uuid::Uuid::new_v4()
        .simple()
        .to_string()
        .chars()
        .take(16)
        .collect();
    let sink = Sink {
        head: Some(head),
        chunks,
        compressor: None,
        tag,
        wire,
        runtime: Handle::current(),
        started: tokio::time::Instant::now(),
    };
    (
        sink,
        Source {
            head: head_receiver,
            chunks: chunks_receiver,
        },
    )
}

impl Sink {
    /// Sends status 200 and the headers; chunks may follow.
    ///
    /// # Errors
    /// When the client has gone.
    pub fn begin(&mut self, format: &str, stats: &Stats) -> Result<(), Exception> {
        let compressor =
            Compressor::new(self.wire.accept, self.wire.compress).map_err(|error| internal(&error))?;
        let mut headers = vec![
            ("content-type", formats::content_type(format).to_owned()),
            ("x-clickhouse-format", format.to_owned()),
            ("x-clickhouse-summary", stats.summary(self.started.elapsed())),
            ("x-clickhouse-exception-tag", self.tag.clone()),
        ];
        if let Some(name) = self.wire.accept.name() {
            headers.push(("content-encoding", name.to_owned()));
        }
        self.compressor = Some(compressor);
        self.head(Head {
            status: StatusCode::OK,
            headers,
        })
    }

    /// Sends bytes of the answer; waits while the client is slow.
    ///
    /// # Errors
    /// When the client has gone.
    pub fn write(&mut self, plain: &[u8]) -> Result<(), Exception> {
        for piece in plain.chunks(PIECE_BYTES) {
            let Some(compressor) = self.compressor.as_mut() else {
                return Err(Exception::new(
                    Code::LOGICAL_ERROR,
                    "a chunk was sent before its head",
                ));
            };
            let bytes = compressor.piece(piece).map_err(|error| internal(&error))?;
            if !bytes.is_empty() {
                self.send(Chunk::Data(bytes.into()))?;
            }
        }
        Ok(())
    }

    /// Ends a good answer.
    ///
    /// # Errors
    /// When the client has gone.
    pub fn finish(mut self) -> Result<(), Exception> {
        if let Some(compressor) = self.compressor.take() {
            let bytes = compressor.finish().map_err(|error| internal(&error))?;
            if !bytes.is_empty() {
                self.send(Chunk::Data(bytes.into()))?;
            }
        }
        self.send(Chunk::End)
    }

    /// Ends in an error: as a status where no head has been sent, else as the tagged last chunk, after which the
    /// connection is closed without the end of the body.
    pub fn fail(mut self, error: &Exception, version: &str) {
        let line = error.line(version);
        let gone = if self.head.is_some() {
            let headers = vec![
                ("content-type", "text/plain; charset=UTF-8".to_owned()),
                ("x-clickhouse-exception-code", error.code().to_string()),
                (
                    "x-clickhouse-summary",
                    Stats::default().summary(self.started.elapsed()),
                ),
            ];
            self.head(Head {
                status: error.status(),
                headers,
            })
            .and_then(|()| self.send(Chunk::Data(line.into())))
            .and_then(|()| self.send(Chunk::End))
        } else {
            // Without `Chunk::End` behind it, the body breaks off.
            let tag = &self.tag;
            let text = format!(
                "\r\n__exception__\r\n{tag}\r\n{line}{} {tag}\r\n__exception__\r\n",
                line.len()
            );
            self.write(text.as_bytes())
        };
        if gone.is_err() {
            tracing::debug!(%error, "a client has gone before it could be told");
        }
    }

    fn head(&mut self, head: Head) -> Result<(), Exception> {
        let sender = self
            .head
            .take()
            .ok_or_else(|| Exception::new(Code::LOGICAL_ERROR, "a second head"))?;
        sender.send(head).map_err(|_head| client_gone())
    }

    fn send(&self, chunk: Chunk) -> Result<(), Exception> {
        match self.runtime.block_on(timeout(STALL_MAX, self.chunks.send(chunk))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(client_gone()),
        }
    }
}

fn client_gone() -> Exception {
    Exception::new(
        Code::QUERY_WAS_CANCELLED,
        "Query was cancelled: the client has gone",
    )
}

fn internal(error: &io::Error) -> Exception {
    Exception::new(
        Code::LOGICAL_ERROR,
        format_args!("could not compress the answer: {error}"),
    )
}

impl Source {
    /// Waits for the head and gives the response; the query is cancelled when it is dropped before its end.
    pub async fn into_response(self, query_id: &str, client: Client, facts: &Facts) -> Response<AnswerBody> {
        let Ok(head) = self.head.await else {
            let error = Exception::new(Code::LOGICAL_ERROR, "the query ended without an answer");
            return refusal(&error, facts);
        };
        let mut response = Response::new(AnswerBody {
            rest: Rest::Chunks {
                chunks: self.chunks,
                client: Some(client),
            },
        });
        *response.status_mut() = head.status;
        for (name, value) in head.headers {
            insert(response.headers_mut(), name, &value);
        }
        insert(response.headers_mut(), "x-clickhouse-query-id", query_id);
        common_headers(response.headers_mut(), facts);
        response
    }
}

/// A short answer in plain text.
#[must_use]
pub fn plain(status: StatusCode, text: impl Into<Bytes>, facts: &Facts) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody {
        rest: Rest::Whole(Some(text.into())),
    });
    *response.status_mut() = status;
    insert(
        response.headers_mut(),
        "content-type",
        "text/plain; charset=UTF-8",
    );
    common_headers(response.headers_mut(), facts);
    response
}

/// An error before any query has run.
#[must_use]
pub fn refusal(error: &Exception, facts: &Facts) -> Response<AnswerBody> {
    tracing::debug!(%error, "refused");
    let mut response = plain(error.status(), error.line(&facts.version), facts);
    insert(
        response.headers_mut(),
        "x-clickhouse-exception-code",
        &error.code().to_string(),
    );
    response
}

fn common_headers(headers: &mut HeaderMap, facts: &Facts) {
    insert(headers, "x-clickhouse-timezone", &facts.timezone);
    insert(headers, "x-clickhouse-server-display-name", &facts.display_name);
}

/// A value that no header can hold is left out.
fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// The body of a response.
#[derive(Debug)]
pub struct AnswerBody {
    rest: Rest,
}

#[derive(Debug)]
enum Rest {
    Whole(Option<Bytes>),
    Chunks {
        chunks: mpsc::Receiver<Chunk>,
        client: Option<Client>,
    },
    Breaking(Pin<Box<Sleep>>),
    Done,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            match &mut self.rest {
                Rest::Whole(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
                Rest::Chunks { chunks, client } => match chunks.poll_recv(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Chunk::Data(bytes))) => {
                        return Poll::Ready(Some(Ok(Frame::data(bytes))));
                    }
                    Poll::Ready(Some(Chunk::End)) => {
                        drop(client.take());
                        self.rest = Rest::Done;
                    }
                    // The thread has ended without `End`. What it sent last has to reach the socket before the
                    // error closes the connection: hyper flushes while a body waits.
                    Poll::Ready(None) => self.rest = Rest::Breaking(Box::pin(sleep(ABORT_AFTER))),
                },
                Rest::Breaking(wait) => match wait.as_mut().poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => {
                        self.rest = Rest::Done;
                        return Poll::Ready(Some(Err(io::Error::other("the answer broke off"))));
                    }
                },
                Rest::Done => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.rest, Rest::Done | Rest::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            Rest::Whole(bytes) => SizeHint::with_exact(
                bytes
                    .as_ref()
                    .map_or(0, |bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            ),
            _ => SizeHint::default(),
        }
    }
}

//! A request's body on its way from the socket to the thread that executes.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::{
    sync::mpsc,
    time::{Duration, timeout},
};

use crate::exception::{Code, Exception};

/// Bytes of an insert's data that are handed to the engine at once.
pub(crate) const INSERT_PIECE_BYTES: usize = 1 << 20;
/// Pieces on their way to a busy engine; beyond them the client waits.
const PIECES_WAITING_MAX: usize = 16;
/// How long a client may send nothing in the middle of a body.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// Reads a body on a blocking thread.
#[derive(Debug)]
pub struct BodyReader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
    ended: bool,
}

impl BodyReader {
    /// Starts to forward `body`; the task ends with the body or with this reader.
    #[must_use]
    pub fn new(body: Incoming) -> Self {
        let (sender, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        if body.is_end_stream() {
            return Self::of(Bytes::new());
        }
        tokio::spawn(forward(body, sender));
        Self {
            pieces,
            piece: Bytes::new(),
            ended: false,
        }
    }

    /// A body that is already here.
    #[must_use]
    pub fn of(piece: Bytes) -> Self {
        let (_sender, pieces) = mpsc::channel(1);
        Self {
            pieces,
            piece,
            ended: true,
        }
    }
}

/// The last thing sent is an empty piece, so that a body which breaks off is told from one that ends.
async fn forward(body: Incoming, sender: mpsc::Sender<io::Result<Bytes>>) {
    let mut body = std::pin::pin!(body);
    loop {
        let next = timeout(
            SILENCE_MAX,
            std::future::poll_fn(|context| body.as_mut().poll_frame(context)),
        )
        .await;
        let piece = match next {
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(piece) if piece.is_empty() => continue,
                Ok(piece) => Ok(piece),
                Err(_trailers) => continue,
            },
            Ok(Some(Err(error))) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, error)),
            Ok(None) => Ok(Bytes::new()),
            Err(_elapsed) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client sent nothing for a minute",
            )),
        };
        let last = !matches!(&piece, Ok(piece) if !piece.is_empty());
        if sender.send(piece).await.is_err() || last {
            return;
        }
    }
}

impl Read for BodyReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && !self.ended {
            self.piece = match self.pieces.blocking_recv() {
                Some(piece) => piece?,
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the client has gone",
                    ));
                }
            };
            self.ended = self.piece.is_empty();
        }
        let taken = self.piece.len().min(out.len());
        self.piece.copy_to_slice(&mut out[..taken]);
        Ok(taken)
    }
}

/// Reads until `out` is full or the data ends.
pub(crate) fn fill(data: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < out.len() {
        match data.read(&mut out[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Decoders carry our own errors inside theirs.
pub(crate) fn body_error(error: &io::Error) -> Exception {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Exception>())
    {
        Some(exception) => exception.clone(),
        None => Exception::new(
            Code::CANNOT_READ_ALL_DATA,
            format_args!("Cannot read the request's body: {error}"),
        ),
    }
}

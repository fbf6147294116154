//! The listener: connections and their bounds, routes, the pool of queries, and the end.

use std::{
    convert::Infallible,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http_body::Body as _;
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    access::Access,
    exception::{Code, Exception},
    execute::{Job, Shared, execute},
    request::Ask,
    response::{self, AnswerBody, plain, refusal},
    upload::BodyReader,
};

/// Connections at the same time; further ones wait in the socket's backlog.
const CONNECTIONS_MAX: usize = 512;
/// Queries that wait for a place in the pool; one more is refused.
const QUEUE_MAX: usize = 256;
/// How long a query waits for a place in the pool.
const QUEUE_WAIT_MAX: Duration = Duration::from_secs(30);
/// URL and headers together; a server takes URLs of 1 MiB.
const HEAD_BYTES_MAX: usize = 1 << 20;
/// How long a connection may take to send a head, or rest between requests: as long as a server keeps one alive.
const HEAD_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a form may rest between two parts.
const FORM_WAIT_MAX: Duration = Duration::from_mins(1);
/// A form with its parameters: data does not come this way.
const FORM_BYTES_MAX: usize = 16 << 20;
/// How long running queries may take to end when the engine is told to stop.
const GRACE: Duration = Duration::from_secs(5);
/// How long cancelled queries and the engine itself may take then.
const STOP_WAIT_MAX: Duration = Duration::from_secs(5);
/// How often expired sessions are looked for.
const SESSION_CHECK: Duration = Duration::from_secs(10);

/// What serves.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    access: Access,
    pool: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Server {
    /// `queries_max` run at the same time.
    #[must_use]
    pub fn new(shared: Arc<Shared>, access: Access, queries_max: usize) -> Self {
        Self {
            shared,
            access,
            pool: Arc::new(Semaphore::new(queries_max)),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Serves until `stop` completes, then lets running queries end, and stops the engine.
    ///
    /// # Errors
    /// When the listener breaks.
    pub async fn run(
        self: Arc<Self>,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> std::io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (stopping, stopped) = watch::channel(false);
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut stop = std::pin::pin!(stop);
        let mut session_check = tokio::time::interval(SESSION_CHECK);
        loop {
            let place = tokio::select! {
                () = &mut stop => break,
                _ = session_check.tick() => {
                    let shared = Arc::clone(&self.shared);
                    drop(tokio::task::spawn_blocking(move || shared.sessions.expire(std::time::Instant::now())));
                    continue;
                }
                place = Arc::clone(&connections).acquire_owned() => place.map_err(std::io::Error::other)?,
            };
            tokio::select! {
                () = &mut stop => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        tokio::spawn(Arc::clone(&self).connection(stream, stopped.clone(), place));
                    }
                    Err(error) => {
                        // Too many open files, or a client that went at once: the next one may do.
                        tracing::warn!(%error, "could not accept a connection");
                        sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(listener);
        stopping.send_replace(true);
        self.end().await;
        Ok(())
    }

    /// Lets queries end, cancels those that do not, and closes the engine.
    async fn end(&self) {
        let running = &self.shared.running;
        tracing::info!(queries = running.count(), "stopping");
        self.wait_for_queries(GRACE).await;
        if running.count() > 0 {
            tracing::warn!(
                queries = running.count(),
                "cancelling queries that did not end in time"
            );
            let shared = Arc::clone(&self.shared);
            let cancelled = tokio::task::spawn_blocking(move || shared.running.cancel_all(&shared.engine));
            drop(timeout(STOP_WAIT_MAX, cancelled).await);
            self.wait_for_queries(STOP_WAIT_MAX).await;
        }
        let shared = Arc::clone(&self.shared);
        let closed = tokio::task::spawn_blocking(move || {
            shared.sessions.close();
            shared.engine.close();
        });
        if timeout(STOP_WAIT_MAX, closed).await.is_err() {
            tracing::warn!("the engine did not close in time; it recovers when it starts again");
        }
    }

    async fn wait_for_queries(&self, longest: Duration) {
        let until = Instant::now() + longest;
        while self.shared.running.count() > 0 && Instant::now() < until {
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        mut stopped: watch::Receiver<bool>,
        place: OwnedSemaphorePermit,
    ) {
        drop(stream.set_nodelay(true));
        let service = service_fn(|request| {
            let server = Arc::clone(&self);
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WAIT_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let told = async { drop(stopped.wait_for(|stopped| *stopped).await) };
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = told => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "a connection broke off");
        }
        drop(place);
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<AnswerBody> {
        let shared = Arc::clone(&self.shared);
        let facts = shared.engine.facts();
        if let Err(error) = self.access.check_host(request.headers(), request.uri().host()) {
            return refusal(&error, facts);
        }
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/ping" | "/replicas_status") => {
                plain(StatusCode::OK, "Ok.\n", facts)
            }
            (&Method::GET | &Method::HEAD, "/") if request.uri().query().is_none() => {
                plain(StatusCode::OK, "Ok.\n", facts)
            }
            (&Method::GET | &Method::POST, "/") => match self.query(request).await {
                Ok(response) => response,
                Err(error) => refusal(&error, facts),
            },
            (_, "/") => plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "There are GET to read and POST here.\n",
                facts,
            ),
            (_, path) => plain(
                StatusCode::NOT_FOUND,
                format!("There is no handle {path}\n"),
                facts,
            ),
        }
    }

    async fn query(&self, request: Request<Incoming>) -> Result<Response<AnswerBody>, Exception> {
        let (parts, body) = request.into_parts();
        let mut ask = Ask::new(
            &parts.method,
            &parts.headers,
            parts.uri.query().unwrap_or_default(),
        )?;
        let reader = self.access.check_user(ask.credentials.as_ref())?;
        let query_id = ask
            .query_id
            .clone()
            .filter(|id| !id.is_empty())
            .unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let guard = self.shared.running.enter(&self.shared.engine, query_id.clone())?;
        let client = guard.client();
        let form = parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let reading = match form.and_then(|kind| multer::parse_boundary(kind).ok()) {
            Some(boundary) => {
                read_form(&mut ask, body, boundary).await?;
                BodyReader::of(bytes::Bytes::new())
            }
            None => BodyReader::new(body),
        };
        let place = self.place().await?;
        let (sink, source) = response::channel(ask.wire);
        let job = Job {
            ask,
            body: reading,
            guard,
            reader,
        };
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || {
            execute(&shared, job, sink);
            drop(place);
        });
        Ok(source
            .into_response(&query_id, client, self.shared.engine.facts())
            .await)
    }

    /// A place in the pool, at once or after a bounded wait.
    async fn place(&self) -> Result<OwnedSemaphorePermit, Exception> {
        let full = || {
            Exception::new(
                Code::TOO_MANY_SIMULTANEOUS_QUERIES,
                "Too many simultaneous queries",
            )
        };
        if let Ok(place) = Arc::clone(&self.pool).try_acquire_owned() {
            return Ok(place);
        }
        let _waiting = Waiting::enter(&self.waiting).ok_or_else(full)?;
        match timeout(QUEUE_WAIT_MAX, Arc::clone(&self.pool).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(full()),
        }
    }
}

/// One that waits in the queue.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(waiting: &'a AtomicUsize) -> Option<Self> {
        let entered = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < QUEUE_MAX).then_some(entered)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads a `multipart/form-data` body: `query` and parameters.
async fn read_form(ask: &mut Ask, body: Incoming, boundary: String) -> Result<(), Exception> {
    let broken = |error: &dyn std::fmt::Display| {
        Exception::new(
            Code::CANNOT_READ_ALL_DATA,
            format_args!("Cannot read the form: {error}"),
        )
    };
    let form = collect(body, FORM_BYTES_MAX).await?;
    let constraints = multer::Constraints::new();
    let mut form =
        multer::Multipart::with_reader_with_constraints(std::io::Cursor::new(form), boundary, constraints);
    while let Some(field) = form.next_field().await.map_err(|error| broken(&error))? {
        let name = field.name().unwrap_or_default().to_owned();
        let value = field.text().await.map_err(|error| broken(&error))?;
        ask.field(&name, value)?;
    }
    Ok(())
}

async fn collect(body: Incoming, bytes_max: usize) -> Result<Vec<u8>, Exception> {
    let mut body = std::pin::pin!(body);
    let mut collected = Vec::new();
    loop {
        let frame = timeout(
            FORM_WAIT_MAX,
            std::future::poll_fn(|context| body.as_mut().poll_frame(context)),
        );
        let broken = |error: &dyn std::fmt::Display| {
            Exception::new(
                Code::CANNOT_READ_ALL_DATA,
                format_args!("Cannot read the request's body: {error}"),
            )
        };
        match frame.await.map_err(|error| broken(&error))? {
            None => return Ok(collected),
            Some(frame) => {
                if let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() {
                    collected.extend_from_slice(&data);
                }
            }
        }
        if collected.len() > bytes_max {
            return Err(Exception::new(
                Code::QUERY_IS_TOO_LARGE,
                format_args!("The form is longer than {bytes_max} bytes"),
            ));
        }
    }
}

//! HTTP as these benches need it: a client that keeps its connection, and a listener that passes on to the engine what
//! it writes down.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header},
};
use hyper_util::{
    client::legacy::{Client as Inner, connect::HttpConnector},
    rt::TokioExecutor,
};

/// The longest answer that is read.
const ANSWER_MAX: usize = 256 << 20;

/// A client with connections of its own.
#[derive(Debug, Clone)]
pub(crate) struct Client(Inner<HttpConnector, Body>);

impl Client {
    /// One that comes from this address of the machine.
    pub(crate) fn from(address: Option<IpAddr>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_local_address(address);
        connector.set_nodelay(true);
        Self(Inner::builder(TokioExecutor::new()).build(connector))
    }

    /// Sends a request; the whole answer.
    ///
    /// # Errors
    /// When none comes.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Bytes>> {
        let answer = self.0.request(request).await.context("send a request")?;
        let (head, body) = answer.into_parts();
        let body = to_bytes(Body::new(body), ANSWER_MAX)
            .await
            .context("read an answer")?;
        Ok(Response::from_parts(head, body))
    }

    /// The same, where anything but success is an error.
    ///
    /// # Errors
    /// When no answer comes, or one that is no success.
    pub(crate) async fn succeed(&self, request: Request<Body>) -> Result<Bytes> {
        let answer = self.send(request).await?;
        ensure!(
            answer.status().is_success(),
            "{}: {}",
            answer.status(),
            String::from_utf8_lossy(answer.body())
                .chars()
                .take(500)
                .collect::<String>()
        );
        Ok(answer.into_body())
    }
}

/// A request as it was heard.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Heard {
    /// The same request to somebody else.
    ///
    /// # Errors
    /// When the address is none.
    pub(crate) fn to(&self, address: SocketAddr) -> Result<Request<Body>> {
        let uri: Uri = format!("http://{address}{}", self.path).parse()?;
        let mut request = Request::builder().method(self.method.clone()).uri(uri);
        for (name, value) in &self.headers {
            // The client says these for itself.
            if ![header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(name) {
                request = request.header(name, value);
            }
        }
        Ok(request.body(Body::from(self.body.clone()))?)
    }
}

/// Listens, passes on, and writes down what was asked.
#[derive(Debug, Clone)]
pub(crate) struct Tap {
    heard: Arc<Mutex<Vec<Heard>>>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Tap {
    /// Listens on a free port for as long as this program runs.
    ///
    /// # Errors
    /// When it cannot.
    pub(crate) fn start(to: SocketAddr) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("listen")?;
        listener.set_nonblocking(true).context("listen")?;
        let tap = Self {
            heard: Arc::default(),
            address: listener.local_addr().context("listen")?,
        };
        let heard = Arc::clone(&tap.heard);
        thread::Builder::new()
            .name("tap".to_owned())
            .spawn(move || {
                if let Err(error) = serve(listener, to, heard) {
                    eprintln!("procscope-bench: what listens before the engine: {error:#}");
                }
            })
            .context("start a thread")?;
        Ok(tap)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was heard since the last time.
    pub(crate) fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.lock())
    }
}

fn serve(listener: std::net::TcpListener, to: SocketAddr, heard: Arc<Mutex<Vec<Heard>>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = Client::from(None);
        let app = axum::Router::new().fallback(move |request: Request<Body>| {
            let (client, heard) = (client.clone(), Arc::clone(&heard));
            async move {
                pass_on(&client, to, &heard, request)
                    .await
                    .map_err(|error| (StatusCode::BAD_GATEWAY, format!("{error:#}")))
            }
        });
        let listener = tokio::net::TcpListener::from_std(listener)?;
        axum::serve(listener, app).await?;
        Ok(())
    })
}

async fn pass_on(
    client: &Client,
    to: SocketAddr,
    heard: &Mutex<Vec<Heard>>,
    request: Request<Body>,
) -> Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let said = Heard {
        method: parts.method,
        path: parts
            .uri
            .path_and_query()
            .map_or_else(String::new, ToString::to_string),
        headers: parts.headers,
        body: to_bytes(body, ANSWER_MAX).await?,
    };
    let request = said.to(to)?;
    heard.lock().unwrap_or_else(PoisonError::into_inner).push(said);
    let (mut answer, body) = client.send(request).await?.into_parts();
    answer.headers.remove(header::TRANSFER_ENCODING);
    Ok(Response::from_parts(answer, Body::from(body)))
}

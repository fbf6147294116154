//! A collector that says of every snapshot that it is stored: what the agent needs to go on, and nothing more.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use anyhow::{Context as _, Result};
use procscope_proto::v1::{
    PushSnapshotsRequest, PushSnapshotsResponse,
    ingest_service_server::{IngestService, IngestServiceServer},
};
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Listens for as long as this program runs.
pub(crate) struct Sink {
    /// Its address, as an agent wants it.
    pub(crate) url: String,
    /// Snapshots that have come.
    pub(crate) snapshots: Arc<AtomicU64>,
}

struct Service(Arc<AtomicU64>);

#[tonic::async_trait]
impl IngestService for Service {
    type PushSnapshotsStream = Pin<Box<dyn Stream<Item = Result<PushSnapshotsResponse, Status>> + Send>>;

    async fn push_snapshots(
        &self,
        request: Request<Streaming<PushSnapshotsRequest>>,
    ) -> Result<Response<Self::PushSnapshotsStream>, Status> {
        let count = Arc::clone(&self.0);
        let stored = request.into_inner().map(move |snapshot| {
            let durable_seq = snapshot?.seq;
            count.fetch_add(1, Ordering::Relaxed);
            Ok(PushSnapshotsResponse { durable_seq })
        });
        Ok(Response::new(Box::pin(stored)))
    }
}

impl Sink {
    /// Listens on a free port.
    ///
    /// # Errors
    /// When it cannot.
    pub(crate) fn start() -> Result<Self> {
        let (tell, told) = mpsc::sync_channel(1);
        let snapshots = Arc::new(AtomicU64::new(0));
        let service = Service(Arc::clone(&snapshots));
        thread::Builder::new()
            .name("sink".to_owned())
            .spawn(move || {
                if let Err(error) = serve(service, &tell) {
                    eprintln!("procscope-bench: the collector that stores nothing: {error:#}");
                }
            })
            .context("start a thread")?;
        let address = told.recv().context("start a collector that stores nothing")?;
        Ok(Self {
            url: format!("http://{address}"),
            snapshots,
        })
    }
}

fn serve(service: Service, tell: &mpsc::SyncSender<SocketAddr>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        tell.send(listener.local_addr()?)?;
        let service = IngestServiceServer::new(service)
            .max_decoding_message_size(64 << 20)
            .accept_compressed(tonic::codec::CompressionEncoding::Gzip);
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await?;
        Ok(())
    })
}

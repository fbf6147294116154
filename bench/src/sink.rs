//! A collector that says of every snapshot that it is stored: what the agent needs to go on, and nothing more.

use std::{net::SocketAddr, pin::Pin, sync::mpsc, thread};

use anyhow::{Context as _, Result};
use procscope_proto::v1::{
    PushSnapshotsRequest, PushSnapshotsResponse,
    ingest_service_server::{IngestService, IngestServiceServer},
};
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

struct Sink;

#[tonic::async_trait]
impl IngestService for Sink {
    type PushSnapshotsStream = Pin<Box<dyn Stream<Item = Result<PushSnapshotsResponse, Status>> + Send>>;

    async fn push_snapshots(
        &self,
        request: Request<Streaming<PushSnapshotsRequest>>,
    ) -> Result<Response<Self::PushSnapshotsStream>, Status> {
        let stored = request.into_inner().map(|snapshot| {
            snapshot.map(|snapshot| PushSnapshotsResponse {
                durable_seq: snapshot.seq,
            })
        });
        Ok(Response::new(Box::pin(stored)))
    }
}

/// Listens on a free port for as long as this program runs.
///
/// # Errors
/// When it cannot.
pub(crate) fn start() -> Result<SocketAddr> {
    let (tell, told) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("sink".to_owned())
        .spawn(move || {
            if let Err(error) = serve(&tell) {
                eprintln!("procscope-bench: the collector that stores nothing: {error:#}");
            }
        })
        .context("start a thread")?;
    told.recv().context("start a collector that stores nothing")
}

fn serve(tell: &mpsc::SyncSender<SocketAddr>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        tell.send(listener.local_addr()?)?;
        let service = IngestServiceServer::new(Sink)
            .max_decoding_message_size(64 << 20)
            .accept_compressed(tonic::codec::CompressionEncoding::Gzip);
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await?;
        Ok(())
    })
}

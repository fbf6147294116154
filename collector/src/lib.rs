//! Receives snapshots, stores them in ClickHouse, answers questions.

pub mod access;
pub mod api;
pub mod batch;
pub mod clock;
pub mod config;
mod fault;
pub mod groups;
pub mod ingest;
pub mod model;
pub mod process_metrics;
pub mod query;
pub mod retention;
pub mod rollup;
pub mod self_stats;
pub mod store;
mod supervise;
pub mod writer;

use std::{future::Future, sync::Arc, time::Duration};

use axum::middleware;
use procscope_proto::{
    FILE_DESCRIPTOR_SET,
    v1::{ingest_service_server::IngestServiceServer, query_service_server::QueryServiceServer},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{codec::CompressionEncoding, service::Routes, transport::Server};
use tonic_health::pb::health_server::HealthServer;
use tracing::{error, info, warn};

use crate::{
    access::{
        door::{self, Bounds},
        guard::{self, Guard},
        limits::Limits,
        tls::{Speaks, Tls},
        tokens::Tokens,
    },
    api::{
        grpc::Grpc,
        health::Readiness,
        host_check::HostCheck,
        http::{Http, router},
        refusals,
        watch::Watchers,
    },
    config::Config,
    ingest::{Agents, Ingest, MESSAGE_BYTES_MAX, Parts, QUEUE_LEN_MAX},
    process_metrics::ProcessMetrics,
    query::Queries,
    retention::Room,
    rollup::{Rollup, Touched},
    self_stats::SelfStats,
    store::{Store, StoreError},
    writer::{Noted, Writer},
};

/// How long open calls and unwritten snapshots may take at the end.
const STOP_MAX: Duration = Duration::from_secs(4);

/// A peer that answers no ping within the time-out after the interval has gone: half-open connections end.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Headers of a request: ours have some hundred bytes, and a token.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// Requests at once on a connection: a page or a client asks for a handful.
const REQUESTS_MAX: u32 = 100;

/// What may come of a stream, and of a connection, before it is read: what each peer can make us keep.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;

/// Room in a message for what stands beside the snapshot.
const ENVELOPE_BYTES: usize = 1_024;

/// The sockets of a collector, bound by its caller, who knows how to say that a port is taken.
#[derive(Debug)]
pub struct Listeners {
    /// For gRPC.
    pub grpc: TcpListener,
    /// For HTTP.
    pub http: TcpListener,
}

/// What is checked before a collector listens.
#[derive(Debug)]
pub struct Access {
    /// The tokens.
    pub tokens: Arc<Tokens>,
    /// The certificates; `None`: both ports are in the clear.
    pub tls: Option<Arc<Tls>>,
}

impl Access {
    /// Reads certificates and tokens.
    ///
    /// # Errors
    /// Exit code 2 with what is wrong with them, 1 when others may change the state folder.
    pub fn open(config: &Config) -> procscope_startup::Result<Self> {
        let tls = config.tls.clone().map(Tls::open).transpose()?.map(Arc::new);
        // There is none until the first token is made.
        if config.state_dir.symlink_metadata().is_ok() {
            procscope_startup::check_state_folder(&config.state_dir)?;
        }
        let tokens = Tokens::open(Some(&config.state_dir), config.ingest_token.as_ref())?;
        Ok(Self {
            tokens: Arc::new(tokens),
            tls,
        })
    }
}

/// Why a collector ended by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The descriptors of our own services do not fit together: a bug of ours.
    #[error("could not describe the services for reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The gRPC server ended.
    #[error("could not serve gRPC")]
    Grpc(#[from] tonic::transport::Error),
    /// The tables of the store are not those that this collector writes.
    #[error("could not use the store")]
    Schema(#[source] StoreError),
    /// The HTTP server ended.
    #[error("could not serve HTTP")]
    Http(#[from] std::io::Error),
}

/// Runs until `shutdown` resolves, then stores what is in memory.
///
/// # Errors
/// When a server cannot run.
pub async fn run(
    config: Config,
    access: Access,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let stats = Arc::new(SelfStats::new());
    let store = Store::new(&config.store);
    let agents = Arc::new(Agents::default());
    let (ready_sender, ready) = watch::channel(false);
    let (room_sender, room) = watch::channel(Room::Enough);
    let (stop_sender, stop) = watch::channel(false);
    let (queue_sender, queue) = mpsc::channel(QUEUE_LEN_MAX);

    let mut supervisor = tokio::spawn(supervise::keep_ready(
        store.clone(),
        config.store.url.clone(),
        config.retention,
        Arc::clone(&stats),
        ready_sender.clone(),
        room_sender,
    ));
    let touched = Arc::new(Touched::default());
    let rollup = Rollup {
        store: store.clone(),
        touched: Arc::clone(&touched),
        kept_ms: (config.retention.samples_ms(), config.retention.minutes_ms()),
        stats: Arc::clone(&stats),
    };
    let rollup = tokio::spawn(rollup.run(ready.clone()));
    let process_metrics = ProcessMetrics::default();
    let writer = Writer::new(
        store.clone(),
        Arc::clone(&agents),
        Arc::clone(&stats),
        Noted::new(touched, process_metrics.clone()),
        config.retention.samples_ms(),
        ready_sender,
    );
    let writer = tokio::spawn(writer.run(queue, config.flush_interval));

    let ingest = Ingest::new(Parts {
        agents,
        stats: Arc::clone(&stats),
        store: store.clone(),
        queue: queue_sender,
        limits: Limits::new(config.rate),
        stream_max_age: config.stream_max_age,
        ready: ready.clone(),
        room_on_disk: room.clone(),
        stop: stop.clone(),
    });
    let close_queue = ingest.closer();
    let queries = Queries::new(store).counting(stats.recalled(), stats.forgotten());
    let queries = queries.keeping(config.retention).grouping(config.groups);
    let followers = followers(&access, &stats);
    let bounds = Bounds::within(descriptors());
    // A page that a browser took from elsewhere can only reach us by a name of its own, and with nothing to show but
    // what this machine alone may see: where a credential is needed, any name will do.
    let is_any_name = |address: &std::net::SocketAddr| config.insecure || !address.ip().is_loopback();
    let is_open = |address: &std::net::SocketAddr| config.insecure || address.ip().is_loopback();
    let guard = |is_open| Guard::new(Arc::clone(&access.tokens), Arc::clone(&stats), is_open);
    let (grpc_address, http_address) = (listeners.grpc.local_addr()?, listeners.http.local_addr()?);
    let door =
        |listener, speaks| door::open(listener, access.tls.clone(), speaks, bounds, Arc::clone(&stats));
    let watchers = Watchers::new(&queries, &stats, &stop, config.unread_max);
    let grpc = Grpc::new(queries.clone(), Arc::clone(&stats), watchers.clone());
    let health = Readiness::new(ready.clone(), stop.clone());
    let services = services(health, ingest, grpc, guard(is_open(&grpc_address)))?;
    let grpc_door = ReceiverStream::new(door(listeners.grpc, Speaks::Grpc)).map(Ok::<_, std::io::Error>);
    let grpc = bounded_server()
        .layer(HostCheck::new(is_any_name(&grpc_address)))
        .add_routes(services)
        .serve_with_incoming_shutdown(grpc_door, stopped(stop.clone()));
    let routes = router(Http {
        queries,
        watchers,
        process_metrics,
        stats: Arc::clone(&stats),
        ready,
        room,
        host_check: HostCheck::new(is_any_name(&http_address)),
        guard: guard(is_open(&http_address)),
    });
    let http_door = door::Listener::new(door(listeners.http, Speaks::Http), http_address);
    let routes = routes.into_make_service_with_connect_info::<door::Peer>();
    let http = axum::serve(http_door, routes).with_graceful_shutdown(stopped(stop));
    let servers = async {
        let (grpc, http) = tokio::join!(grpc, http.into_future());
        grpc?;
        http.map_err(RunError::Http)
    };

    let mut servers = std::pin::pin!(servers);
    tokio::select! {
        ended = &mut servers => return ended,
        Ok(unusable) = &mut supervisor => return Err(RunError::Schema(unusable)),
        () = shutdown => info!("stopping: no more snapshots are taken, those in memory are stored"),
    }
    stop_sender.send_replace(true);
    close_queue();
    let outcome = finish(servers, writer, &stats).await;
    supervisor.abort();
    rollup.abort();
    followers.iter().for_each(JoinHandle::abort);
    outcome
}

/// A server for gRPC, with bounds on what a connection may take.
fn bounded_server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        // Only so that a browser or curl is told where it is.
        .accept_http1(true)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .max_concurrent_streams(REQUESTS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
}

/// Waits for open calls and for the writer, but not for ever.
async fn finish(
    servers: impl Future<Output = Result<(), RunError>>,
    writer: JoinHandle<()>,
    stats: &SelfStats,
) -> Result<(), RunError> {
    let finished = tokio::time::timeout(STOP_MAX, async {
        let (served, written) = tokio::join!(servers, writer);
        if let Err(panicked) = written {
            error!(%panicked, "the writer ended");
        }
        served
    });
    if let Ok(served) = finished.await {
        return served;
    }
    warn!(
        snapshots_waiting = stats.waiting(),
        "stopped before everything was stored: the agents still have what was not acknowledged"
    );
    Ok(())
}

/// All services of the gRPC port.
fn services(
    health: Readiness,
    ingest: Ingest,
    grpc: Grpc,
    guard: Guard,
) -> Result<Routes, tonic_reflection::server::Error> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let ingest = IngestServiceServer::new(ingest)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MESSAGE_BYTES_MAX + ENVELOPE_BYTES);
    let grpc = QueryServiceServer::new(grpc)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let routes = Routes::new(HealthServer::new(health))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(ingest)
        .add_service(grpc);
    Ok(routes
        .into_axum_router()
        .layer(middleware::from_fn_with_state(guard, guard::grpc))
        .layer(middleware::from_fn(refusals::explain))
        .into())
}

/// Those who read again what has changed on disk.
fn followers(access: &Access, stats: &Arc<SelfStats>) -> [JoinHandle<()>; 2] {
    [follow_tokens(access, stats), follow_certificates(access, stats)]
}

fn follow_tokens(access: &Access, stats: &Arc<SelfStats>) -> JoinHandle<()> {
    let (tokens, stats) = (Arc::clone(&access.tokens), Arc::clone(stats));
    tokio::spawn(async move { tokens.follow(&stats).await })
}

fn follow_certificates(access: &Access, stats: &Arc<SelfStats>) -> JoinHandle<()> {
    let (tls, stats) = (access.tls.clone(), Arc::clone(stats));
    tokio::spawn(async move {
        if let Some(tls) = tls {
            tls.follow(&stats).await;
        }
    })
}

/// How many descriptors this process may have: as many as it may ask for, since each connection is one.
fn descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_refused) => limit.current,
    };
    now.and_then(|now| usize::try_from(now).ok())
        .unwrap_or(usize::MAX)
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // Without a sender nobody can stop us any more, which means that we are stopping.
    drop(stop.wait_for(|stop| *stop).await);
}

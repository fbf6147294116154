//! An engine, a collector and an agent for each test.

mod wire;

use std::{
    fs,
    future::Future,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use procscope_collector::{
    Access, Listeners,
    access::limits::Rate,
    api::watch::UNREAD_MAX,
    config::{Config, Secret, StoreConfig},
    groups::NamedGroups,
    retention::Retention,
    run,
    store::Store,
};
use procscope_proto::v1::{
    self, ingest_service_client::IngestServiceClient, query_service_client::QueryServiceClient,
};
use prost::Message as _;
use prost_types::Timestamp;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{Status, Streaming, transport::Channel};

pub(crate) use wire::{get, send};

pub(crate) const TOKEN: &str = "token-of-the-tests";
pub(crate) const PASSWORD: &str = "password-of-the-tests";
pub(crate) const SECOND_NS: u64 = 1_000_000_000;
pub(crate) const MIB: u64 = 1 << 20;

/// How long anything that ought to happen may take: generous, because CI machines are slow and shared.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Waits for a condition with a deadline.
pub(crate) async fn wait_until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Now, on a whole second.
pub(crate) fn now_ms() -> i64 {
    procscope_collector::clock::now_ms() / 1_000 * 1_000
}

pub(crate) fn timestamp(ms: i64) -> Timestamp {
    Timestamp {
        seconds: ms.div_euclid(1_000),
        nanos: (ms.rem_euclid(1_000) * 1_000_000) as i32,
    }
}

pub(crate) fn range(start_ms: i64, end_ms: i64) -> Option<v1::TimeRange> {
    Some(v1::TimeRange {
        start: Some(timestamp(start_ms)),
        end: Some(timestamp(end_ms)),
    })
}

/// The real engine in a folder of its own.
pub(crate) struct Engine {
    pub(crate) dir: tempfile::TempDir,
    child: Option<Child>,
    address: String,
}

impl Engine {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_secret(&dir.path().join("password"), PASSWORD);
        let mut engine = Self {
            dir,
            child: None,
            address: "127.0.0.1:0".to_owned(),
        };
        engine.restart();
        engine
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("the engine runs").id()
    }

    /// Ends it the hard way.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("the engine runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts it again in the same folder, on the same port.
    pub(crate) fn restart(&mut self) {
        let data = self.dir.path().join("data");
        let announced = data.join("listen");
        drop(fs::remove_file(&announced));
        let child = Command::new(engine_binary())
            .arg("--data-dir")
            .arg(&data)
            .args([
                "--listen",
                &self.address,
                "--user",
                "procscope",
                "--log",
                "warn",
                "--reader",
                "reader",
                "--reader-password-file",
            ])
            .arg(self.dir.path().join("password"))
            .arg("--password-file")
            .arg(self.dir.path().join("password"))
            .stdin(Stdio::null())
            .spawn()
            .expect("start procscope-engine");
        self.child = Some(child);
        let started = Instant::now();
        self.address = loop {
            match fs::read_to_string(&announced) {
                Ok(address) if !address.trim().is_empty() => break address.trim().to_owned(),
                _ => {}
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "the engine ended: {ended:?}");
            assert!(started.elapsed() < PATIENCE, "the engine did not start");
            std::thread::sleep(Duration::from_millis(20));
        };
    }

    /// CPU time of all its threads since it was started, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let pid = self.child.as_ref().expect("the engine runs").id();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        let ticks: u64 = rest
            .split(' ')
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().unwrap())
            .sum();
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn config(&self) -> StoreConfig {
        StoreConfig {
            url: self.url(),
            user: "procscope".to_owned(),
            password: Some(Secret::new(PASSWORD.to_owned())),
            database: "procscope".to_owned(),
        }
    }

    pub(crate) fn store(&self) -> Store {
        Store::new(&self.config())
    }

    /// SQL of the test itself.
    pub(crate) fn sql(&self) -> clickhouse::Client {
        clickhouse::Client::default()
            .with_url(self.url())
            .with_user("procscope")
            .with_password(PASSWORD)
            .with_database("procscope")
            .with_compression(clickhouse::Compression::None)
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.sql().query_raw(sql).execute().await.unwrap();
    }

    /// Sends a statement with its data; status and what was said.
    pub(crate) async fn post(&self, sql: &str, data: &[u8]) -> (u16, String) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut socket = tokio::net::TcpStream::connect(&self.address).await.unwrap();
        // Blanks are all that our statements have to escape.
        let query = sql.replace(' ', "%20");
        let head = format!(
            "POST /?database=procscope&query={query} HTTP/1.1\r\nHost: localhost\r\nX-ClickHouse-User: procscope\r\n\
             X-ClickHouse-Key: {PASSWORD}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            data.len()
        );
        socket.write_all(&[head.as_bytes(), data].concat()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }

    pub(crate) async fn number(&self, sql: &str) -> u64 {
        self.sql()
            .query_raw(&format!("SELECT ifNull(toUInt64(({sql})), 0)"))
            .fetch_one()
            .await
            .unwrap()
    }

    pub(crate) async fn text(&self, sql: &str) -> String {
        self.sql()
            .query_raw(&format!("SELECT ifNull(toString(({sql})), 'NULL')"))
            .fetch_one()
            .await
            .unwrap()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

/// Next to our own executable, where cargo puts it; built when it is missing.
fn engine_binary() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let binary = own
        .parent()
        .and_then(Path::parent)
        .unwrap()
        .join("procscope-engine");
    if !binary.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--package", "procscope-engine"])
            .status()
            .unwrap();
        assert!(built.success(), "cargo build --package procscope-engine: {built}");
    }
    binary
}

pub(crate) fn write_secret(file: &Path, secret: &str) {
    fs::write(file, secret).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A collector in this process.
pub(crate) struct Collector {
    pub(crate) grpc: std::net::SocketAddr,
    pub(crate) http: std::net::SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), procscope_collector::RunError>>,
}

impl Collector {
    /// Starts it and waits until the store is ready.
    pub(crate) async fn start(engine: &Engine) -> Self {
        let collector = Self::start_without_store(engine.config()).await;
        collector.wait_ready().await;
        collector
    }

    pub(crate) async fn start_without_store(store: StoreConfig) -> Self {
        Self::start_as(store, |_config| {}).await
    }

    /// Starts it with a configuration of its own; does not wait for the store.
    pub(crate) async fn start_as(store: StoreConfig, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_at([127, 0, 0, 1], store, change).await
    }

    /// The same, on all addresses of this machine.
    pub(crate) async fn start_beyond_loopback(store: StoreConfig, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_at([0, 0, 0, 0], store, change).await
    }

    async fn start_at(address: [u8; 4], store: StoreConfig, change: impl FnOnce(&mut Config)) -> Self {
        let loopback = std::net::SocketAddr::from((address, 0));
        let listeners = Listeners {
            grpc: TcpListener::bind(loopback).await.unwrap(),
            http: TcpListener::bind(loopback).await.unwrap(),
        };
        let mut config = Config {
            listen: loopback,
            http_listen: loopback,
            store,
            ingest_token: Some(Secret::new(TOKEN.to_owned())),
            state_dir: PathBuf::from("/nonexistent"),
            tls: None,
            rate: Rate::default(),
            stream_max_age: Duration::from_hours(1),
            insecure: false,
            flush_interval: Duration::from_millis(100),
            unread_max: UNREAD_MAX,
            die_with_parent: false,
            retention: Retention::default(),
            groups: NamedGroups::default(),
        };
        change(&mut config);
        let access = Access::open(&config).unwrap();
        let (grpc, http) = (
            listeners.grpc.local_addr().unwrap(),
            listeners.http.local_addr().unwrap(),
        );
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(run(config, access, listeners, async move { drop(stopped.await) }));
        Self {
            grpc,
            http,
            stop: Some(stop),
            task,
        }
    }

    pub(crate) async fn wait_ready(&self) {
        wait_until("the collector is ready", || async {
            self.get("/readyz").await.0 == 200
        })
        .await;
    }

    pub(crate) async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        self.task.await.unwrap().unwrap();
    }

    /// Waits until it ends by itself; gives its error and the cause.
    pub(crate) async fn ended(self) -> String {
        let error = tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("it ends")
            .unwrap()
            .unwrap_err();
        format!("{error}: {}", std::error::Error::source(&error).unwrap())
    }

    pub(crate) async fn channel(&self) -> Channel {
        channel(self.grpc).await
    }

    pub(crate) async fn query(&self) -> QueryServiceClient<Channel> {
        QueryServiceClient::new(self.channel().await).max_decoding_message_size(64 << 20)
    }

    /// Status and body of `GET path`.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.get_as(path, "localhost").await;
        (status, body)
    }

    /// Status, headers and body of `GET path` under a name.
    pub(crate) async fn get_as(&self, path: &str, host: &str) -> (u16, String, String) {
        get(self.http, path, host).await
    }

    /// A figure of `/metrics`.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let (_, text) = self.get("/metrics").await;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }
}

pub(crate) async fn channel(address: std::net::SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

/// An agent that freezes snapshots and numbers them.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) id: [u8; 16],
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
}

impl Agent {
    pub(crate) fn new(id: u8) -> Self {
        Self {
            id: [id; 16],
            epoch: 1_000 + u64::from(id),
            seq: 0,
        }
    }

    pub(crate) fn freeze(&mut self, snapshot: &v1::Snapshot) -> v1::PushSnapshotsRequest {
        self.seq += 1;
        self.frame(self.seq, snapshot.encode_to_vec())
    }

    pub(crate) fn frame(&self, seq: u64, snapshot: Vec<u8>) -> v1::PushSnapshotsRequest {
        v1::PushSnapshotsRequest {
            agent_id: self.id.to_vec(),
            epoch: self.epoch,
            seq,
            snapshot_crc32c: crc32c::crc32c(&snapshot),
            snapshot,
            backlog: false,
        }
    }
}

/// A stream that stays open as long as this lives.
pub(crate) struct Push {
    pub(crate) requests: tokio::sync::mpsc::Sender<v1::PushSnapshotsRequest>,
    pub(crate) answers: Streaming<v1::PushSnapshotsResponse>,
}

impl Push {
    pub(crate) async fn open(channel: Channel, token: Option<&str>) -> Result<Self, Status> {
        let (requests, receiver) = tokio::sync::mpsc::channel(10_000);
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let mut request = tonic::Request::new(stream);
        if let Some(token) = token {
            request
                .metadata_mut()
                .insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let mut client = IngestServiceClient::new(channel).max_encoding_message_size(64 << 20);
        let answers = client.push_snapshots(request).await?.into_inner();
        Ok(Self { requests, answers })
    }

    pub(crate) async fn send(&self, frames: &[v1::PushSnapshotsRequest]) {
        for frame in frames {
            self.requests.send(frame.clone()).await.unwrap();
        }
    }

    /// Waits until everything up to `seq` is durable.
    pub(crate) async fn durable(&mut self, seq: u64) -> Result<(), Status> {
        loop {
            let answer = tokio::time::timeout(PATIENCE, self.answers.message()).await;
            match answer.expect("an acknowledgement in time")? {
                Some(answer) if answer.durable_seq >= seq => return Ok(()),
                Some(_) => {}
                None => {
                    return Err(Status::aborted(format!(
                        "the stream ended before {seq} was durable"
                    )));
                }
            }
        }
    }
}

/// Pushes frames on a stream of their own and waits until they are durable.
pub(crate) async fn push(collector: &Collector, frames: &[v1::PushSnapshotsRequest]) -> Result<(), Status> {
    let mut push = Push::open(collector.channel().await, Some(TOKEN)).await?;
    push.send(frames).await;
    push.durable(frames.last().unwrap().seq).await
}

/// A snapshot of a second that ends at `time_ms`.
pub(crate) fn snapshot(host: &str, time_ms: i64, samples: Vec<v1::ProcessSample>) -> v1::Snapshot {
    v1::Snapshot {
        host: host.to_owned(),
        boot_id: vec![9; 16],
        time: Some(timestamp(time_ms)),
        interval_ns: SECOND_NS,
        source: v1::Source::Ebpf.into(),
        samples,
        ..v1::Snapshot::default()
    }
}

/// A process that used `cpu_ms` in the interval and holds `mib`.
pub(crate) fn sample(id: u8, name: &str, cpu_ms: u64, mib: u64) -> v1::ProcessSample {
    v1::ProcessSample {
        process_id: vec![id; 16],
        pid: u32::from(id),
        parent_pid: 1,
        name: name.to_owned(),
        cpu_time_ns: 60 * SECOND_NS,
        cpu_time_ns_delta: cpu_ms * 1_000_000,
        rss_bytes: Some(mib * MIB),
        peak_rss_bytes: Some(2 * mib * MIB),
        threads: 2,
        ..v1::ProcessSample::default()
    }
}

/// The written form of a process id that `sample` made.
pub(crate) fn process_id(id: u8) -> String {
    uuid::Uuid::from_bytes([id; 16]).to_string()
}

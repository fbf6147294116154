//! A collector that answers from memory and remembers what it was asked; for tests of the client alone.

use std::{
    net::{SocketAddr, TcpListener},
    pin::Pin,
    process::{Command, Output},
    sync::{Arc, Mutex},
    time::Duration,
};

use procscope_proto::v1::{
    ingest_service_server::{IngestService, IngestServiceServer},
    query_service_server::{QueryService, QueryServiceServer},
    *,
};
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status};

/// A name that tries everything a terminal, a spreadsheet or a reader would fall for.
pub(crate) const HOSTILE: &str = "=evil\x1b[2J\x07\n\u{202e}\u{9b}\",";

/// What was asked, newest last.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) top: Vec<ListTopProcessesRequest>,
    pub(crate) history: Vec<GetProcessHistoryRequest>,
    pub(crate) groups: Vec<ListGroupsRequest>,
    pub(crate) exits: Vec<ListProcessExitsRequest>,
    pub(crate) hosts: Vec<ListHostsRequest>,
    pub(crate) audit: Vec<GetAuditRequest>,
    pub(crate) tokens: Vec<Option<String>>,
}

/// The collector, until it is dropped.
pub(crate) struct Collector {
    pub(crate) url: String,
    pub(crate) asked: Arc<Mutex<Asked>>,
    // Dropping it ends the server.
    _runtime: tokio::runtime::Runtime,
}

impl Collector {
    /// Starts one on a free port.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::start_on(listener)
    }

    /// Starts one on a listener that is open already.
    pub(crate) fn start_on(listener: TcpListener) -> Self {
        let address: SocketAddr = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let asked = Arc::new(Mutex::new(Asked::default()));
        let service = Memory {
            asked: Arc::clone(&asked),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            tonic::transport::Server::builder()
                .add_service(QueryServiceServer::new(service))
                .add_service(IngestServiceServer::new(Closed))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        Self {
            url: format!("http://{address}"),
            asked,
            _runtime: runtime,
        }
    }

    /// Runs the client against it.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        client()
            .args(["--server", &self.url])
            .args(arguments)
            .output()
            .unwrap()
    }
}

/// The client, with nothing of this machine's environment that it would listen to.
pub(crate) fn client() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procscope"));
    for name in ["SERVER", "TOKEN_FILE", "CONFIG", "LOG_FORMAT", "LOG"] {
        command.env_remove(format!("PROCSCOPE_{name}"));
    }
    command
}

/// What a program said on one of its outputs.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// It takes snapshots from nobody.
struct Closed;

#[tonic::async_trait]
impl IngestService for Closed {
    type PushSnapshotsStream = tokio_stream::Empty<Result<PushSnapshotsResponse, Status>>;

    async fn push_snapshots(
        &self,
        _request: Request<tonic::Streaming<PushSnapshotsRequest>>,
    ) -> Result<Response<Self::PushSnapshotsStream>, Status> {
        Err(Status::unauthenticated("an agent shows a token"))
    }
}

struct Memory {
    asked: Arc<Mutex<Asked>>,
}

impl Memory {
    fn note<T>(&self, request: Request<T>, into: impl FnOnce(&mut Asked) -> &mut Vec<T>) {
        let token = request
            .metadata()
            .get("authorization")
            .map(|token| token.to_str().unwrap().to_owned());
        let mut asked = self.asked.lock().unwrap();
        asked.tokens.push(token);
        into(&mut asked).push(request.into_inner());
    }
}

fn at(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

fn range() -> TimeRange {
    TimeRange {
        start: Some(at(1_769_860_800)),
        end: Some(at(1_769_860_810)),
    }
}

fn coverage() -> Coverage {
    Coverage {
        share: 0.95,
        observed_host_seconds: 19.0,
        total_host_seconds: 20.0,
        losses: vec![CoverageLoss {
            reason: "map_full".to_owned(),
            count: 7,
        }],
        sources: vec!["ebpf".to_owned()],
    }
}

/// Boot id of the machine that all processes are of.
pub(crate) const BOOT_ID: &str = "0b07f1d0-0000-4000-8000-000000000001";

fn process(name: &str, pid: u32, cpu: f64) -> TopProcess {
    TopProcess {
        name: name.to_owned(),
        hosts: vec!["web-1".to_owned()],
        process_id: Some(format!("id-{pid}")),
        pid: Some(pid),
        parent_pid: Some(1),
        start_time: Some(at(1_769_860_000)),
        uid: Some(33),
        kernel_thread: Some(false),
        exited: Some(pid == 103),
        cmdline: Some(format!("{name} --all")),
        avg_cpu_percent: cpu,
        cpu_seconds: cpu / 10.0,
        cpu_time_ns: Some(u64::MAX),
        avg_memory_mb: Some(12.5),
        peak_memory_mb: Some(16.0),
        avg_num_procs: 1.0,
        runqueue_seconds: Some(0.5),
        threads: 2,
        last_time: Some(at(1_769_860_809)),
        rss_bytes: if pid == 103 { None } else { Some(13_107_200) },
        boot_id: Some(BOOT_ID.to_owned()),
        start_boottime_ns: Some(u64::from(pid)),
        exec_generation: Some(3),
        ..TopProcess::default()
    }
}

/// A range without a start is of the last ten seconds up to its end.
fn ten_seconds(range: TimeRange) -> TimeRange {
    TimeRange {
        start: range.start.or(range.end.map(|end| at(end.seconds - 10))),
        ..range
    }
}

fn top(request: &ListTopProcessesRequest) -> ListTopProcessesResponse {
    let processes = vec![
        process("nginx", 101, 80.0),
        process(HOSTILE, 102, 20.0),
        process("sleep", 103, 0.01),
    ];
    ListTopProcessesResponse {
        range: request.range.map(ten_seconds).or(Some(range())),
        metric: request.metric,
        group_by: request.group_by,
        coverage: Some(coverage()),
        processes: processes
            .into_iter()
            .take(usize::try_from(request.limit).unwrap())
            .collect(),
    }
}

fn exit(number: u32) -> ExitedProcess {
    ExitedProcess {
        process_id: format!("id-{number}"),
        host: "web-1".to_owned(),
        name: if number == 1 {
            HOSTILE.to_owned()
        } else {
            "true".to_owned()
        },
        pid: number,
        start_time: Some(at(1_769_860_800)),
        end_time: Some(at(1_769_860_801)),
        lifetime_ns: 5_000_000,
        cpu_time_ns: 1_234_567,
        peak_rss_bytes: Some(4096),
        exit_code: Some(0),
        exit_signal: if number == 2 { Some(9) } else { None },
        source: if number == 2 { "proc" } else { "ebpf" }.to_owned(),
        disk_read_bytes: Some(0),
        boot_id: Some(BOOT_ID.to_owned()),
        start_boottime_ns: u64::from(number),
        ..ExitedProcess::default()
    }
}

#[tonic::async_trait]
impl QueryService for Memory {
    async fn list_top_processes(
        &self,
        request: Request<ListTopProcessesRequest>,
    ) -> Result<Response<ListTopProcessesResponse>, Status> {
        let answer = match request.get_ref().name_contains.as_str() {
            "refuse" => return Err(Status::invalid_argument("name_contains: not\x1b this one")),
            "secret" => return Err(Status::unauthenticated("no token")),
            "break" => return Err(Status::internal("the store is broken")),
            "nothing" => ListTopProcessesResponse {
                processes: Vec::new(),
                ..top(request.get_ref())
            },
            _ => top(request.get_ref()),
        };
        self.note(request, |asked| &mut asked.top);
        Ok(Response::new(answer))
    }

    type WatchTopProcessesStream =
        Pin<Box<dyn Stream<Item = Result<WatchTopProcessesResponse, Status>> + Send>>;

    async fn watch_top_processes(
        &self,
        request: Request<WatchTopProcessesRequest>,
    ) -> Result<Response<Self::WatchTopProcessesStream>, Status> {
        let query = request.into_inner().query.unwrap_or_default();
        let answer = WatchTopProcessesResponse {
            top: Some(top(&query)),
        };
        self.asked.lock().unwrap().top.push(query);
        let answers = tokio_stream::iter(std::iter::repeat_with(move || Ok(answer.clone())));
        Ok(Response::new(Box::pin(
            answers.throttle(Duration::from_millis(50)),
        )))
    }

    async fn get_process_history(
        &self,
        request: Request<GetProcessHistoryRequest>,
    ) -> Result<Response<GetProcessHistoryResponse>, Status> {
        if request.get_ref().process_id == "nosuch" {
            return Err(Status::not_found("no process of this id"));
        }
        if request.get_ref().host == "nosuch" {
            return Err(Status::not_found("no host `nosuch` is known"));
        }
        let by_id = !request.get_ref().process_id.is_empty();
        let process = by_id.then(|| ProcessIdentity {
            boot_id: Some(BOOT_ID.to_owned()),
            pid: 101,
            start_boottime_ns: 101,
            host: "web-1".to_owned(),
            name: HOSTILE.to_owned(),
            ..ProcessIdentity::default()
        });
        self.note(request, |asked| &mut asked.history);
        let point = |seconds, cpu: Option<f64>| HistoryPoint {
            time: Some(at(seconds)),
            gap: cpu.is_none(),
            avg_cpu_percent: cpu,
            cpu_seconds: cpu.map(|cpu| cpu / 20.0),
            runqueue_wait_counts: cpu.map_or_else(Vec::new, |_| vec![5, 0, 1]),
            ..HistoryPoint::default()
        };
        Ok(Response::new(GetProcessHistoryResponse {
            range: Some(range()),
            step_ms: 5_000,
            coverage: Some(coverage()),
            points: vec![point(1_769_860_800, Some(50.0)), point(1_769_860_805, None)],
            process,
        }))
    }

    async fn list_groups(
        &self,
        request: Request<ListGroupsRequest>,
    ) -> Result<Response<ListGroupsResponse>, Status> {
        self.note(request, |asked| &mut asked.groups);
        Ok(Response::new(ListGroupsResponse {
            range: Some(range()),
            coverage: Some(coverage()),
            total: Some(TopProcess {
                name: "nginx".to_owned(),
                avg_num_procs: 2.0,
                ..TopProcess::default()
            }),
            avg_cpu_percent_per_process: 40.0,
            avg_memory_mb_per_process: 6.25,
            members: vec![process("nginx", 101, 80.0)],
        }))
    }

    async fn list_process_exits(
        &self,
        request: Request<ListProcessExitsRequest>,
    ) -> Result<Response<ListProcessExitsResponse>, Status> {
        let token = request.get_ref().page_token.parse().unwrap_or(0_u32);
        self.note(request, |asked| &mut asked.exits);
        // Pages of two, four in all.
        let next_page_token = if token < 2 { "2".to_owned() } else { String::new() };
        Ok(Response::new(ListProcessExitsResponse {
            range: Some(range()),
            coverage: Some(coverage()),
            exits: vec![exit(token + 1), exit(token + 2)],
            next_page_token,
            total: 4,
        }))
    }

    async fn list_hosts(
        &self,
        request: Request<ListHostsRequest>,
    ) -> Result<Response<ListHostsResponse>, Status> {
        self.note(request, |asked| &mut asked.hosts);
        let host = |name: &str, agents| Host {
            host: name.to_owned(),
            last_seen: Some(at(1_769_860_810)),
            cpus: 2,
            memory_total_bytes: 1 << 34,
            memory_available_bytes: Some(1 << 33),
            coverage: Some(coverage()),
            agents,
            ..Host::default()
        };
        Ok(Response::new(ListHostsResponse {
            range: Some(range()),
            hosts: vec![host("web-1", 1), host(HOSTILE, 2)],
        }))
    }

    async fn get_audit(
        &self,
        request: Request<GetAuditRequest>,
    ) -> Result<Response<GetAuditResponse>, Status> {
        self.note(request, |asked| &mut asked.audit);
        let row = AuditRow {
            host: HOSTILE.to_owned(),
            cpus: 2,
            wall_ns: 20_000_000_000,
            process_ns: 5_000_000_000,
            kthread_ns: 100_000_000,
            idle_ns: 14_910_000_000,
            interrupts_in_tasks: true,
            residual_ns: -10_000_000,
            residual_percent: -0.05,
            kernel_ppm: Some(650.0),
            kernel_budget_ppm: Some(1_000),
            programs: vec![AuditProgram {
                name: HOSTILE.to_owned(),
                runs: 100,
                run_ns: 20_000,
            }],
            agent_cpu_time_ns: Some(103_000_000),
            lost_events: 3,
            snapshots: 10,
            losses: vec![CoverageLoss {
                reason: "map_full".to_owned(),
                count: 7,
            }],
            ..AuditRow::default()
        };
        Ok(Response::new(GetAuditResponse {
            range: Some(range()),
            coverage: Some(coverage()),
            rows: vec![row],
        }))
    }
}

//! The binary: its commands, its exit codes, its one-line errors, and how it dies.

use std::{
    net::SocketAddr,
    process::{Child, Command, Output, Stdio},
    time::Instant,
};

use tonic::transport::Channel;

use crate::support::{Agent, Engine, Push, TOKEN, get, now_ms, sample, snapshot, wait_until, write_secret};

fn command(engine: &Engine) -> Command {
    let token = engine.dir.path().join("token");
    write_secret(&token, TOKEN);
    let mut command = Command::new(env!("CARGO_BIN_EXE_procscope-collector"));
    command
        .args([
            "--store-url",
            &engine.url(),
            "--flush-interval",
            "100ms",
            "--store-password-file",
        ])
        .arg(engine.dir.path().join("password"))
        .arg("--ingest-token-file")
        .arg(token)
        .stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Output {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// A collector process on ports of its own.
pub(crate) struct Running {
    child: Child,
    grpc: SocketAddr,
    http: SocketAddr,
}

impl Running {
    fn start(engine: &Engine, grpc: SocketAddr, http: SocketAddr) -> Self {
        let child = command(engine)
            .args([
                "--listen",
                &grpc.to_string(),
                "--http-listen",
                &http.to_string(),
                "--log",
                "error",
            ])
            .spawn()
            .unwrap();
        Self { child, grpc, http }
    }

    pub(crate) fn start_anywhere(engine: &Engine) -> Self {
        Self::start(engine, free_port(), free_port())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A figure of `/metrics`.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let (_, _, text) = get(self.http, "/metrics", "localhost").await;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    pub(crate) async fn ready(&self) {
        wait_until("the collector is ready", || async {
            tokio::net::TcpStream::connect(self.http).await.is_ok()
                && get(self.http, "/readyz", "localhost").await.0 == 200
        })
        .await;
    }

    pub(crate) async fn channel(&self) -> Channel {
        crate::support::channel(self.grpc).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn check_and_migrate_say_what_is_so() {
    let mut engine = Engine::start();
    let before = run(command(&engine).arg("check"));
    assert_eq!(before.status.code(), Some(1));
    assert!(
        text(&before.stdout).contains("missing  migrations 0001_schema_migrations.sql"),
        "{before:?}"
    );
    let migrated = run(command(&engine).arg("migrate"));
    assert!(
        migrated.status.success() && text(&migrated.stdout).starts_with("0001_"),
        "{migrated:?}"
    );
    let again = run(command(&engine).arg("migrate"));
    assert!(
        again.status.success() && text(&again.stdout) == "nothing to do\n",
        "{again:?}"
    );
    let after = run(command(&engine).arg("check"));
    assert!(
        after.status.success() && !text(&after.stdout).contains("missing"),
        "{after:?}"
    );
    engine.kill();
    let away = run(command(&engine).arg("check"));
    assert_eq!(away.status.code(), Some(1));
    assert!(text(&away.stdout).contains("start procscope-engine"), "{away:?}");
}

#[tokio::test]
async fn what_is_wrong_with_the_store_comes_with_its_remedy_once() {
    let engine = Engine::start();
    engine.store().migrate(0).await.unwrap();
    engine
        .execute("ALTER TABLE host_samples DROP COLUMN threads")
        .await;
    let add = "add it again: ALTER TABLE host_samples ADD COLUMN threads Nullable(UInt32)";
    let password = engine.dir.path().join("password");
    for (remedy, secret) in [(add, None), ("--store-password-file", Some("wrong"))] {
        if let Some(secret) = secret {
            write_secret(&password, secret);
        }
        let checked = text(&run(command(&engine).arg("check")).stdout);
        let missing = checked.lines().filter(|line| line.starts_with("missing"));
        let missing: Vec<_> = missing.collect();
        assert!(
            missing.len() == 1 && missing[0].ends_with(remedy) && !checked.contains("see above"),
            "{checked}"
        );
        let line = text(&run(command(&engine).args(["migrate", "--log", "error"])).stderr);
        assert!(
            line.contains("could not migrate database procscope at http://")
                && line.trim_end().ends_with(remedy),
            "{line}"
        );
        assert_eq!(
            (line.lines().count(), line.matches(remedy).count()),
            (1, 1),
            "{line}"
        );
    }
    write_secret(&password, crate::support::PASSWORD);
    let loopback = [
        "--log",
        "error",
        "--listen",
        "127.0.0.1:0",
        "--http-listen",
        "127.0.0.1:0",
    ];
    let ended = run(command(&engine).args(loopback));
    let line = text(&ended.stderr);
    assert_eq!(
        (ended.status.code(), line.lines().count()),
        (Some(1), 1),
        "{line}"
    );
    assert!(
        line.starts_with("procscope-collector: error: could not use the store at http://")
            && line.trim_end().ends_with(add),
        "{line}"
    );
}

#[test]
fn wrong_usage_is_one_line_and_exit_code_2() {
    let engine = Engine::start();
    let dir = engine.dir.path();
    let unknown = dir.join("unknown.toml");
    std::fs::write(&unknown, "[store]\nurll = 1\n").unwrap();
    let mut cases = Vec::new();
    for arguments in [
        vec!["--listen", "0.0.0.0:0"],
        vec!["--flush-interval", "1ms"],
        vec!["--store-url", "ftp://x"],
        vec!["--config", unknown.to_str().unwrap()],
        vec!["--config", "/nonexistent"],
    ] {
        let mut command = command(&engine);
        // The last of two wins in none of our options, so those that are given twice are given alone.
        if arguments[0] == "--flush-interval" || arguments[0] == "--store-url" {
            command = Command::new(env!("CARGO_BIN_EXE_procscope-collector"));
        }
        cases.push(run(command.args(&arguments)));
    }
    cases.push(run(&mut Command::new(env!("CARGO_BIN_EXE_procscope-collector"))));
    for output in cases {
        let line = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(
            line.starts_with("procscope-collector: error: ") && line.lines().count() == 1,
            "{line}"
        );
    }
}

#[test]
fn a_taken_port_is_named_with_a_remedy() {
    let engine = Engine::start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(command(&engine).args(["--log", "error", "--listen", &address]));
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(
        line.contains(&address) && line.contains("--listen") && line.lines().count() == 1,
        "{line}"
    );
}

#[tokio::test]
async fn sigterm_stores_what_came_and_ends_with_0() {
    let engine = Engine::start();
    let mut running = Running::start(&engine, free_port(), free_port());
    running.ready().await;
    let mut agent = Agent::new(1);
    let time_ms = now_ms();
    let frames: Vec<_> = (0..30)
        .map(|s| agent.freeze(&snapshot("h", time_ms + s * 1_000, vec![sample(1, "a", 1, 1)])))
        .collect();
    let mut stream = Push::open(running.channel().await, Some(TOKEN)).await.unwrap();
    stream.send(&frames).await;
    stream.durable(1).await.unwrap();
    let terminated = Command::new("kill")
        .args(["-TERM", &running.child.id().to_string()])
        .status()
        .unwrap();
    assert!(terminated.success());
    let started = Instant::now();
    let status = loop {
        if let Some(status) = running.child.try_wait().unwrap() {
            break status;
        }
        assert!(started.elapsed().as_secs() < 6, "it did not end");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(status.code(), Some(0));
    let told = "SELECT count() = 1 AND any(host) = 'h' AND any(durable_seq) = (SELECT max(seq) FROM host_samples) FROM agents";
    assert_eq!(
        engine.number(told).await,
        1,
        "the table agents says how far it came"
    );
    // Whatever was acknowledged is there; whatever was not is not doubled when it comes again.
    let running = Running::start(&engine, free_port(), free_port());
    running.ready().await;
    let mut stream = Push::open(running.channel().await, Some(TOKEN)).await.unwrap();
    stream.send(&frames).await;
    stream.durable(30).await.unwrap();
    assert_eq!(engine.number("SELECT count() FROM process_samples").await, 30);
    assert_eq!(engine.number("SELECT count() FROM host_samples").await, 30);
}

#[tokio::test]
async fn a_killed_collector_loses_and_doubles_nothing() {
    let engine = Engine::start();
    let (grpc, http) = (free_port(), free_port());
    let mut agent = Agent::new(1);
    let time_ms = now_ms();
    let frames: Vec<_> = (0..200)
        .map(|s| {
            let samples = (1..=40).map(|id| sample(id, "p", 10, 1)).collect();
            agent.freeze(&snapshot("h", time_ms + s * 1_000, samples))
        })
        .collect();
    let mut durable: u64 = 0;
    for round in 0..6 {
        let mut running = Running::start(&engine, grpc, http);
        running.ready().await;
        let mut stream = Push::open(running.channel().await, Some(TOKEN)).await.unwrap();
        // What was not acknowledged comes again, and some that is new with it.
        let (from, to) = (
            usize::try_from(durable).unwrap(),
            usize::try_from(30 * (round + 1)).unwrap(),
        );
        stream.send(&frames[from..to]).await;
        // Killed a little later in each round: before, between and after the inserts.
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_millis(60 + round * 45);
        while let Ok(Ok(Some(answer))) = tokio::time::timeout_at(deadline, stream.answers.message()).await {
            durable = answer.durable_seq;
        }
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }
    let running = Running::start(&engine, grpc, http);
    running.ready().await;
    let mut stream = Push::open(running.channel().await, Some(TOKEN)).await.unwrap();
    if let Some(rest) = frames
        .get(usize::try_from(durable).unwrap()..)
        .filter(|rest| !rest.is_empty())
    {
        stream.send(rest).await;
        stream.durable(200).await.unwrap();
    }
    assert_eq!(
        engine.number("SELECT count() FROM process_samples").await,
        200 * 40
    );
    assert_eq!(
        engine
            .number("SELECT uniqExact(seq, pid) FROM process_samples")
            .await,
        200 * 40
    );
    assert_eq!(engine.number("SELECT count() FROM host_samples").await, 200);
}

#[tokio::test]
async fn it_ends_with_its_parent_when_asked_to() {
    let engine = Engine::start();
    let (grpc, http) = (free_port(), free_port());
    let collector = command(&engine);
    let mut parent = Command::new("sh");
    // A child of the shell, which stays to be killed.
    parent
        .args(["-c", "\"$@\" & wait", "sh"])
        .arg(collector.get_program())
        .args(collector.get_args())
        .args([
            "--listen",
            &grpc.to_string(),
            "--http-listen",
            &http.to_string(),
            "--log",
            "error",
            "--die-with-parent",
        ]);
    let mut parent = parent.stdin(Stdio::null()).spawn().unwrap();
    let answers = || async { tokio::net::TcpStream::connect(http).await.is_ok() };
    wait_until("the collector listens", answers).await;
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until("the collector has ended", || async { !answers().await }).await;
}

#[test]
fn a_state_folder_that_others_may_write_into_is_refused() {
    let engine = Engine::start();
    let open = engine.dir.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    let output = run(command(&engine).arg("--state-dir").arg(&open));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("others may write") && said.contains("--state-dir"),
        "{said}"
    );
}

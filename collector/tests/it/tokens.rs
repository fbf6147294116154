//! Tokens against a running collector: what they are good for, and that they end.

use std::{
    process::Command,
    time::{Duration, SystemTime},
};

use procscope_collector::access::{
    Scope::{self, Ingest, Query},
    tokens,
};
use tonic::Code;
use uuid::Uuid;

use crate::{
    authority::{Authority, ID, channel, curl, send, start, year},
    support::{Agent, Collector, Engine, Push, TOKEN, now_ms, snapshot, wait_until, write_secret},
};

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_good_for_what_they_say_and_end_while_a_stream_is_open() {
    let (engine, authority) = (Engine::start(), Authority::new());
    let state = tempfile::tempdir().unwrap();
    let create = |scope: Scope, agent_id: Option<u8>, expires: Option<u64>| {
        let request = tokens::Request {
            scope,
            name: String::new(),
            agent_id: agent_id.map(|id| Uuid::from_bytes([id; 16])),
            host: None,
            expires: expires.map(Duration::from_secs),
        };
        tokens::create(state.path(), &request, procscope_collector::clock::now_ms()).unwrap()
    };
    let (own, reading) = (create(Ingest, Some(ID), None), create(Query, None, None));
    let collector = start(&engine, &authority, Some(state.path())).await;
    let frame = |agent: &mut Agent| agent.freeze(&snapshot("h", now_ms(), vec![]));
    let push = async |token: &str, agent: &mut Agent| {
        let frame = frame(agent);
        send(channel(&authority, &collector, None).await, Some(token), &frame).await
    };
    push(&own, &mut Agent::new(ID)).await.unwrap();
    for (token, id, code) in [
        (own.as_str(), 2, Code::PermissionDenied),
        (TOKEN, ID, Code::PermissionDenied),
        (reading.as_str(), 2, Code::PermissionDenied),
        ("procscope_0_0", 2, Code::Unauthenticated),
    ] {
        let status = push(token, &mut Agent::new(id)).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(!status.message().contains(token), "{status}");
    }
    // Made while the collector runs; then taken back while its stream is open. Another one lives on beside it.
    let (first, second) = (create(Ingest, Some(4), None), create(Ingest, Some(4), None));
    wait_until("the new token is known", || async {
        push(&first, &mut Agent::new(4)).await.is_ok()
    })
    .await;
    // Long enough for its stream to be opened on a machine that is busy.
    let short = create(Ingest, Some(5), Some(15));
    wait_until("the short one is known, too", || async {
        push(&short, &mut Agent::new(5)).await.is_ok()
    })
    .await;
    let mut open = Vec::new();
    for (token, id) in [(&first, 4), (&short, 5)] {
        let mut agent = Agent::new(id);
        agent.epoch += 1;
        let frame = frame(&mut agent);
        let mut opened = None;
        // The stream of the epoch before may take a moment to be over.
        for _try in 0..200 {
            let channel = channel(&authority, &collector, None).await.unwrap();
            let mut stream = Push::open(channel, Some(token.as_str())).await.unwrap();
            stream.send(std::slice::from_ref(&frame)).await;
            match stream.durable(1).await {
                Ok(()) => {
                    opened = Some(stream);
                    break;
                }
                Err(status) => assert_eq!(status.code(), Code::AlreadyExists, "{status}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        open.push(opened.expect("the epoch before is over within 10 s"));
    }
    // Good for a few seconds more; its stream ends in order, and what is new is let in no more.
    let now_ms = procscope_collector::clock::now_ms;
    let soon_ms = now_ms() + 10_000;
    let soon = SystemTime::UNIX_EPOCH + Duration::from_millis(soon_ms.cast_unsigned());
    let ending = authority.odd(year(2000)..soon, false);
    let ending = channel(&authority, &collector, Some(ending)).await.unwrap();
    let mut outlived = Push::open(ending, None).await.unwrap();
    let mut agent = Agent::new(ID);
    agent.epoch += 1;
    outlived.send(&[frame(&mut agent)]).await;
    outlived.durable(1).await.unwrap();
    tokens::revoke(state.path(), &first).unwrap();
    for (mut stream, says) in open.into_iter().zip(["revoked", "expired"]) {
        let status = stream.durable(99).await.unwrap_err();
        assert!(
            status.code() == Code::Unauthenticated && status.message().contains(says),
            "{status}"
        );
    }
    push(&second, &mut Agent::new(4)).await.unwrap();
    while outlived.answers.message().await.unwrap().is_some() {}
    assert!(now_ms() > soon_ms);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_this_machine_asking_needs_a_credential_too() {
    let (engine, authority) = (Engine::start(), Authority::new());
    let state = tempfile::tempdir().unwrap();
    let request = tokens::Request {
        scope: Scope::Query,
        name: "prometheus".to_owned(),
        agent_id: None,
        host: None,
        expires: None,
    };
    let token = tokens::create(state.path(), &request, procscope_collector::clock::now_ms()).unwrap();
    let collector = Collector::start_beyond_loopback(engine.config(), |config| {
        config.tls = Some(authority.files());
        config.state_dir = state.path().to_path_buf();
    })
    .await;
    let url = |path: &str| format!("https://127.0.0.1:{}{path}", collector.http.port());
    wait_until("the collector is ready", || async {
        curl(&authority, &[&url("/readyz")]).is_some()
    })
    .await;
    for path in ["/", "/metrics"] {
        assert_eq!(curl(&authority, &[&url(path)]), None, "{path}");
    }
    let header = format!("Authorization: Bearer {token}");
    assert!(
        curl(&authority, &["--header", &header, &url("/metrics")])
            .unwrap()
            .contains("procscope_collector_")
    );
    authority.reader("anna");
    let (cert, key) = (authority.path("anna.pem"), authority.path("anna.key"));
    let by_certificate = [
        "--cert",
        cert.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
        &url("/"),
    ];
    assert!(curl(&authority, &by_certificate).unwrap().contains("procscope"));
    collector.stop().await;
}

#[test]
fn no_token_is_ever_in_a_log() {
    let engine = Engine::start();
    let dir = engine.dir.path();
    let state = dir.join("state");
    let binary = env!("CARGO_BIN_EXE_procscope-collector");
    let tokens = |arguments: &[&str]| {
        let mut command = Command::new(binary);
        let output = command
            .arg("tokens")
            .args(arguments)
            .arg("--state-dir")
            .arg(&state)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let token = tokens(&["create", "--scope", "query", "--name", "anna", "--expires", "90d"]);
    let token = token.trim();
    let listed = tokens(&["list"]);
    assert!(
        listed.contains("anna") && listed.contains("query") && !listed.contains(token),
        "{listed}"
    );
    write_secret(&dir.join("shared"), "shared-s3cret");
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let http = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut child = Command::new(binary)
        .args([
            "--store-url",
            &engine.url(),
            "--listen",
            "127.0.0.1:0",
            "--log",
            "trace,h2=info,hyper=info",
        ])
        .args(["--http-listen", &http.to_string(), "--ingest-token-file"])
        .arg(dir.join("shared"))
        .arg("--state-dir")
        .arg(&state)
        .stderr(log)
        .spawn()
        .unwrap();
    let answers = |token: &str| {
        let header = format!("Authorization: Bearer {token}");
        let output = Command::new("curl")
            .args([
                "--silent",
                "--fail",
                "--retry",
                "50",
                "--retry-connrefused",
                "--retry-delay",
                "1",
            ])
            .args(["--header", &header, &format!("http://{http}/metrics")])
            .output()
            .unwrap();
        output.status.success()
    };
    assert!(answers(token));
    assert!(
        !answers("procscope_1_wrong-s3cret") && !answers("shared-s3cret"),
        "neither may ask"
    );
    tokens(&["revoke", token]);
    let mut tries = 0;
    while answers(token) {
        tries += 1;
        assert!(tries < 200, "a revoked token is good no more");
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let log = std::fs::read_to_string(dir.join("log")).unwrap();
    assert!(log.contains("not let in"), "{log}");
    for secret in [token, "wrong-s3cret", "shared-s3cret"] {
        assert!(!log.contains(secret), "{log}");
    }
}

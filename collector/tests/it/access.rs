//! Who is let in over TLS: certificates of every kind, tokens, rotation of both, and clients that we did not write.

use std::{
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use procscope_collector::access::certs;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tonic::Code;

use crate::{
    authority::{Authority, ID, channel, channel_as, channel_at, curl, metric, send, start, year},
    support::{Agent, Collector, Engine, Push, TOKEN, now_ms, sample, snapshot, wait_until},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_lets_its_agent_in_and_every_wrong_one_is_refused() {
    let (engine, authority) = (Engine::start(), Authority::new());
    let collector = start(&engine, &authority, None).await;
    let mut agent = Agent::new(ID);
    let mut frame = || agent.freeze(&snapshot("node-1", now_ms(), vec![sample(1, "a", 1, 1)]));
    let good = authority.agent("node-1", ID);
    let first = frame();
    send(
        channel(&authority, &collector, Some(good.clone())).await,
        None,
        &first,
    )
    .await
    .unwrap();

    let (expired, early) = (
        authority.odd(year(2000)..year(2001), false),
        authority.odd(year(2090)..year(2091), false),
    );
    let stranger = authority.odd(year(2000)..year(2091), true);
    let handshakes = || {
        metric(
            &authority,
            &collector,
            "procscope_collector_connections_refused_total{reason=\"handshake\"}",
        )
    };
    for (what, identity) in [
        ("expired", expired),
        ("not yet valid", early),
        ("another authority", stranger),
    ] {
        let before = handshakes();
        let refused = send(
            channel(&authority, &collector, Some(identity)).await,
            None,
            &first,
        )
        .await;
        assert!(refused.is_err(), "{what}");
        // A client hears of it after its own side is done, and may have tried more than once by then.
        wait_until("a refused handshake is counted", async || handshakes() > before).await;
    }
    // Good, but for something else.
    let denied = |status: Result<(), tonic::Status>, says: &str| {
        let status = status.unwrap_err();
        assert!(
            status.code() == Code::PermissionDenied && status.message().contains(says),
            "{status}"
        );
    };
    let reader = authority.reader("anna");
    denied(
        send(channel(&authority, &collector, Some(reader)).await, None, &first).await,
        "not good for ingest",
    );
    let other = authority.agent("node-2", 2);
    denied(
        send(channel(&authority, &collector, Some(other)).await, None, &first).await,
        "credential is of agent",
    );
    let mut liar = Agent::new(ID);
    (liar.epoch, liar.seq) = (77, 0);
    let lie = liar.freeze(&snapshot("node-9", now_ms(), vec![]));
    denied(
        send(channel(&authority, &collector, Some(good)).await, None, &lie).await,
        "is of host node-1",
    );
    assert_eq!(
        metric(
            &authority,
            &collector,
            "procscope_collector_refused_total{reason=\"identity\"}"
        ),
        2
    );
    assert_eq!(
        metric(
            &authority,
            &collector,
            "procscope_collector_refused_total{reason=\"scope\"}"
        ),
        1
    );
    // Neither certificate nor token; and a token alone.
    let status = send(channel(&authority, &collector, None).await, None, &first)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    let mut by_token = Agent::new(3);
    let frame = by_token.freeze(&snapshot("node-3", now_ms(), vec![]));
    send(channel(&authority, &collector, None).await, Some(TOKEN), &frame)
        .await
        .unwrap();
    // The other side is checked as well.
    let wrong_name = channel_as(&collector, &authority.text("ca.pem"), None, "other.example").await;
    assert!(wrong_name.unwrap_err().message().contains("NotValidForName"));
    let wrong_ca = channel_as(&collector, &Authority::new().text("ca.pem"), None, "127.0.0.1").await;
    assert!(wrong_ca.unwrap_err().message().contains("InvalidCertificate"));
    assert_eq!(engine.number("SELECT count() FROM host_samples").await, 2);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_under_load_and_nothing_is_lost() {
    let (engine, authority) = (Engine::start(), Authority::new());
    let collector = start(&engine, &authority, None).await;
    authority.agent("node-1", ID);
    let (stop, durable) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut agent = Agent::new(ID);
    let time_ms = now_ms();
    let frames: Vec<_> = (0..200)
        .map(|s| {
            agent.freeze(&snapshot(
                "node-1",
                time_ms + s * 1_000,
                vec![sample(1, "a", 1, 1)],
            ))
        })
        .collect();
    // Streams of a few snapshots each, so that many connections are made meanwhile; as an agent does, what is not
    // acknowledged comes again.
    let sending = async {
        let mut next = 0;
        while next < frames.len() {
            let identity = authority.identity("node-1");
            let part = &frames[next..frames.len().min(next + 8)];
            let sent: Result<(), tonic::Status> = async {
                let mut push =
                    Push::open(channel(&authority, &collector, Some(identity)).await?, None).await?;
                push.send(part).await;
                push.durable(part.last().unwrap().seq).await
            }
            .await;
            if sent.is_ok() {
                next += part.len();
                durable.store(u64::try_from(next).unwrap(), Ordering::Relaxed);
            }
        }
        stop.store(true, Ordering::Relaxed);
    };
    let serial = || {
        let output = Command::new("sh")
            .args([
                "-c",
                "openssl s_client -connect $0 </dev/null 2>/dev/null | openssl x509 -noout -serial",
            ])
            .arg(collector.grpc.to_string())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let rotating = async {
        let before = serial();
        assert!(before.starts_with("serial="), "{before}");
        // A certificate without its key first: the old pair stays.
        let good = authority.text("server.pem");
        std::fs::write(authority.path("server.pem"), authority.text("node-1.pem")).unwrap();
        let kept = "procscope_collector_reloads_total{what=\"certificates\",outcome=\"kept_old\"}";
        wait_until("the bad file was seen", || async {
            metric(&authority, &collector, kept) >= 1
        })
        .await;
        assert_eq!(serial(), before);
        std::fs::write(authority.path("server.pem"), good).unwrap();
        Authority::run(&certs::Command::Renew {
            dir: authority.path(""),
        });
        wait_until("the new certificate is shown", || async { serial() != before }).await;
    };
    tokio::join!(sending, rotating);
    assert!(stop.load(Ordering::Relaxed) && durable.load(Ordering::Relaxed) == 200);
    assert_eq!(engine.number("SELECT count() FROM host_samples").await, 200);
    assert_eq!(
        engine.number("SELECT uniqExact(seq) FROM process_samples").await,
        200
    );
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_we_did_not_write_find_tls_and_nothing_older() {
    let (engine, authority) = (Engine::start(), Authority::new());
    let collector = start(&engine, &authority, None).await;
    let grpc = collector.grpc.to_string();
    let s_client = |arguments: &[&str]| {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &grpc, "-brief", "-CAfile"])
            .arg(authority.path("ca.pem"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let (good, said) = s_client(&[version, "-verify_return_error", "-alpn", "h2"]);
        assert!(good && said.contains("Verification: OK"), "{version} {said}");
    }
    for old in ["-tls1", "-tls1_1"] {
        assert!(!s_client(&[old, "-cipher", "ALL:@SECLEVEL=0"]).0, "{old}");
    }
    let health = format!("https://{}/healthz", collector.http);
    assert_eq!(curl(&authority, &[&health]).as_deref(), Some("ok\n"));
    let plain = format!("http://{}/healthz", collector.http);
    assert_eq!(curl(&authority, &[&plain]), None);
    assert_eq!(
        curl(
            &authority,
            &["--http2-prior-knowledge", &format!("http://{grpc}/")]
        ),
        None
    );
    let page = format!("https://{}/metrics", collector.http);
    let wrong = ["--header", "Authorization: Bearer wrong", page.as_str()];
    assert_eq!(curl(&authority, &wrong), None);
    // Not by curl: what counts the refusals is asked by it.
    let refused = "procscope_collector_connections_refused_total{reason=\"handshake\"}";
    assert!(metric(&authority, &collector, refused) >= 4);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_say_nothing_are_sent_away_and_hinder_nobody() {
    let (engine, authority) = (Engine::start(), Authority::new());
    let collector = start(&engine, &authority, None).await;
    let mut idle = Vec::new();
    for _connection in 0..2_000 {
        // From another address of this machine, as strangers come from others.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        idle.push(socket.connect(collector.grpc).await.unwrap());
    }
    let frame = Agent::new(ID).freeze(&snapshot("node-1", now_ms(), vec![]));
    send(channel(&authority, &collector, None).await, Some(TOKEN), &frame)
        .await
        .unwrap();
    let refused = |reason: &str| {
        let name = format!("procscope_collector_connections_refused_total{{reason=\"{reason}\"}}");
        metric(&authority, &collector, &name)
    };
    wait_until("all are gone", || async {
        refused("too_many_handshakes") + refused("too_many") + refused("handshake_slow") >= 2_000
    })
    .await;
    assert!(refused("too_many_handshakes") > 0 && refused("handshake_slow") > 0);
    drop(idle);
    collector.stop().await;
}

/// How long a connection lives on which this is said, and then something more every half second.
async fn life<Io: AsyncRead + AsyncWrite + Unpin>(mut io: Io, first: &[u8], more: &[u8]) -> Duration {
    let began = Instant::now();
    io.write_all(first).await.unwrap();
    let mut answers = [0; 1_024];
    while began.elapsed() < Duration::from_secs(25) {
        match tokio::time::timeout(Duration::from_millis(500), io.read(&mut answers)).await {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(_)) => {}
            Err(_elapsed) if io.write_all(more).await.and(io.flush().await).is_err() => break,
            Err(_elapsed) => {}
        }
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_let_in_is_sent_away_whatever_he_says_and_agents_stay() {
    let (engine, authority) = (Engine::start(), Authority::new());
    let plain = Collector::start(&engine).await;
    let closed = start(&engine, &authority, None).await;
    let mut push = Push::open(plain.channel().await, Some(TOKEN)).await.unwrap();
    let mut agent = Agent::new(ID);
    push.send(&[agent.freeze(&snapshot("node-1", now_ms(), vec![]))])
        .await;
    push.durable(1).await.unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(authority.path("ca.pem")).unwrap())
        .unwrap();
    let tls = |alpn: &[u8]| {
        let mut config = rustls::ClientConfig::builder()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let name = ServerName::try_from("collector.example").unwrap();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        async move |socket| connector.connect(name, socket).await.unwrap()
    };
    let open = async |address| tokio::net::TcpStream::connect(address).await.unwrap();
    let settings: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let ping: &[u8] = b"\0\0\x08\x06\0\0\0\0\0procscop";
    let unknown: &[u8] =
        b"POST /procscope.v1.IngestService/PushSnapshots HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    let lives = tokio::join!(
        life(open(plain.grpc).await, b"P", b""),
        life(open(plain.http).await, b"P", b""),
        life(open(plain.grpc).await, settings, ping),
        life(open(plain.http).await, b"GET /metrics HTTP/1.1\r\n", b"a: b\r\n"),
        life(open(plain.grpc).await, unknown, unknown),
        life(tls(b"h2")(open(closed.grpc).await).await, b"P", b""),
        life(tls(b"http/1.1")(open(closed.http).await).await, b"P", b""),
        life(
            open(plain.http).await,
            b"",
            b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        ),
    );
    let (one, two, three, four, five, six, seven, healthy) = lives;
    for (n, life) in [one, two, three, four, five, six, seven].into_iter().enumerate() {
        let seconds = life.as_secs_f64();
        assert!((9.0..20.0).contains(&seconds), "{n}: {seconds}");
    }
    assert!(healthy >= Duration::from_secs(25), "{healthy:?}");
    let silent = "procscope_collector_connections_refused_total{reason=\"silent\"}";
    assert_eq!(plain.metric(silent).await, 5);
    assert_eq!(metric(&authority, &closed, silent), 2);
    // Its stream is the one it opened before.
    push.send(&[agent.freeze(&snapshot("node-1", now_ms(), vec![]))])
        .await;
    push.durable(2).await.unwrap();
    drop(push);
    plain.stop().await;
    closed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_behind_tls_is_asked_by_the_authorities_of_the_system() {
    let (engine, authority) = (Engine::start(), Authority::new());
    // Anything that speaks HTTP over TLS will do: what it answers is an answer.
    let collector = start(&engine, &authority, None).await;
    let check = |roots: Option<&std::path::Path>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_procscope-collector"));
        command.args(["check", "--store-url", &format!("https://{}", collector.http)]);
        if let Some(roots) = roots {
            command.env("SSL_CERT_FILE", roots);
        }
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let stranger = check(None);
    assert!(stranger.contains("certificate"), "{stranger}");
    let known = check(Some(&authority.path("ca.pem")));
    assert!(
        known.contains("store at") && !known.contains("certificate:"),
        "{known}"
    );
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_has_vanished_is_noticed_within_fifty_seconds() {
    let (engine, authority) = (Engine::start(), Authority::new());
    let collector = start(&engine, &authority, None).await;
    // A way on which from some time on nothing arrives, and nobody is told.
    let way = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, target) = (way.local_addr().unwrap(), collector.grpc);
    let (cut, silent) = tokio::sync::watch::channel(false);
    let forwarding = tokio::spawn(async move {
        let (mut near, _) = way.accept().await.unwrap();
        let mut far = tokio::net::TcpStream::connect(target).await.unwrap();
        let mut silent = silent;
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            _ = silent.wait_for(|silent| *silent) => {}
        }
        // Both sockets stay open.
        std::future::pending::<()>().await;
    });
    let channel = channel_at(&authority, address).await.unwrap();
    let mut push = Push::open(channel, Some(TOKEN)).await.unwrap();
    let frame = Agent::new(ID).freeze(&snapshot("h", now_ms(), vec![]));
    push.send(&[frame]).await;
    push.durable(1).await.unwrap();
    assert_eq!(
        metric(&authority, &collector, "procscope_collector_agents_connected"),
        1
    );
    cut.send(true).unwrap();
    let started = std::time::Instant::now();
    wait_until("the agent counts as gone", || async {
        metric(&authority, &collector, "procscope_collector_agents_connected") == 0
    })
    .await;
    assert!(started.elapsed().as_secs() <= 50, "{:?}", started.elapsed());
    forwarding.abort();
    collector.stop().await;
}

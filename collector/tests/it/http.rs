//! HTTP, health and reflection: what they say, and to whom.

use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{
    Agent, Collector, Engine, channel, get, now_ms, push, sample, send, snapshot, wait_until,
};

#[tokio::test]
async fn the_page_shows_the_top_as_text_and_runs_nothing() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let (status, head, body) = collector.get_as("/", "localhost").await;
    assert!(
        status == 200 && body.contains("No agent has sent anything yet"),
        "{body}"
    );
    assert!(
        head.contains("content-security-policy: default-src 'none'"),
        "{head}"
    );
    let mut agent = Agent::new(1);
    let samples = vec![sample(1, "<script>alert(1)</script>", 123, 7)];
    push(
        &collector,
        &[agent.freeze(&snapshot("\"host\"", now_ms(), samples))],
    )
    .await
    .unwrap();
    let (_, body) = collector.get("/").await;
    assert!(
        body.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && !body.contains("<script"),
        "{body}"
    );
    assert!(
        body.contains("&quot;host&quot;") && body.contains("<td>12.3</td>"),
        "{body}"
    );
    collector.stop().await;
}

#[tokio::test]
async fn other_names_are_turned_away_on_both_ports() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    for path in ["/", "/metrics", "/healthz"] {
        assert_eq!(collector.get_as(path, "evil.example").await.0, 403, "{path}");
        assert_eq!(collector.get_as(path, "127.0.0.1:7401").await.0, 200, "{path}");
    }
    let evil = tonic::transport::Channel::from_shared(format!("http://{}", collector.grpc))
        .unwrap()
        .origin("http://evil.example".parse().unwrap())
        .connect()
        .await
        .unwrap();
    let mut health = HealthClient::new(evil);
    let refused = health.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    collector.stop().await;
}

#[tokio::test]
async fn health_follows_the_store_service_by_service() {
    let mut engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let mut health = HealthClient::new(collector.channel().await);
    let services = ["", "procscope.v1.IngestService", "procscope.v1.QueryService"];
    let mut all_are = async |expected: ServingStatus| {
        for service in services {
            let answer = health
                .check(HealthCheckRequest {
                    service: service.to_owned(),
                })
                .await
                .unwrap();
            if answer.into_inner().status() != expected {
                return false;
            }
        }
        true
    };
    assert!(all_are(ServingStatus::Serving).await);
    engine.kill();
    let started = std::time::Instant::now();
    while !all_are(ServingStatus::NotServing).await {
        assert!(started.elapsed() < crate::support::PATIENCE);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    collector.stop().await;
}

#[tokio::test]
async fn both_reflections_list_every_service() {
    use tonic_reflection::pb::{v1, v1alpha};
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let wanted = [
        "grpc.health.v1.Health",
        "procscope.v1.IngestService",
        "procscope.v1.QueryService",
    ];
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel(collector.grpc).await);
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let answer = format!("{:?}", answers.message().await.unwrap().unwrap());
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut client =
        v1alpha::server_reflection_client::ServerReflectionClient::new(channel(collector.grpc).await);
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let alpha = format!("{:?}", answers.message().await.unwrap().unwrap());
    for name in wanted {
        assert!(
            answer.contains(name) && alpha.contains(name),
            "{name}: {answer} {alpha}"
        );
    }
    collector.stop().await;
}

#[tokio::test]
async fn the_metrics_count_what_happened() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let mut agent = Agent::new(1);
    let frames: Vec<_> = (0..3)
        .map(|s| agent.freeze(&snapshot("h", now_ms() + s, vec![sample(1, "a", 1, 1)])))
        .collect();
    push(&collector, &frames).await.unwrap();
    let rows = "procscope_collector_rows_stored_total{table=\"process_samples\"}";
    assert_eq!(collector.metric(rows).await, 3);
    assert_eq!(collector.metric("procscope_collector_snapshots_waiting").await, 0);
    wait_until("the agent has left", || async {
        collector.metric("procscope_collector_agents_connected").await == 0
    })
    .await;
    collector.stop().await;
}

#[tokio::test]
async fn each_stored_snapshot_is_once_in_the_metrics_of_processes() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let page = async |accept: &str| {
        let request = format!(
            "GET /metrics/processes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{accept}\r\n"
        );
        let (_, head, body) = send(collector.http, &request).await;
        (head, String::from_utf8(body).unwrap())
    };
    let mut agent = Agent::new(1);
    let mut frame = |at: i64| {
        let samples = vec![sample(1, "a", 250, 7), sample(2, "a", 250, 7)];
        agent.freeze(&snapshot("h", now_ms() + at * 1_000, samples))
    };
    let first = frame(0);
    push(&collector, std::slice::from_ref(&first)).await.unwrap();
    let (head, text) = page("").await;
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let seconds = "namedprocess_namegroup_cpu_seconds_total{groupname=";
    assert!(
        text.contains(&format!("{seconds}\"a\",mode=\"unsplit\"}} 0.000000000\n")),
        "shown at zero first: {text}"
    );
    assert!(
        text.contains(&format!("{seconds}\"other\",mode=\"unsplit\"}} 0.500000000\n")),
        "{text}"
    );
    // The first comes again, as after a lost acknowledgement.
    push(&collector, &[first, frame(1)]).await.unwrap();
    let (head, text) = page("Accept: application/openmetrics-text\r\n").await;
    assert!(
        head.contains("content-type: application/openmetrics-text") && text.ends_with("# EOF\n"),
        "{head}"
    );
    assert!(
        text.contains(&format!("{seconds}\"a\",mode=\"unsplit\"}} 0.500000000\n")),
        "{text}"
    );
    assert!(
        text.contains("namedprocess_namegroup_num_procs{groupname=\"a\"} 2\n"),
        "{text}"
    );
    assert!(
        text.contains("namedprocess_namegroup_memory_bytes{groupname=\"a\",memtype=\"resident\"} 14680064\n"),
        "{text}"
    );
    collector.stop().await;
}

/// Calls a method with any bytes as the message.
async fn call(collector: &Collector, method: &'static str, message: &[u8]) -> tonic::Status {
    #[derive(Default)]
    struct Bytes;
    impl tonic::codec::Encoder for Bytes {
        type Item = Vec<u8>;
        type Error = tonic::Status;
        fn encode(
            &mut self,
            item: Vec<u8>,
            buffer: &mut tonic::codec::EncodeBuf<'_>,
        ) -> Result<(), Self::Error> {
            bytes::BufMut::put_slice(buffer, &item);
            Ok(())
        }
    }
    impl tonic::codec::Decoder for Bytes {
        type Item = ();
        type Error = tonic::Status;
        fn decode(&mut self, _: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<()>, Self::Error> {
            Ok(None)
        }
    }
    impl tonic::codec::Codec for Bytes {
        type Encode = Vec<u8>;
        type Decode = ();
        type Encoder = Self;
        type Decoder = Self;
        fn encoder(&mut self) -> Self {
            Self
        }
        fn decoder(&mut self) -> Self {
            Self
        }
    }
    let mut client = tonic::client::Grpc::new(collector.channel().await);
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(method);
    let request = tonic::Request::new(message.to_vec());
    client.unary(request, path, Bytes).await.unwrap_err()
}

#[tokio::test]
async fn who_speaks_another_language_is_told_so() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let top = "/procscope.v1.QueryService/ListTopProcesses";
    let garbage = call(&collector, top, b"\xff\xff\xff no question").await;
    assert_eq!(garbage.code(), Code::InvalidArgument, "{garbage}");
    assert!(
        garbage.message().contains("ListTopProcesses could not be read"),
        "{garbage}"
    );
    for method in ["/procscope.v1.QueryService/Nothing", "/nowhere/Nothing"] {
        let unknown = call(&collector, method, b"").await;
        assert_eq!(unknown.code(), Code::Unimplemented, "{unknown}");
        assert!(unknown.message().starts_with(method), "{unknown}");
    }
    let (status, _, body) = get(collector.grpc, "/metrics", "localhost").await;
    assert!(
        status == 415 && body.contains("this port speaks gRPC"),
        "{status} {body}"
    );
    collector.stop().await;
}

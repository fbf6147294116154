//! REST: the same numbers as gRPC, in every form; refusals that name what is wrong; the live top; the limits.

mod cancelled;
mod listeners;
mod live;

use procscope_proto::v1::{self, GroupBy};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    queries::fleet,
    support::{Agent, Collector, Engine, now_ms, process_id, push, range, send, snapshot, timestamp},
};

/// `GET path` with further headers: status, head in small letters, body.
pub(super) async fn get(collector: &Collector, path: &str, headers: &str) -> (u16, String, Vec<u8>) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    send(collector.http, &request).await
}

/// What a question is answered in JSON.
pub(super) async fn answer(collector: &Collector, path: &str) -> Value {
    let (status, _, body) = get(collector, &format!("/api/v1/{path}"), "").await;
    let text = String::from_utf8_lossy(&body);
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
}

/// Rows of a CSV, by the names of their columns.
fn sheet(csv: &[u8]) -> Vec<std::collections::HashMap<String, String>> {
    let mut reader = csv::Reader::from_reader(csv);
    reader.deserialize().map(Result::unwrap).collect()
}

#[tokio::test]
async fn one_dataset_gives_the_same_numbers_on_every_route() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 60_000;
    fleet(&collector, start_ms).await;
    let (start, end) = (start_ms / 1_000, start_ms / 1_000 + 10);
    let asked = range(start_ms, start_ms + 10_000);
    let mut query = collector.query().await;

    for (group_by, word, count) in [
        (GroupBy::Command, "command", 4),
        (GroupBy::Process, "process", 6),
        (GroupBy::Pod, "pod", 2),
    ] {
        let request = v1::ListTopProcessesRequest {
            range: asked,
            group_by: group_by.into(),
            ..Default::default()
        };
        let grpc = query.list_top_processes(request).await.unwrap().into_inner();
        let rest = answer(
            &collector,
            &format!("processes/top?start={start}&end={end}&group_by={word}"),
        )
        .await;
        let rfc = jiff::Timestamp::from_second(start).unwrap();
        assert_eq!(
            (&rest["start"], &rest["metric"]),
            (&json!(rfc.to_string()), &json!("cpu"))
        );
        assert_eq!(
            (&rest["group_by"], rest.get("time_range_hours")),
            (&json!(word), None)
        );
        assert_eq!(rest["coverage"], serde_json::to_value(&grpc.coverage).unwrap());
        assert_eq!(rest["processes"], serde_json::to_value(&grpc.processes).unwrap());
        assert_eq!(grpc.processes.len(), count);
        let path = format!("/api/v1/export?what=top&start={start}&end={end}&group_by={word}");
        let (status, head, body) = get(&collector, &path, "").await;
        assert!(status == 200 && head.contains("text/csv"), "{head}");
        let rows = sheet(&body);
        assert_eq!(rows.len(), grpc.processes.len());
        for (row, process) in rows.iter().zip(&grpc.processes) {
            assert_eq!(row["name"], process.name);
            assert_eq!(row["hosts"], process.hosts.join(";"));
            assert_eq!(row["avg_cpu_percent"].parse(), Ok(process.avg_cpu_percent));
            assert_eq!(row["cpu_seconds"].parse(), Ok(process.cpu_seconds));
            assert_eq!(row["peak_memory_mb"].parse().ok(), process.peak_memory_mb);
            assert_eq!(row["start"], rfc.to_string());
        }
    }

    let id = process_id(1);
    let request = v1::GetProcessHistoryRequest {
        process_id: id.clone(),
        range: asked,
        step_ms: 2_000,
        ..Default::default()
    };
    let grpc = query.get_process_history(request).await.unwrap().into_inner();
    let question = format!("process_id={id}&start={start}&end={end}&step=2s");
    let rest = answer(&collector, &format!("processes/history?{question}")).await;
    assert_eq!(rest["points"], serde_json::to_value(&grpc.points).unwrap());
    assert_eq!(rest["process"], serde_json::to_value(&grpc.process).unwrap());
    assert_eq!(rest["points"].as_array().unwrap().len(), 5);
    let (_, _, body) = get(&collector, &format!("/api/v1/export?what=history&{question}"), "").await;
    assert_eq!(sheet(&body).len(), 5);

    let request = v1::ListGroupsRequest {
        base: "ngi".to_owned(),
        range: asked,
        ..Default::default()
    };
    let grpc = query.list_groups(request).await.unwrap().into_inner();
    for asks in ["base=ngi", "regex=^ngi..$"] {
        let path = format!("processes/groups?{asks}&start={start}&end={end}");
        let rest = answer(&collector, &path).await;
        assert_eq!(rest["total"], serde_json::to_value(&grpc.total).unwrap());
        assert_eq!(rest["members"], serde_json::to_value(&grpc.members).unwrap());
    }

    let request = v1::GetAuditRequest {
        range: asked,
        ..Default::default()
    };
    let grpc = query.get_audit(request).await.unwrap().into_inner();
    let rest = answer(&collector, &format!("audit?start={start}&end={end}")).await;
    assert_eq!(rest["rows"], serde_json::to_value(&grpc.rows).unwrap());
    assert_eq!(rest["rows"][0]["residual_ns"], json!(-10));
    let request = v1::ListHostsRequest { range: asked };
    let grpc = query.list_hosts(request).await.unwrap().into_inner();
    let rest = answer(&collector, &format!("hosts?start={start}&end={end}")).await;
    assert_eq!(rest["hosts"], serde_json::to_value(&grpc.hosts).unwrap());

    // Hosts by both names of the parameter; hours are told back.
    for hosts in ["host=db2", "server_ids[]=db2", "server_ids%5B%5D=db2&hours=2"] {
        let rest = answer(&collector, &format!("processes/top?{hosts}")).await;
        assert_eq!(rest["processes"][0]["hosts"], json!(["db2"]), "{hosts}");
        let hours = hosts.contains("hours").then_some(json!(2));
        assert_eq!(rest.get("time_range_hours"), hours.as_ref(), "{hosts}");
    }
    parquet(
        &engine,
        &collector,
        &format!("start={start}&end={end}&group_by=process"),
    )
    .await;
    once(
        &collector,
        &format!("/api/v1/processes/top?start={start}&end={end}"),
    )
    .await;
    refusals(&collector).await;
    described(&collector).await;
    collector.stop().await;
}

/// The engine reads what was exported: a reader that we did not write.
async fn parquet(engine: &Engine, collector: &Collector, question: &str) {
    let path = format!("/api/v1/export?what=top&format=parquet&{question}");
    let (status, head, file) = get(collector, &path, "").await;
    assert!(status == 200 && head.contains("procscope-top.parquet"), "{head}");
    engine
        .execute(
            "CREATE TABLE exported (start DateTime64(3), name String, pid Nullable(UInt64), start_time \
             Nullable(DateTime64(3)), exited Nullable(Bool), avg_memory_mb Nullable(Float64), cpu_seconds Float64) \
             ENGINE = Memory",
        )
        .await;
    let (status, said) = engine
        .post(
            "INSERT INTO exported SETTINGS input_format_parquet_allow_missing_columns = 1 FORMAT Parquet",
            &file,
        )
        .await;
    assert_eq!(status, 200, "{said}");
    let grpc = answer(collector, &format!("processes/top?{question}")).await;
    let rows = grpc["processes"].as_array().unwrap();
    assert_eq!(
        engine.number("SELECT count() FROM exported").await,
        rows.len() as u64
    );
    let told = engine
        .text(
            "SELECT toJSONString(groupArray((name, pid, exited, avg_memory_mb, cpu_seconds))) FROM exported",
        )
        .await;
    let told: Value = serde_json::from_str(&told).unwrap();
    for (told, row) in told.as_array().unwrap().iter().zip(rows) {
        for (at, name) in ["name", "pid", "exited", "avg_memory_mb", "cpu_seconds"]
            .iter()
            .enumerate()
        {
            let same = match row[name].as_f64() {
                Some(number) => told[at].as_f64() == Some(number),
                None => told[at] == row[name],
            };
            assert!(same, "{name}: {} of {row}", told[at]);
        }
    }
}

/// An answer that is known already is not sent again, and a long one is compressed for those who can read it.
async fn once(collector: &Collector, path: &str) {
    let (_, head, plain) = get(collector, path, "").await;
    let tag = head
        .lines()
        .find_map(|line| line.strip_prefix("etag: "))
        .expect("a tag");
    let tag = tag.replace("w/", "W/");
    let (status, head, body) = get(collector, path, &format!("If-None-Match: \"x\", {tag}\r\n")).await;
    assert!(
        status == 304 && body.is_empty() && head.contains(&tag.to_lowercase()),
        "{head}"
    );
    let (status, head, body) = get(collector, path, "Accept-Encoding: gzip\r\n").await;
    assert!(status == 200 && head.contains("content-encoding: gzip"), "{head}");
    assert!(
        head.contains("vary: accept-encoding") || head.contains("accept-encoding"),
        "{head}"
    );
    assert!(body.len() * 2 < plain.len(), "{} of {}", body.len(), plain.len());
    // Nothing else is there to be had.
    let (status, _, body) = get(collector, path, "Accept-Encoding: identity;q=0\r\n").await;
    assert_eq!((status, body.len()), (200, plain.len()));
}

async fn refusals(collector: &Collector) {
    for (path, headers, status, field) in [
        ("processes/top?limit=0", "", 400, "limit"),
        ("processes/top?frob=1", "", 400, "frob"),
        ("processes/top?group_by=planet", "", 400, "group_by"),
        ("processes/top?start=9&end=5", "", 400, "start"),
        ("processes/top?hours=169", "", 400, "hours"),
        ("processes/groups", "", 400, "base"),
        ("processes/groups?regex=(", "", 400, "regex"),
        ("processes/groups?group=web", "", 404, ""),
        ("export?what=groups&group=web", "", 404, ""),
        ("processes/history", "", 400, "process_id"),
        ("processes/history?process_id=x", "", 400, "process_id"),
        ("processes/exits?page_token=x", "", 400, "page_token"),
        ("live?intervals=0", "", 400, "intervals"),
        ("export?what=hosts&metric=cpu", "", 400, "metric"),
        ("export?what=exits&limit=2", "", 400, "limit"),
        ("export?what=groups&group=web", "", 404, ""),
        ("processes/groups?base=a&regex=b", "", 400, "base"),
        ("processes/history?name=bash", "", 400, "host"),
        ("processes/top?host=", "", 400, "host"),
        ("processes/top?end=0", "", 400, "end"),
        ("processes/top?end=9999-12-31T23:59:59Z", "", 400, "end"),
        (
            "processes/exits?page_token=1.2.3.00000000-0000-0000-0000-000000000001.0011223344556677",
            "",
            400,
            "page_token",
        ),
        ("processes/top?host=nobody", "", 404, ""),
        ("nothing", "", 404, ""),
        ("processes/top", "Accept: text/html\r\n", 406, ""),
        ("processes/top", "Content-Length: 70000\r\n", 413, ""),
        ("live/ws", "", 426, ""),
    ] {
        let (got, head, body) = get(collector, &format!("/api/v1/{path}"), headers).await;
        let problem: Value =
            serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{path}: {error}: {head}"));
        assert_eq!(
            (got, &problem["status"]),
            (status, &json!(status)),
            "{path}: {problem}"
        );
        assert!(
            head.contains("content-type: application/problem+json"),
            "{path}: {head}"
        );
        assert_eq!(
            problem["errors"][0]["field"].as_str().unwrap_or(""),
            field,
            "{path}: {problem}"
        );
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{path}");
    }
    let (status, head, body) = send(
        collector.http,
        "POST /api/v1/hosts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    assert!(status == 405 && head.contains("allow: get,head"), "{head}");
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["status"], 405);
    let (status, _, body) = send(
        collector.http,
        "GET /api/v1/hosts HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(
        (status, &serde_json::from_slice::<Value>(&body).unwrap()["status"]),
        (403, &json!(403))
    );
    let (status, head, body) = get(collector, "/api/v1/hosts", "Authorization: Bearer wrong\r\n").await;
    assert!(
        status == 401 && head.contains("www-authenticate: bearer"),
        "{head}"
    );
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap()["title"],
        "Unauthorized"
    );
}

/// Every address of the document is answered, with fields that it describes and no others.
async fn described(collector: &Collector) {
    let (_, _, body) = get(collector, "/api/openapi.json", "").await;
    let document: Value = serde_json::from_slice(&body).unwrap();
    for path in document["paths"].as_object().unwrap().keys() {
        let (status, _, _) = get(collector, path, "Accept: application/problem+json;q=0\r\n").await;
        assert!(status != 404 && status != 405, "{path}: {status}");
    }
    let answers = [
        ("processes/top?hours=1", "Top"),
        ("hosts", "Hosts"),
        ("audit", "Audit"),
        ("processes/exits", "Exits"),
    ];
    for (path, schema) in answers {
        let schema = &document["components"]["schemas"][schema];
        let parts = schema["allOf"].as_array().into_iter().flatten().chain([schema]);
        let mut fields = Vec::new();
        for part in parts {
            let part = match part["$ref"].as_str() {
                Some(name) => &document["components"]["schemas"][name.rsplit('/').next().unwrap()],
                None => part,
            };
            fields.extend(
                part["properties"]
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(name, _)| name),
            );
        }
        for name in answer(collector, path).await.as_object().unwrap().keys() {
            assert!(
                fields.contains(&name),
                "{path}: {name} is not described: {fields:?}"
            );
        }
    }
    let (status, head, page) = get(collector, "/docs", "").await;
    assert!(
        status == 200 && head.contains("content-security-policy: default-src 'none'"),
        "{head}"
    );
    assert!(
        String::from_utf8(page)
            .unwrap()
            .contains("GET /api/v1/processes/exits")
    );
}

#[tokio::test]
async fn exits_are_paged_and_exported_all_and_names_are_text_everywhere() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let time_ms = now_ms() - 60_000;
    let mut agent = Agent::new(1);
    let exits = (1..=25u8).map(|id| v1::ProcessExit {
        process_id: vec![id; 16],
        pid: u32::from(id),
        name: "=HYPERLINK(\"x\"),\\x1b".to_owned(),
        end_time: Some(timestamp(time_ms + i64::from(id / 7))),
        lifetime_ns: u64::from(id) * 1_000_000,
        cpu_time_ns: u64::MAX / 2 - u64::from(id),
        exit_code: Some(u32::from(id % 2)),
        ..v1::ProcessExit::default()
    });
    let frame = agent.freeze(&v1::Snapshot {
        exits: exits.collect(),
        ..snapshot("h", time_ms + 100, vec![])
    });
    push(&collector, &[frame]).await.unwrap();
    let (mut pids, mut token) = (Vec::new(), String::new());
    loop {
        let page = answer(
            &collector,
            &format!("processes/exits?hours=2&limit=10&page_token={token}"),
        )
        .await;
        assert_eq!(page["total"], 25);
        let rows = page["exits"].as_array().unwrap();
        pids.extend(rows.iter().map(|row| row["pid"].as_u64().unwrap()));
        assert_eq!(rows[0]["name"], "=HYPERLINK(\"x\"),\\x1b");
        let id = rows[0]["pid"].as_u64().unwrap();
        assert_eq!(
            rows[0]["cpu_time_ns"].as_u64(),
            Some(u64::MAX / 2 - id),
            "all 64 bits"
        );
        token = page["next_page_token"].as_str().unwrap().to_owned();
        if token.is_empty() {
            break;
        }
    }
    pids.sort_unstable();
    assert_eq!(pids, (1..=25).collect::<Vec<_>>());
    for (filter, count) in [
        ("max_lifetime=10ms", 10),
        ("failed=true", 13),
        ("failed=false&name=x", 0),
    ] {
        let page = answer(&collector, &format!("processes/exits?{filter}")).await;
        assert_eq!(page["total"], count, "{filter}");
    }
    let (status, head, csv) = get(&collector, "/api/v1/export?what=exits&hours=2", "").await;
    assert!(
        status == 200 && head.contains("transfer-encoding: chunked"),
        "{head}"
    );
    let rows = sheet(&csv);
    assert_eq!(rows.len(), 25);
    assert_eq!(rows[0]["name"], "'=HYPERLINK(\"x\"),\\x1b", "no formula");
    assert_eq!(rows[0]["exit_signal"], "");
    collector.stop().await;
}

#[tokio::test]
async fn one_client_that_asks_too_fast_waits_and_others_do_not() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let mut refused = None;
    // One connection after the other is slower than the pace; many requests on one are not.
    let mut socket = tokio::net::TcpStream::connect(collector.http).await.unwrap();
    let (mut reader, mut writer) = socket.split();
    let many = "GET /docs/none HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(3_000)
        + "GET /docs/none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut answers = String::new();
    let (sent, read) = tokio::join!(
        writer.write_all(many.as_bytes()),
        reader.read_to_string(&mut answers)
    );
    sent.unwrap();
    read.unwrap();
    for answer in answers.split("HTTP/1.1 ").skip(1) {
        if answer.starts_with("429") {
            refused = Some(answer.to_lowercase());
        } else {
            assert!(answer.starts_with("404"), "{answer}");
        }
    }
    let refused = refused.expect("some were too many");
    assert!(
        refused.contains("retry-after: 1") && refused.contains("application/problem+json"),
        "{refused}"
    );
    let (status, _, _) = send(
        collector.http,
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(status, 200, "whether we live is told to everybody");
    crate::support::wait_until("the pace is earned again", || async {
        collector
            .metric("procscope_collector_refused_total{reason=\"pace\"}")
            .await
            > 0
    })
    .await;
    collector.stop().await;
}

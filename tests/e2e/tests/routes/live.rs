//! Live streams while rows come: each answer of one is what the question of its range answers.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use procscope_proto::v1::{
    GroupBy, ListTopProcessesRequest, WatchTopProcessesRequest, query_service_client::QueryServiceClient,
};
use procscope_tests_e2e::{Stack, curl};
use serde_json::{Value, json};

/// Answers of each stream that are compared.
const ANSWERS: usize = 3;

/// Some answers of a stream of events.
fn events(stack: &Stack) -> Result<Vec<Value>> {
    let mut socket = TcpStream::connect(stack.http().trim_start_matches("http://"))?;
    socket.set_read_timeout(Some(Duration::from_mins(1)))?;
    socket.write_all(
        b"GET /api/v1/live?intervals=2&group_by=process&limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    )?;
    let mut told = Vec::new();
    for line in BufReader::new(socket).lines() {
        if let Some(data) = line?.strip_prefix("data: ") {
            told.push(serde_json::from_str(data)?);
        }
        if told.len() == ANSWERS {
            return Ok(told);
        }
    }
    anyhow::bail!("the stream ended after {} answers", told.len())
}

/// Some answers of gRPC's watch.
async fn watched(stack: &Stack) -> Result<Vec<Value>> {
    let mut client = QueryServiceClient::connect(stack.server()).await?;
    let query = ListTopProcessesRequest {
        last_intervals: 2,
        group_by: GroupBy::Process.into(),
        limit: 1_000,
        ..Default::default()
    };
    let request = WatchTopProcessesRequest { query: Some(query) };
    let mut stream = client.watch_top_processes(request).await?.into_inner();
    let mut told = Vec::new();
    while told.len() < ANSWERS {
        let answer = stream.message().await?.context("the stream ended")?;
        let top = answer.top.context("a top")?;
        let range = top.range.context("a range")?;
        let text = |side: Option<prost_types::Timestamp>| {
            let side = side.context("a side of the range")?;
            Ok::<_, anyhow::Error>(jiff::Timestamp::new(side.seconds, side.nanos)?.to_string())
        };
        told.push(json!({
            "start": text(range.start)?,
            "end": text(range.end)?,
            "coverage": top.coverage,
            "processes": top.processes,
        }));
    }
    Ok(told)
}

pub(crate) fn check(stack: &Stack, runtime: &tokio::runtime::Runtime) -> Result<()> {
    let mut all = events(stack)?;
    all.extend(runtime.block_on(watched(stack))?);
    for told in all {
        let side = |name: &str| told[name].as_str().with_context(|| format!("{name} of {told}"));
        let question = format!(
            "{}/api/v1/processes/top?group_by=process&limit=1000&start={}&end={}",
            stack.http(),
            side("start")?,
            side("end")?
        );
        let answer: Value = serde_json::from_str(&curl(&[&question])?)?;
        for part in ["coverage", "processes"] {
            ensure!(
                told[part] == answer[part],
                "{part}: {} and {}",
                told[part],
                answer[part]
            );
        }
        ensure!(
            answer["processes"].as_array().is_some_and(|rows| rows.len() > 3),
            "{answer}"
        );
    }
    Ok(())
}

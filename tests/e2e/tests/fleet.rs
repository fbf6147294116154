//! A fleet of two hundred agents at one collector, twenty of them hostile: the honest ones lose nothing.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use procscope_proto::v1::{PushSnapshotsRequest, ingest_service_client::IngestServiceClient};
use procscope_tests_e2e::{Stack, alone, binary, rest};
use procscope_tests_kernel::status_bytes;
use serde_json::Value;
use tokio::task::JoinSet;
use tonic::{Code, Request, metadata::MetadataValue};

/// Agents that do as they should.
const HONEST: u32 = 180;
/// Of each kind of the others.
const OF_A_KIND: u32 = 4;
/// Memory that the collector may take, whoever sends whatever: its budget for snapshots that wait, and what it is.
const COLLECTOR_BYTES_MAX: u64 = 512 << 20;

/// Ways in which an agent does harm.
#[derive(Debug, Clone, Copy)]
enum Harm {
    /// A token that is none.
    WrongToken,
    /// Bytes that are no snapshot, under a checksum that fits.
    Garbage,
    /// A checksum that does not fit.
    Damaged,
    /// A message longer than any may be.
    TooLong,
    /// Opens streams one after the other and says nothing.
    Silent,
}

const HARMS: [Harm; 5] = [
    Harm::WrongToken,
    Harm::Garbage,
    Harm::Damaged,
    Harm::TooLong,
    Harm::Silent,
];

/// Does harm until `ends`, again and again; the codes it was answered with.
async fn harm(kind: Harm, server: String, token: String, number: u32, ends: Instant) -> Result<Vec<Code>> {
    let mut answers = Vec::new();
    let garbage = vec![
        0xa5_u8;
        if matches!(kind, Harm::TooLong) {
            64 << 20
        } else {
            4_000
        }
    ];
    let request = PushSnapshotsRequest {
        agent_id: [&number.to_be_bytes()[..], &[7; 12]].concat(),
        epoch: 1 + u64::from(number),
        seq: 1,
        snapshot_crc32c: crc32c::crc32c(&garbage) ^ u32::from(matches!(kind, Harm::Damaged)),
        snapshot: garbage,
        backlog: false,
    };
    let token: MetadataValue<_> = match kind {
        Harm::WrongToken => "Bearer none".parse()?,
        _ => format!("Bearer {token}").parse()?,
    };
    while Instant::now() < ends {
        let Ok(mut client) = IngestServiceClient::connect(server.clone()).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let sent = match kind {
            Harm::Silent => Vec::new(),
            _ => vec![request.clone(); 3],
        };
        let wait = tokio::time::sleep(Duration::from_secs(1));
        let messages = tokio_stream::StreamExt::chain(tokio_stream::iter(sent), tokio_stream::pending());
        let mut stream = Request::new(messages);
        stream.metadata_mut().insert("authorization", token.clone());
        let answer = async {
            let mut acks = client.push_snapshots(stream).await?.into_inner();
            while acks.message().await?.is_some() {}
            Ok::<_, tonic::Status>(())
        };
        tokio::select! {
            answer = answer => answers.extend(answer.err().map(|status| status.code())),
            () = wait => {}
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(answers)
}

fn honest(stack: &Stack) -> Result<Child> {
    Command::new(binary("procscope")?)
        .args(["--server", &stack.server(), "--token-file", &stack.path("token")])
        .args([
            "loadgen",
            "--agents",
            &HONEST.to_string(),
            "--for",
            "20s",
            "--json",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start procscope loadgen")
}

#[test]
fn of_two_hundred_agents_twenty_are_hostile_and_the_others_lose_nothing() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::new()?;
    stack.start_engine()?;
    stack.start_collector()?;
    let collector = stack.collector.as_ref().context("it runs")?.pid();
    let token = fs::read_to_string(stack.path("token"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut honest = honest(&stack)?;
    let ends = Instant::now() + Duration::from_secs(25);
    let server = stack.server();
    let hostile = std::thread::spawn(move || {
        runtime.block_on(async {
            let mut all = JoinSet::new();
            for number in 0..OF_A_KIND {
                for (kind, harms) in (0..).zip(HARMS) {
                    let number = kind * OF_A_KIND + number;
                    all.spawn(harm(harms, server.clone(), token.clone(), number, ends));
                }
            }
            let mut answers = Vec::new();
            while let Some(ended) = all.join_next().await {
                answers.extend(ended??);
            }
            anyhow::Ok(answers)
        })
    });
    let mut most_bytes = 0;
    while honest.try_wait()?.is_none() {
        most_bytes = most_bytes.max(status_bytes(collector, "VmRSS")?);
        rest();
    }
    let output = honest.wait_with_output()?;
    let answers = hostile
        .join()
        .map_err(|_panic| anyhow::anyhow!("the hostile ones broke off"))??;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{said}\n{}", stack.logs());
    let load: Value = serde_json::from_slice(&output.stdout)?;
    let figure = |name: &str| {
        load["loads"][0][name]
            .as_u64()
            .with_context(|| format!("{name} in {load}"))
    };
    println!(
        "{} snapshots, {} rows, stored after {} ms (half) and {} ms (99 of 100); the collector took {} MiB at most; \
         hostile agents were turned away {} times",
        figure("snapshots")?,
        figure("rows")?,
        figure("stored_after_us_p50")? / 1_000,
        figure("stored_after_us_p99")? / 1_000,
        most_bytes >> 20,
        answers.len()
    );
    ensure!(figure("snapshots_stored")? == figure("snapshots")?, "{load}");
    ensure!(
        most_bytes < COLLECTOR_BYTES_MAX,
        "the collector took {most_bytes} bytes"
    );
    for code in [Code::Unauthenticated, Code::InvalidArgument] {
        ensure!(
            answers.contains(&code),
            "nobody was answered {code:?}: {answers:?}"
        );
    }
    let stored: u64 = stack.sql_number("SELECT count() FROM host_samples WHERE startsWith(host, 'load-')")?;
    ensure!(stored == figure("snapshots")?, "{stored} of {load}");
    stack.check_stored_once()?;
    ensure!(stack.stop()? == [Some(0), Some(0)], "{}", stack.logs());
    Ok(())
}

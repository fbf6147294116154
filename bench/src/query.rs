//! `query`: how long questions take over a week of 100 machines, beside the same SQL sent to the engine directly.

use std::{net::SocketAddr, time::Instant};

use anyhow::{Context as _, Result, ensure};
use procscope_proto::v1::{
    GetProcessHistoryRequest, GroupBy, ListProcessExitsRequest, ListTopProcessesRequest, TimeRange,
    query_service_client::QueryServiceClient,
};
use prost_types::Timestamp;
use tonic::transport::Channel;

use crate::{
    fleet::{Fleet, MACHINES},
    http::{Client, Heard, Tap},
    readers::{self, Pages},
    report::{Verdict, median, percentile},
};

/// How often each question is asked, each time for a range that begins and ends a little earlier.
const ROUNDS: u32 = 7;
/// How much earlier, seconds: ranges begin and end within minutes.
const EARLIER: u32 = 7;
/// What a question may cost beside its own SQL.
const RATIO_MOST: f64 = 1.3;
/// Milliseconds that the top of a day over all machines may take.
const DAY_MOST: f64 = 150.0;

type Answers = QueryServiceClient<Channel>;

/// A question, but for its range.
struct Question {
    name: String,
    hours: u32,
    what: What,
}

enum What {
    Top(GroupBy, u32),
    History(String),
    Exits,
}

/// Milliseconds of each round.
#[derive(Default)]
struct Times {
    first: Vec<f64>,
    asked: Vec<f64>,
    direct: Vec<f64>,
    longest: Vec<f64>,
    statements: usize,
}

/// Asks all questions, and has readers ask some.
///
/// # Errors
/// When the fleet cannot be made, or an answer is none.
pub(crate) fn run() -> Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let fleet = Fleet::start(&runtime)?;
    let rows = fleet
        .stack
        .sql("SELECT table, sum(rows) FROM system.parts WHERE active AND database = 'procscope' GROUP BY table ORDER BY table")?;
    println!("rows stored:\n{rows}");
    let tap = Tap::start(fleet.engine())?;
    let (_direct, grpc, http) = fleet.collector("direct", fleet.engine())?;
    let (_tapped, tapped, _page) = fleet.collector("tapped", tap.address)?;
    let mut verdict = Verdict::default();
    runtime.block_on(async {
        let mut answers = connect(grpc).await?;
        let mut heard = connect(tapped).await?;
        println!(
            "{:<34} {:>8} {:>8} {:>8} {:>6} {:>9} {:>8}  ({ROUNDS} rounds, ms)",
            "question", "median", "p95", "its SQL", "ratio", "statements", "first"
        );
        for question in questions(&fleet)? {
            let times = match measure(&question, &fleet, &mut answers, &mut heard, &tap).await {
                Ok(times) => times,
                Err(error) => {
                    println!("{:<34} {error:#}", question.name);
                    verdict.exceeded.push(format!("{}: {error:#}", question.name));
                    continue;
                }
            };
            let ratios: Vec<f64> = times
                .asked
                .iter()
                .zip(&times.direct)
                .map(|(a, d)| a / d)
                .collect();
            let (middle, ratio) = (median(&times.asked), median(&ratios));
            println!(
                "{:<34} {:>8.1} {:>8.1} {:>8.1} {:>6.2} {:>4} {:>5.0} {:>8.1}",
                question.name,
                middle,
                percentile(&times.asked, 95),
                median(&times.direct),
                ratio,
                times.statements,
                median(&times.longest),
                median(&times.first),
            );
            verdict.at_most(
                &format!("{}, beside its SQL", question.name),
                ratio,
                RATIO_MOST,
                "times",
            );
            if question.hours == 24 && matches!(question.what, What::Top(_, MACHINES)) {
                verdict.at_most(&question.name, middle, DAY_MOST, "ms");
            }
        }
        for pages in [Pages::OfOneHour, Pages::OfTheLastHour] {
            readers::run(http, &fleet, pages, &mut verdict).await?;
        }
        anyhow::Ok(())
    })?;
    Ok(verdict)
}

async fn connect(to: SocketAddr) -> Result<Answers> {
    let channel = Channel::from_shared(format!("http://{to}"))?.connect().await;
    Ok(QueryServiceClient::new(channel.context("reach the collector")?))
}

fn questions(fleet: &Fleet) -> Result<Vec<Question>> {
    let mut questions = Vec::new();
    for (group_by, word) in [(GroupBy::Process, "processes"), (GroupBy::Command, "commands")] {
        for (hours, range) in [(1, "1 h"), (24, "24 h"), (168, "7 d")] {
            for machines in [1, 10, MACHINES] {
                questions.push(Question {
                    name: format!("top 10 {word}, {range}, {machines} hosts"),
                    hours,
                    what: What::Top(group_by, machines),
                });
            }
        }
    }
    let process = fleet.process()?;
    questions.push(Question {
        name: "history of one process, 24 h".to_owned(),
        hours: 24,
        what: What::History(process),
    });
    for hours in [1, 24] {
        questions.push(Question {
            name: format!("100 newest exits of {hours} h"),
            hours,
            what: What::Exits,
        });
    }
    Ok(questions)
}

async fn measure(
    question: &Question,
    fleet: &Fleet,
    answers: &mut Answers,
    heard: &mut Answers,
    tap: &Tap,
) -> Result<Times> {
    let mut times = Times::default();
    let client = Client::from(None);
    tap.take();
    for round in 0..ROUNDS {
        let end_s = fleet.end_s - 13 - round * EARLIER;
        times.first.push(ask(question, end_s, heard).await?);
        let statements = tap.take();
        times.statements = statements.len();
        // Neither is always the one that comes second.
        if round % 2 == 0 {
            times.asked.push(ask(question, end_s, answers).await?);
        }
        let (all, longest) = send(&client, &statements, fleet.engine()).await?;
        times.direct.push(all);
        times.longest.push(longest);
        if round % 2 == 1 {
            times.asked.push(ask(question, end_s, answers).await?);
        }
    }
    Ok(times)
}

/// Milliseconds of a question over gRPC.
async fn ask(question: &Question, end_s: u32, answers: &mut Answers) -> Result<f64> {
    let at = |seconds: u32| Timestamp {
        seconds: i64::from(seconds),
        nanos: 0,
    };
    let range = Some(TimeRange {
        start: Some(at(end_s - question.hours * 3_600)),
        end: Some(at(end_s)),
    });
    let started = Instant::now();
    let (rows, share) = match &question.what {
        What::Top(group_by, machines) => {
            // All are asked for as a person does: without naming them.
            let named = (0..*machines).filter(|_| *machines < MACHINES);
            let request = ListTopProcessesRequest {
                hosts: named.map(|machine| format!("bench-{machine:03}")).collect(),
                group_by: (*group_by).into(),
                range,
                ..ListTopProcessesRequest::default()
            };
            let answer = answers.list_top_processes(request).await?.into_inner();
            (answer.processes.len(), answer.coverage)
        }
        What::History(process_id) => {
            let request = GetProcessHistoryRequest {
                process_id: process_id.clone(),
                range,
                ..GetProcessHistoryRequest::default()
            };
            let answer = answers.get_process_history(request).await?.into_inner();
            (answer.points.len(), answer.coverage)
        }
        What::Exits => {
            let request = ListProcessExitsRequest {
                range,
                ..ListProcessExitsRequest::default()
            };
            let answer = answers.list_process_exits(request).await?.into_inner();
            (answer.exits.len(), answer.coverage)
        }
    };
    let ms = started.elapsed().as_secs_f64() * 1e3;
    let share = share.context("an answer says how much was seen")?.share;
    ensure!(
        rows >= 10 && share > 0.999,
        "{}: {rows} rows, {share} of the range seen",
        question.name
    );
    Ok(ms)
}

/// Milliseconds of all statements one after the other, and of the longest.
async fn send(client: &Client, statements: &[Heard], engine: SocketAddr) -> Result<(f64, f64)> {
    let (started, mut longest) = (Instant::now(), 0.0_f64);
    for statement in statements {
        let one = Instant::now();
        client.succeed(statement.to(engine)?).await?;
        longest = longest.max(one.elapsed().as_secs_f64() * 1e3);
    }
    Ok((started.elapsed().as_secs_f64() * 1e3, longest))
}

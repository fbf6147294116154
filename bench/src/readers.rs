//! 100 people who read over REST at once, each with an address of its own.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use axum::{body::Body, http::Request};
use tokio::task::JoinSet;

use crate::{
    fleet::Fleet,
    http::Client,
    report::{Verdict, float, median, percentile},
};

/// People.
const READERS: u8 = 100;
/// Each asks once in this time.
const PACE: Duration = Duration::from_secs(1);
/// Questions of each.
const TURNS: u32 = 30;

/// After this time nobody asks any more: where the machine does not keep up, questions would wait ever longer.
const LONGEST: Duration = Duration::from_secs(90);

/// What people look at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pages {
    /// The same hour each time, as of an incident.
    OfOneHour,
    /// The last hour, which ends a second later each time.
    OfTheLastHour,
}

impl Pages {
    fn end_s(self, newest_s: u32, turn: u32) -> u32 {
        match self {
            Self::OfOneHour => newest_s - 13,
            Self::OfTheLastHour => newest_s - 13 - TURNS + turn,
        }
    }
}

/// What one person heard: milliseconds of each answer, and what was no answer.
#[derive(Default)]
struct Heard {
    ms: Vec<f64>,
    refused: Vec<String>,
}

/// Asks, and prints what came of it.
///
/// # Errors
/// When somebody could not ask at all.
pub(crate) async fn run(
    collector: SocketAddr,
    fleet: &Fleet,
    pages: Pages,
    verdict: &mut Verdict,
) -> Result<()> {
    let process = fleet.process()?;
    let started = Instant::now();
    let mut readers = JoinSet::new();
    for reader in 0..READERS {
        let (process, end_s) = (process.clone(), fleet.end_s);
        readers.spawn(async move {
            let client = Client::from(Some(IpAddr::V4(Ipv4Addr::new(127, 0, 1, reader + 1))));
            let mut heard = Heard::default();
            for turn in 0..TURNS {
                // When it is due, whatever became of the one before: a late answer makes the next one late, too.
                let due = started + PACE * turn + PACE * u32::from(reader) / u32::from(READERS);
                tokio::time::sleep_until(due.into()).await;
                if started.elapsed() > LONGEST {
                    break;
                }
                let path = question(reader, turn, pages.end_s(end_s, turn), &process);
                let request = Request::get(format!("http://{collector}{path}")).body(Body::empty())?;
                let answer = client.send(request).await.context(path.clone())?;
                heard.ms.push(due.elapsed().as_secs_f64() * 1e3);
                if !answer.status().is_success() {
                    let said = String::from_utf8_lossy(answer.body());
                    heard.refused.push(format!("{path}: {} {said}", answer.status()));
                }
            }
            anyhow::Ok(heard)
        });
    }
    let mut all = Heard::default();
    while let Some(one) = readers.join_next().await {
        let one = one.context("a reader broke off")??;
        all.ms.extend(one.ms);
        all.refused.extend(one.refused);
    }
    println!(
        "REST, {READERS} readers {pages:?}, {:.0} answers/s of 100 asked for: {} answers, median {:.0} ms, p95 {:.0} ms, p99 {:.0} ms, {} refused",
        float(all.ms.len()) / started.elapsed().as_secs_f64(),
        all.ms.len(),
        median(&all.ms),
        percentile(&all.ms, 95),
        percentile(&all.ms, 99),
        all.refused.len()
    );
    if let Some(first) = all.refused.first() {
        println!("  {first}");
    }
    verdict.at_most("refused readers", float(all.refused.len()), 0.0, "answers");
    Ok(())
}

/// What a page and its reader ask for: mostly one machine, now and then all.
fn question(reader: u8, turn: u32, end_s: u32, process: &str) -> String {
    let range = format!("start={}&end={end_s}", end_s - 3_600);
    let host = format!("host=bench-{:03}", (u32::from(reader) + turn) % 100);
    match (u32::from(reader) + turn) % 10 {
        0..=3 => format!("/api/v1/processes/top?{range}&{host}"),
        4 => format!("/api/v1/processes/top?{range}"),
        5 | 6 => format!("/api/v1/processes/history?{range}&process_id={process}"),
        7 => format!("/api/v1/processes/exits?{range}&{host}&limit=20"),
        8 => format!("/api/v1/hosts?{range}"),
        _ => format!("/api/v1/audit?{range}&{host}"),
    }
}

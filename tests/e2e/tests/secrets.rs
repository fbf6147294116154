//! Secrets in arguments and environments: they leave the agent nowhere, neither to disk, wire, store, answers nor logs.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use procscope_agent::spool::segment::Reader;
use procscope_tests_e2e::{Proxy, Stack, alone, curl};
use procscope_tests_kernel::wait_until;

/// Stands beside every secret, so that where it is found the command line was, and where the secret is, it leaked.
const MARK: &str = "beside-the-secret";

/// Each way in which programs are given secrets. `{}` is the secret.
const WAYS: [&[&str]; 18] = [
    &["--password={}"],
    &["--api-key", "{}"],
    &["-u", "root:{}"],
    &["PGPASSWORD={}"],
    &["postgres://user:{}@db.example/app"],
    &["-H", "Authorization: Bearer {}"],
    &["--data", "{\"client_secret\": \"{}\"}"],
    &["https://example.org/?access_token={}"],
    &["-Dspring.datasource.password={}"],
    &["curl -u bob:{} http://example.org"],
    &["--proxy-user", "u:{}"],
    &["--user=u:{}"],
    &["-pw", "{}"],
    &["--bearer", "{}"],
    &["--key={}"],
    &["PASSWD", "{}"],
    &["set", "password", "{}"],
    &["--password\n{}"],
];

/// Programs that were given the secret in every way, and in their environment.
struct Keepers(Vec<Child>);

impl Keepers {
    /// `script`: what they do, in shell.
    fn start(secret: &str, script: &str) -> Result<Self> {
        let start = |way: &&[&str]| {
            Command::new("sh")
                .args(["-c", script, "sh", MARK])
                .args(way.iter().map(|argument| argument.replace("{}", secret)))
                .env("DATABASE_PASSWORD", secret)
                // Nobody ever answers.
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
        };
        Ok(Self(WAYS.iter().map(start).collect::<Result<_, _>>()?))
    }
}

impl Drop for Keepers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended by itself.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Everything below a folder: the bytes of the files, and the snapshots in segments of the spool.
fn contents(folder: &Path, bytes: &mut Vec<u8>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            contents(&path, bytes)?;
        } else if path.is_file() {
            let file = fs::read(&path)?;
            let epochs: std::collections::BTreeSet<u64> = (0..file.len())
                .filter_map(|at| Some(procscope_agent::spool::record::frame(&file[at..])?.header.epoch))
                .collect();
            for epoch in epochs {
                for (_header, snapshot) in Reader::new(file.clone(), epoch, 0) {
                    bytes.extend_from_slice(&snapshot);
                }
            }
            bytes.extend_from_slice(&file);
        }
    }
    Ok(())
}

/// The command lines are there, the secret is not.
fn check(place: &str, bytes: &[u8], secret: &str) -> Result<()> {
    let has = |what: &str| bytes.windows(what.len()).any(|window| window == what.as_bytes());
    ensure!(
        has(MARK),
        "{place}: no command line at all in {} bytes",
        bytes.len()
    );
    check_none(place, bytes, secret)
}

fn check_none(place: &str, bytes: &[u8], secret: &str) -> Result<()> {
    let at = bytes
        .windows(secret.len())
        .position(|window| window == secret.as_bytes());
    if let Some(at) = at {
        let around = &bytes[at.saturating_sub(120)..bytes.len().min(at + secret.len() + 40)];
        anyhow::bail!("{place}: {:?}", String::from_utf8_lossy(around));
    }
    Ok(())
}

#[test]
fn a_secret_in_arguments_or_environment_is_nowhere() -> Result<()> {
    let _alone = alone();
    // A word as people choose them: no long run of digits, which would be hidden for its length alone.
    let secret = format!("canary-Wq{}", std::process::id());
    let mut stack = Stack::new()?;
    let wire = Proxy::start("127.0.0.1:0", &stack.grpc())?;
    stack.uplink = Some(format!("http://{}", wire.address()));
    // Some are there before the agent, some come while it runs, some live for less than an interval.
    let _before = Keepers::start(&secret, "read answer")?;
    stack.start_agent_with(&["--interval", "200ms"])?;
    let intervals = |stack: &Stack| stack.agent_figure("procscope_agent_intervals_total");
    wait_until("it measures", 60, || intervals(&stack) > 0)?;
    let _after = Keepers::start(&secret, "read answer")?;
    for mut short in Keepers::start(&secret, ":")?.0.drain(..) {
        short.wait()?;
    }
    let seen = intervals(&stack);
    wait_until("some intervals are spooled", 60, || intervals(&stack) > seen + 5)
        .with_context(|| stack.logs())?;
    let mut spool = Vec::new();
    contents(Path::new(&stack.path("agent")), &mut spool)?;
    check("the spool", &spool, &secret)?;

    stack.start_engine()?;
    stack.start_collector()?;
    stack.wait_for_intervals(seen + 10)?;
    check("the wire", &wire.heard(), &secret)?;
    for table in stack
        .sql("SELECT name FROM system.tables WHERE database = 'procscope' AND engine NOT LIKE '%View'")?
        .lines()
    {
        let rows = stack.sql(&format!("SELECT * FROM {table} FORMAT TSV"))?;
        match table {
            "processes" => check(table, rows.as_bytes(), &secret)?,
            _ => check_none(table, rows.as_bytes(), &secret)?,
        }
    }
    for question in [
        "top --once --limit 1000",
        "exits --limit 10000",
        "groups sh",
        "audit",
    ] {
        for form in ["--json", "--csv"] {
            let answer = stack.cli(&format!("{question} {form}"))?;
            ensure!(answer.status.success(), "{question}: {answer:?}");
            check_none(question, &answer.stdout, &secret)?;
        }
    }
    check_none(
        "the collector's page",
        curl(&[&stack.http()])?.as_bytes(),
        &secret,
    )?;
    stack.stop()?;
    for part in ["agent", "collector", "engine"] {
        check_none(part, &fs::read(stack.path(&format!("{part}.log")))?, &secret)?;
    }
    Ok(())
}

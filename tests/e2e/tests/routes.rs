//! One dataset, every route: the same question by gRPC, REST, the client, exports, SQL and live streams has one answer.

#[path = "routes/live.rs"]
mod live;
#[path = "routes/told.rs"]
mod told;
#[path = "routes/views.rs"]
mod views;

use std::{fmt::Write as _, fs};

use anyhow::{Context as _, Result, ensure};
use procscope_proto::v1::{
    GetAuditRequest, GetProcessHistoryRequest, GroupBy, ListGroupsRequest, ListHostsRequest,
    ListProcessExitsRequest, ListTopProcessesRequest, Metric, TimeRange,
    query_service_client::QueryServiceClient,
};
use procscope_tests_e2e::{Stack, alone, binary, curl};
use procscope_tests_kernel::Program;
use serde::Serialize;
use serde_json::{Value, json};

use self::told::{Fields, flat, same, told};

/// A question on its routes, and what gRPC answers.
struct Asked {
    /// As an export names it.
    what: &'static str,
    /// Path and parameters of REST, without the range.
    rest: String,
    /// Parameters of the export that REST has, too.
    parameters: String,
    /// Command and arguments of the client, without the range.
    command: String,
    /// The name of the rows.
    rows: &'static str,
    /// Of gRPC: rows under that name, and what is said of all of them.
    grpc: Value,
}

impl Asked {
    fn new(
        what: &'static str,
        rest: &str,
        parameters: &str,
        command: &str,
        rows: &'static str,
        grpc: Value,
    ) -> Self {
        Self {
            what,
            rest: format!("{rest}?{parameters}"),
            parameters: parameters.to_owned(),
            command: command.to_owned(),
            rows,
            grpc,
        }
    }
}

/// The range of everything, in the form of each route.
struct Covered {
    start_ms: i64,
    end_ms: i64,
}

impl Covered {
    fn wire(&self) -> TimeRange {
        let side = |ms: i64| prost_types::Timestamp {
            seconds: ms.div_euclid(1_000),
            nanos: i32::try_from(ms.rem_euclid(1_000)).unwrap_or(0) * 1_000_000,
        };
        TimeRange {
            start: Some(side(self.start_ms)),
            end: Some(side(self.end_ms)),
        }
    }

    fn text(ms: i64) -> Result<String> {
        Ok(jiff::Timestamp::from_millisecond(ms)?.to_string())
    }

    fn rest(&self) -> Result<String> {
        Ok(format!(
            "start={}&end={}",
            Self::text(self.start_ms)?,
            Self::text(self.end_ms)?
        ))
    }

    fn sql(&self) -> String {
        format!(
            "start = fromUnixTimestamp64Milli({}), end = fromUnixTimestamp64Milli({})",
            self.start_ms, self.end_ms
        )
    }

    fn client(&self) -> Result<String> {
        Ok(format!(
            "--since {} --until {} --limit 1000",
            Self::text(self.start_ms)?,
            Self::text(self.end_ms)?
        ))
    }

    /// What gRPC answered, with the range it has to cover.
    fn answer(&self, range: Option<TimeRange>, coverage: &impl Serialize, rest: Value) -> Result<Value> {
        ensure!(range == Some(self.wire()), "{range:?} is not what was asked for");
        let mut answer = json!({
            "start": Self::text(self.start_ms)?,
            "end": Self::text(self.end_ms)?,
            "coverage": coverage,
        });
        let (Some(all), Value::Object(rest)) = (answer.as_object_mut(), rest) else {
            anyhow::bail!("no object");
        };
        all.extend(rest);
        Ok(answer)
    }
}

/// Who is asked about: one process, its host and its name.
struct Subject {
    host: String,
    name: String,
    process_id: String,
}

type Client = QueryServiceClient<tonic::transport::Channel>;

/// What gRPC answers to each question.
async fn ask(server: &str, covered: &Covered, subject: &Subject) -> Result<Vec<Asked>> {
    let mut client = QueryServiceClient::connect(server.to_owned()).await?;
    let mut asked = tops(&mut client, covered).await?;
    asked.extend(histories(&mut client, covered, subject).await?);
    asked.extend(lists(&mut client, covered).await?);
    Ok(asked)
}

/// By process first, then by command.
async fn tops(client: &mut Client, covered: &Covered) -> Result<Vec<Asked>> {
    let range = Some(covered.wire());
    let mut asked = Vec::new();
    for (by, by_word, metric, metric_word, sort) in [
        (GroupBy::Process, "process", Metric::Cpu, "cpu", "cpu"),
        (GroupBy::Command, "command", Metric::Memory, "memory", "memory"),
        (GroupBy::User, "user", Metric::Switches, "switches", "switches"),
        (GroupBy::Host, "host", Metric::PeakMemory, "peak_memory", "peak"),
    ] {
        let request = ListTopProcessesRequest {
            range,
            metric: metric.into(),
            group_by: by.into(),
            limit: 1_000,
            ..Default::default()
        };
        let top = client.list_top_processes(request).await?.into_inner();
        asked.push(Asked::new(
            "top",
            "processes/top",
            &format!("metric={metric_word}&group_by={by_word}&limit=1000"),
            &format!("top --once --by {by_word} --sort {sort}"),
            "processes",
            covered.answer(top.range, &top.coverage, json!({ "processes": top.processes }))?,
        ));
    }
    Ok(asked)
}

/// Of a process, and of a name on a host.
async fn histories(client: &mut Client, covered: &Covered, subject: &Subject) -> Result<Vec<Asked>> {
    let range = Some(covered.wire());
    let mut asked = Vec::new();
    let (host, name, id) = (&subject.host, &subject.name, &subject.process_id);
    for (parameters, arguments, step_ms, of) in [
        (
            format!("process_id={id}&step=1s"),
            format!("--process-id {id} --step 1s"),
            1_000,
            true,
        ),
        (
            format!("host={host}&name={name}&step=3s"),
            format!("{name} --host {host} --step 3s"),
            3_000,
            false,
        ),
    ] {
        let request = GetProcessHistoryRequest {
            process_id: if of { id.clone() } else { String::new() },
            host: if of { String::new() } else { host.clone() },
            name: if of { String::new() } else { name.clone() },
            range,
            step_ms,
        };
        let history = client.get_process_history(request).await?.into_inner();
        asked.push(Asked::new(
            "history",
            "processes/history",
            &parameters,
            &format!("history {arguments}"),
            "points",
            covered.answer(
                history.range,
                &history.coverage,
                json!({
                    "points": history.points,
                    "process": history.process,
                    "step_ms": history.step_ms,
                }),
            )?,
        ));
    }
    Ok(asked)
}

async fn lists(client: &mut Client, covered: &Covered) -> Result<Vec<Asked>> {
    let range = Some(covered.wire());
    let mut asked = Vec::new();
    let request = ListGroupsRequest {
        base: "procscope".to_owned(),
        range,
        limit: 1_000,
        ..Default::default()
    };
    let groups = client.list_groups(request).await?.into_inner();
    let told = json!({
        "members": groups.members,
        "total": groups.total,
        "avg_cpu_percent_per_process": groups.avg_cpu_percent_per_process,
        "avg_memory_mb_per_process": groups.avg_memory_mb_per_process,
    });
    asked.push(Asked::new(
        "groups",
        "processes/groups",
        "base=procscope&limit=1000",
        "groups procscope",
        "members",
        covered.answer(groups.range, &groups.coverage, told)?,
    ));
    let request = ListProcessExitsRequest {
        range,
        page_size: 1_000,
        ..Default::default()
    };
    let exits = client.list_process_exits(request).await?.into_inner();
    let told = json!({ "exits": exits.exits, "total": exits.total });
    asked.push(Asked::new(
        "exits",
        "processes/exits",
        "limit=1000",
        "exits",
        "exits",
        covered.answer(exits.range, &exits.coverage, told)?,
    ));
    let hosts = client.list_hosts(ListHostsRequest { range }).await?.into_inner();
    // Each has a coverage of its own.
    let told = json!({ "hosts": hosts.hosts });
    asked.push(Asked::new(
        "hosts",
        "hosts",
        "",
        "hosts",
        "hosts",
        covered.answer(hosts.range, &(), told)?,
    ));
    let request = GetAuditRequest {
        range,
        ..Default::default()
    };
    let audit = client.get_audit(request).await?.into_inner();
    let told = json!({ "rows": audit.rows });
    asked.push(Asked::new(
        "audit",
        "audit",
        "",
        "audit",
        "rows",
        covered.answer(audit.range, &audit.coverage, told)?,
    ));
    Ok(asked)
}

/// The rows of an answer, and what is said of all of them.
fn parts(answer: &Value, rows: &str) -> Result<(Vec<Fields>, Fields)> {
    let listed = answer[rows]
        .as_array()
        .with_context(|| format!("{rows} in {answer}"))?;
    let mut head = answer.clone();
    if let Some(head) = head.as_object_mut() {
        head.remove(rows);
    }
    Ok((listed.iter().map(flat).collect(), flat(&head)))
}

/// JSON of REST and of the client: the same fields with the same values, and none more.
fn check_json(asked: &Asked, route: &str, answer: &Value) -> Result<()> {
    let (expected, head) = parts(&asked.grpc, asked.rows)?;
    let (mut rows, about) = parts(answer, asked.rows)?;
    for row in &mut rows {
        // What the client says in percent, too.
        row.remove("kernel_percent");
    }
    ensure!(!expected.is_empty(), "{route}: nothing to compare");
    ensure!(
        rows.len() == expected.len(),
        "{route}: {} rows, not {}",
        rows.len(),
        expected.len()
    );
    for (row, expected) in rows.iter().zip(&expected) {
        same(expected, row).with_context(|| format!("{route}: {row:?}"))?;
    }
    for (name, value) in &head {
        // Of whom a history is stands within in REST, and beside the rest in the client.
        let within = about.get(name);
        let known = within.or_else(|| about.get(name.strip_prefix("process_")?));
        ensure!(known == Some(value), "{route}: {name} is {known:?}, not {value}");
    }
    Ok(())
}

/// A table, its cells as they came: each column of it has the values that gRPC tells, and no value is left out.
fn check_table(
    asked: &Asked,
    route: &str,
    table: &[Fields],
    names: Option<&csv::StringRecord>,
) -> Result<()> {
    let (expected, head) = parts(&asked.grpc, asked.rows)?;
    ensure!(
        table.len() == expected.len(),
        "{route}: {} rows, not {}",
        table.len(),
        expected.len()
    );
    for (row, expected) in table.iter().zip(&expected) {
        for (name, cell) in row.iter().filter(|(name, _)| *name != "kernel_percent") {
            let within = || head.get(&format!("process_{name}"));
            let known = expected.get(name).or_else(|| head.get(name)).or_else(within);
            // Words of the question are told back.
            let back = |text: &str| asked.parameters.contains(&format!("{name}={text}"));
            if known.is_none() && cell.as_str().is_some_and(back) {
                continue;
            }
            ensure!(told(known, cell), "{route}: {name} is {cell}, not {known:?}");
        }
        for (name, value) in expected {
            let there = names.map_or(row.contains_key(name), |names| {
                names.iter().any(|known| known == name)
            });
            ensure!(there, "{route}: {name} = {value} has no column");
        }
    }
    Ok(())
}

/// Rows of CSV, each with the names of its columns.
fn table(text: &str) -> Result<(csv::StringRecord, Vec<Fields>)> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let names = reader.headers()?.clone();
    let rows = reader.records().map(|record| {
        let record = record?;
        let cells = record.iter().map(|cell| Value::String(cell.to_owned()));
        Ok(names.iter().map(str::to_owned).zip(cells).collect())
    });
    let rows = rows.collect::<Result<_>>()?;
    Ok((names, rows))
}

/// REST, the client's two forms and both kinds of files.
fn check_routes(stack: &Stack, covered: &Covered, asked: &Asked) -> Result<()> {
    let range = covered.rest()?;
    let (http, what) = (stack.http(), asked.what);
    let rest = curl(&[&format!("{http}/api/v1/{}&{range}", asked.rest)])?;
    check_json(
        asked,
        &format!("REST {}", asked.rest),
        &serde_json::from_str(&rest)?,
    )?;
    let command = format!("{} {}", asked.command, covered.client()?);
    check_json(
        asked,
        &format!("procscope {command} --json"),
        &stack.json(&command)?,
    )?;
    let output = stack.cli(&format!("{command} --csv"))?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (names, rows) = table(&String::from_utf8(output.stdout)?)?;
    check_table(asked, &format!("procscope {command} --csv"), &rows, Some(&names))?;

    // All exits are exported, whatever their number.
    let parameters = if what == "exits" { "" } else { &asked.parameters };
    let export = format!("{http}/api/v1/export?what={what}&{parameters}&{range}");
    let (names, rows) = table(&curl(&[&format!("{export}&format=csv")])?)?;
    check_table(asked, &format!("{what} as CSV"), &rows, Some(&names))?;
    let file = stack.path("exported.parquet");
    curl(&["--output", &file, &format!("{export}&format=parquet")])?;
    let mut bytes = String::new();
    for byte in fs::read(&file)? {
        write!(bytes, "{byte:02x}")?;
    }
    let rows = stack.rows(&format!("SELECT * FROM format(Parquet, unhex('{bytes}'))"))?;
    let rows: Vec<Fields> = rows.iter().map(told::columns).collect();
    check_table(asked, &format!("{what} as Parquet"), &rows, None)
}

#[test]
fn one_dataset_has_the_same_numbers_on_every_route() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::start()?;
    let kernel = binary("procscope-tests-kernel")?.display().to_string();
    let burner = Program::start(&kernel, "burn 60000 1")?;
    let mut short = Program::start(&kernel, "spawn 40 /bin/true")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // While rows still come: each event is what the same range answers.
    stack.wait_for_intervals(4)?;
    live::check(&stack, &runtime)?;
    short.hear("children_cpu_ns")?;
    let stored = stack.stored();
    stack.wait_for_intervals(stored + 4)?;

    // What is asked from here on is stored, and nothing more comes.
    let agent = stack.agent.take().context("it runs")?;
    ensure!(agent.end(libc::SIGTERM)? == Some(0), "{}", stack.logs());
    let number = |what: &str| {
        stack.sql_number::<i64>(&format!(
            "SELECT toUnixTimestamp64Milli({what}) FROM host_samples"
        ))
    };
    let covered = Covered {
        start_ms: number("arraySort(groupArray(time))[2]")?,
        end_ms: number("max(time)")?,
    };
    let text = |what: &str| {
        stack.sql(&format!(
            "SELECT toString(any({what})) FROM process_samples WHERE pid = {}",
            burner.pid()
        ))
    };
    let subject = Subject {
        host: text("host")?,
        name: text("name")?,
        process_id: text("process_id")?,
    };
    let asked = runtime.block_on(ask(&stack.server(), &covered, &subject))?;
    for asked in &asked {
        check_routes(&stack, &covered, asked).with_context(|| asked.rest.clone())?;
    }
    views::check(&stack, &covered, &subject, &asked)?;
    ensure!(stack.stop()? == [Some(0), Some(0)], "{}", stack.logs());
    Ok(())
}

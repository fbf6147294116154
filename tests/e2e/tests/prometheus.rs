//! Prometheus as Debian packages it: its checker is silent about our pages, its server scrapes them and evaluates a
//! recording rule of process-exporter's users.

use std::{
    fs,
    io::Write as _,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use procscope_tests_e2e::{Stack, alone, binary, curl, free_port};
use procscope_tests_kernel::{Program, wait_until};
use serde_json::Value;

/// What `promtool check metrics` has to say of a page.
fn check(url: &str) -> Result<String> {
    let page = curl(&[url])?;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run promtool: `cargo xtask setup` installs it")?;
    promtool
        .stdin
        .take()
        .context("its input")?
        .write_all(page.as_bytes())?;
    let output = promtool.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(output.status.success(), "{url}: {said}");
    Ok(said)
}

/// The server, until it is no longer needed.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn prometheus_scrapes_all_pages_and_evaluates_a_rule() -> Result<()> {
    let _alone = alone();
    let stack = Stack::start()?;
    let burns = binary("procscope-tests-kernel")?;
    let program = Program::start(&burns.display().to_string(), "burn 60000 1")?;
    let pages = [
        ("collector", format!("{}/metrics", stack.http())),
        ("processes", format!("{}/metrics/processes", stack.http())),
        ("agent", stack.agent_page()),
    ];
    for (name, url) in &pages {
        let said = check(url)?;
        ensure!(said.is_empty(), "promtool of {name}: {said}");
    }
    let jobs = pages.iter().map(|(name, url)| {
        let (_, rest) = url.split_once("://").unwrap_or(("", url));
        let (target, path) = rest.split_once('/').unwrap_or((rest, ""));
        format!(
            "  - {{job_name: {name}, metrics_path: /{path}, static_configs: [{{targets: [\"{target}\"]}}]}}\n"
        )
    });
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [\"{}\"]\nscrape_configs:\n{}",
        stack.path("rules.yml"),
        jobs.collect::<String>()
    );
    fs::write(stack.path("prometheus.yml"), config)?;
    fs::write(
        stack.path("rules.yml"),
        "groups: [{name: processes, rules: [{record: \"groupname:cpu:rate10s\", expr: 'sum by (groupname) \
         (rate(namedprocess_namegroup_cpu_seconds_total[10s]))'}]}]\n",
    )?;
    let port = free_port()?;
    let arguments = [
        format!("--config.file={}", stack.path("prometheus.yml")),
        format!("--storage.tsdb.path={}", stack.path("prometheus")),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let log = fs::File::create(stack.path("prometheus.log"))?;
    let server = Command::new("prometheus")
        .args(arguments)
        .stderr(log)
        .spawn()
        .context("run prometheus: `cargo xtask setup` installs it")?;
    let _server = Server(server);
    let ask = |query: &str| -> Result<Value> {
        let query = format!("query={query}");
        let url = format!("http://127.0.0.1:{port}/api/v1/query");
        let text = curl(&["--data-urlencode", &query, &url])?;
        Ok(serde_json::from_str::<Value>(&text)?["data"]["result"].clone())
    };
    let figure = |result: &Value| {
        result[0]["value"][1]
            .as_str()
            .and_then(|text| text.parse::<f64>().ok())
    };
    wait_until("the rule says that a CPU burns", 40, || {
        let name = "groupname:cpu:rate10s{groupname=\"procscope-tests-kernel\"}";
        ask(name).is_ok_and(|result| figure(&result).is_some_and(|cpus| (0.3..1.2).contains(&cpus)))
    })
    .with_context(|| format!("{:?}", ask("groupname:cpu:rate10s")))?;
    let up = ask("sum(up)")?;
    ensure!(figure(&up) == Some(3.0), "{up}");
    drop(program);
    Ok(())
}

//! `cargo xtask run`: engine, collector and agent on this machine, until the first answer and on to a clean stop.

mod parts;
mod secrets;
mod show;

use std::{
    io::{ErrorKind, IsTerminal as _, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::{parts::Parts, show::Question};
use crate::{
    WrongUsage,
    duration::parse_duration,
    place::{Place, user_folder},
    setup,
    shell::{cargo, last_lines, run as run_command, words},
};

/// Time for a part to listen. The engine opens a library of half a gigabyte, and an old data folder takes longer.
const LISTEN_TIME: Duration = Duration::from_mins(1);
/// Time from the agent's start to the first row that a query finds; measured at 3 s.
const ANSWER_TIME: Duration = Duration::from_mins(1);
/// Complete intervals that `--once` shows.
const INTERVALS_SHOWN: u32 = 5;

/// The engine's user that may only read, for dashboards.
const READER: &str = "reader";

/// Options of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Print the top table once, over a few complete intervals, and stop
    #[arg(long)]
    once: bool,
    /// With --once: the table as JSON on stdout, and nothing else there
    #[arg(long, requires = "once")]
    json: bool,
    /// Stop after this time, such as 60s
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    limit: Option<Duration>,
    /// Log lines instead of the live top; so it is when the output is no terminal
    #[arg(long)]
    no_tui: bool,
    /// Where data, secrets and logs are kept [default: procscope/run in the user's data folder]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Port of the engine's ClickHouse HTTP interface
    #[arg(long, value_name = "PORT", default_value_t = 8123)]
    engine_port: u16,
    /// Port of the collector's gRPC interface
    #[arg(long, value_name = "PORT", default_value_t = 7400)]
    grpc_port: u16,
    /// Port of the collector's HTTP interface and dashboard
    #[arg(long, value_name = "PORT", default_value_t = 7401)]
    http_port: u16,
    /// A ClickHouse server to use instead of an engine of our own
    #[arg(long, value_name = "URL", requires = "store_password_file")]
    store_url: Option<String>,
    /// User of that server
    #[arg(long, value_name = "NAME", default_value = "procscope")]
    store_user: String,
    /// File with the password of that user, mode 0600
    #[arg(long, value_name = "FILE", requires = "store_url")]
    store_password_file: Option<PathBuf>,
}

/// Builds the default members of the workspace.
///
/// # Errors
/// What cargo said.
pub(crate) fn build(place: &Place, release: bool) -> Result<()> {
    let mut build = cargo();
    build
        .arg("build")
        .args(release.then_some("--release"))
        .current_dir(&place.root);
    run_command(&mut build)
}

/// Sets up, builds, starts, shows and stops.
///
/// # Errors
/// One line: what is missing or taken before the start, or what stopped by itself after it.
pub(crate) fn run(place: &Place, args: &RunArgs) -> Result<()> {
    check_options(args)?;
    let ready = setup::run(place, false)?;
    build(place, false)?;
    check_agent(&place.programs)?;
    check_ports(args)?;
    let data = match &args.data_dir {
        Some(folder) => std::path::absolute(folder).context("find the data folder")?,
        None => user_folder("XDG_DATA_HOME", ".local/share")?.join("procscope/run"),
    };
    secrets::private_folder(&data)?;

    // From here on Ctrl-C means: stop all of it, in order.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("catch Ctrl-C")?;
    }
    let mut parts = Parts::new(&data.join("logs"), stop)?;
    let outcome = start_and_show(place, args, &data, &ready.library, &mut parts);
    if outcome.is_err() {
        // What waits for a part that is gone takes seconds to stop; why comes with the last line.
        eprintln!("xtask: stopping the other parts");
    }
    let stopped = parts.stop();
    outcome.and(stopped)
}

fn start_and_show(
    place: &Place,
    args: &RunArgs,
    data: &Path,
    library: &Path,
    parts: &mut Parts,
) -> Result<()> {
    let start = Instant::now();
    let deadline = args.limit.map(|limit| start + limit);
    let token = secrets::secret(&data.join("ingest.token"))?;
    let (store_url, password) = if let (Some(url), Some(file)) = (&args.store_url, &args.store_password_file)
    {
        (url.clone(), file.clone())
    } else {
        let password = secrets::secret(&data.join("engine.password"))?;
        let mut engine = Command::new(place.programs.join("procscope-engine"));
        engine
            .arg("--data-dir")
            .arg(data.join("engine"))
            .arg("--listen")
            .arg(loopback(args.engine_port));
        engine
            .arg("--library")
            .arg(library)
            .args(["--user", &args.store_user]);
        let reader_password = secrets::secret(&data.join("reader.password"))?;
        engine
            .arg("--password-file")
            .arg(&password)
            .args(["--reader", READER, "--reader-password-file"])
            .arg(&reader_password)
            .arg("--die-with-parent");
        parts.start("engine", engine)?;
        wait_for_port(parts, "engine", args.engine_port)?;
        (format!("http://{}", loopback(args.engine_port)), password)
    };

    let mut collector = Command::new(place.programs.join("procscope-collector"));
    collector.arg("run").arg("--listen").arg(loopback(args.grpc_port));
    collector.arg("--http-listen").arg(loopback(args.http_port));
    collector.args(["--store-url", &store_url, "--store-user", &args.store_user]);
    collector.arg("--store-password-file").arg(&password);
    collector.arg("--state-dir").arg(data.join("collector"));
    collector
        .arg("--ingest-token-file")
        .arg(&token)
        .arg("--die-with-parent");
    parts.start("collector", collector)?;
    wait_for_port(parts, "collector", args.grpc_port)?;
    let http = loopback(args.http_port);
    parts.wait("the collector to have its tables", LISTEN_TIME, || {
        says_yes(&http, "/readyz")
    })?;

    let server = format!("http://{}", loopback(args.grpc_port));
    let mut agent = Command::new(place.programs.join("procscope-agent"));
    agent
        .args(["run", "--collector", &server])
        .arg("--token-file")
        .arg(&token);
    agent
        .arg("--state-dir")
        .arg(data.join("agent"))
        .arg("--die-with-parent");
    parts.start("agent", agent)?;

    let question = Question::since_now(place.programs.join("procscope"), server);
    parts.wait("the first answer from ClickHouse", ANSWER_TIME, || {
        question.observed_seconds() > 0.0
    })?;
    eprintln!(
        "first answer after {:.1} s; logs are in {}",
        start.elapsed().as_secs_f64(),
        parts.logs().display()
    );
    if args.once {
        let wanted = f64::from(INTERVALS_SHOWN) - 0.5;
        let what = format!("{INTERVALS_SHOWN} complete intervals");
        parts.wait(&what, ANSWER_TIME, || question.observed_seconds() >= wanted)?;
        return question.print_table(INTERVALS_SHOWN, args.json);
    }
    println!("dashboard: http://{http}/");
    println!("questions: {}", question.example());
    if args.no_tui || !std::io::stdout().is_terminal() {
        show::logs(parts, deadline)
    } else {
        question.live(parts, deadline)
    }
}

fn loopback(port: u16) -> String {
    format!("{}:{port}", Ipv4Addr::LOCALHOST)
}

/// Asks the agent whether it can run with this kernel and these privileges.
fn check_agent(programs: &Path) -> Result<()> {
    let mut check = Command::new(programs.join("procscope-agent"));
    check.arg("check");
    let output = check
        .output()
        .with_context(|| format!("start `{}`", words(&check)))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let missing: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("missing"))
        .map(str::trim)
        .collect();
    let why = if missing.is_empty() {
        last_lines(&said, 1).concat()
    } else {
        missing.join("; ")
    };
    bail!(
        "the agent cannot run here ({why}): run this as root, or see all of `{}`",
        words(&check)
    )
}

/// Refuses ports that cannot be, before anything is set up or built.
fn check_options(args: &RunArgs) -> Result<(), WrongUsage> {
    let mut ports = vec![("--grpc-port", args.grpc_port), ("--http-port", args.http_port)];
    if args.store_url.is_none() {
        ports.insert(0, ("--engine-port", args.engine_port));
    }
    while let Some((option, port)) = ports.pop() {
        if port == 0 {
            return Err(WrongUsage(format!(
                "{option} 0 means any port, and the other parts have to find this one: choose a port"
            )));
        }
        if let Some((other, _)) = ports.iter().find(|(_, taken)| *taken == port) {
            return Err(WrongUsage(format!(
                "{other} and {option} are both {port}: give each a port of its own"
            )));
        }
    }
    Ok(())
}

/// Says which port is taken, before anything is started.
fn check_ports(args: &RunArgs) -> Result<()> {
    let ours = "stop the program that has it (perhaps another `cargo xtask run`) or choose another";
    if args.store_url.is_none() {
        let use_it = format!(
            "if that is a ClickHouse of yours, use it with --store-url http://{} --store-user NAME \
             --store-password-file FILE, or choose another",
            loopback(args.engine_port)
        );
        check_port(args.engine_port, "engine", &use_it, "--engine-port")?;
    }
    check_port(args.grpc_port, "collector", ours, "--grpc-port")?;
    check_port(args.http_port, "dashboard", ours, "--http-port")
}

fn check_port(port: u16, user: &str, remedy: &str, option: &str) -> Result<()> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_free) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            bail!("port {port} for the {user} is taken: {remedy} port with {option}")
        }
        Err(error) => {
            bail!("port {port} for the {user} cannot be used ({error}): choose another with {option}")
        }
    }
}

/// Waits until a part that was started listens.
fn wait_for_port(parts: &mut Parts, who: &str, port: u16) -> Result<()> {
    parts.wait(
        &format!("the {who} to listen on port {port}"),
        LISTEN_TIME,
        || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok(),
    )
}

/// Whether an HTTP server answers a GET with 200.
fn says_yes(address: &str, path: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn only_200_is_a_yes() {
        let check = |status: &'static str, yes: bool| {
            let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = server.local_addr().unwrap().to_string();
            let answer = thread::spawn(move || {
                let (mut stream, _) = server.accept().unwrap();
                assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
                write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
            });
            assert_eq!(says_yes(&address, "/readyz"), yes, "{status}");
            answer.join().unwrap();
        };
        check("200 OK", true);
        check("503 Service Unavailable", false);
    }

    #[test]
    fn ports_that_cannot_be_are_refused_before_anything_starts() {
        #[derive(clap::Parser)]
        struct Run {
            #[command(flatten)]
            args: RunArgs,
        }
        let check = |options: &str, said: Option<&str>| {
            let words = ["run"].into_iter().chain(options.split_whitespace());
            let args = <Run as clap::Parser>::try_parse_from(words).unwrap().args;
            let line = check_options(&args).err().map(|wrong| wrong.to_string());
            assert_eq!(line.as_deref(), said, "{options}");
        };
        check("", None);
        check(
            "--grpc-port 7000 --http-port 7000",
            Some("--grpc-port and --http-port are both 7000: give each a port of its own"),
        );
        check(
            "--grpc-port 8123",
            Some("--engine-port and --grpc-port are both 8123: give each a port of its own"),
        );
        check(
            "--http-port 0",
            Some("--http-port 0 means any port, and the other parts have to find this one: choose a port"),
        );
        check(
            "--grpc-port 8123 --store-url http://127.0.0.1:8123 --store-password-file f",
            None,
        );
    }

    #[test]
    fn a_port_that_is_taken_is_named_with_its_remedy() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let line = check_port(port, "engine", "stop it or choose another", "--engine-port")
            .unwrap_err()
            .to_string();
        assert!(
            line.contains(&port.to_string()) && line.contains("--engine-port"),
            "{line}"
        );
        drop(taken);
        check_port(port, "engine", "", "--engine-port").unwrap();
    }
}

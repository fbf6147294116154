//! A fleet that does not exist, in a store that does: a week of 100 machines, with minutes and hours as a collector
//! computes them. Made once and kept beside the program, because it takes minutes.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use procscope_tests_e2e::{Part, Stack, binary, free_port};
use tokio::runtime::Runtime;

use crate::{
    http::Client,
    report::float,
    store::{Statement, settle},
    used::{cpu_seconds, now_s},
};

/// Machines.
pub(crate) const MACHINES: u32 = 100;
/// Processes of each, of which a tenth live a minute.
pub(crate) const PROCESSES: u32 = 50;
/// What a range of a week needs, and an hour for ranges that begin earlier.
const SECONDS: u32 = 7 * 86_400 + 3_600;
/// Of them, so many at the end are measured each second, as an agent does. A whole week of it would be 3 billion rows.
const FINE_SECONDS: u32 = 3_900;
/// Before that, one interval is so long.
const COARSE_STEP: u32 = 60;
/// Seconds that one statement makes.
const CHUNK: u32 = 4 * 3_600;
const FINE_CHUNK: u32 = 300;
/// How long a fleet is used again: the last questions are about its end.
const KEPT: Duration = Duration::from_hours(48);
/// How long the collector may take to compute minutes and hours.
const ROLLUP_MAX: Duration = Duration::from_hours(1);

/// How often a wait tells how far it is.
const TELL: Duration = Duration::from_secs(20);

/// In the order in which they are written.
const TABLES: [(&str, &str); 4] = [
    ("process_samples", include_str!("../queries/generate_samples.sql")),
    ("process_exits", include_str!("../queries/generate_exits.sql")),
    ("processes", include_str!("../queries/generate_processes.sql")),
    ("host_samples", include_str!("../queries/generate_hosts.sql")),
];

/// The fleet, and engine and collector while this lives.
pub(crate) struct Fleet {
    /// Engine and collector.
    pub(crate) stack: Stack,
    /// The end of its last interval, seconds since 1970.
    pub(crate) end_s: u32,
    folder: PathBuf,
}

impl Fleet {
    /// Starts engine and collector over the fleet, which is made where there is none.
    ///
    /// # Errors
    /// When a part does not start, or a statement fails.
    pub(crate) fn start(runtime: &Runtime) -> Result<Self> {
        let own = std::env::current_exe().context("find this program")?;
        let folder = own.with_file_name("bench-fleet");
        let mark = folder.join("made");
        // What was made by other statements, or long ago, is made anew.
        let made = fs::read_to_string(&mark).ok().and_then(|text| {
            let end_s = text.strip_prefix(&kind())?.parse::<u32>().ok()?;
            (u64::from(now_s() - end_s) < KEPT.as_secs()).then_some(end_s)
        });
        if made.is_none() && folder.exists() {
            fs::remove_dir_all(&folder).context("remove the former fleet")?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let mut stack = Stack::within(&folder)?;
        let config = folder.join("collector.toml");
        fs::write(&config, "[retention]\nsamples_days = 30\n").context("write a configuration")?;
        stack.collector_options = vec!["--config".to_owned(), config.display().to_string()];
        stack.start_engine()?;
        let end_s = if let Some(end_s) = made {
            println!("a fleet is there: {}", folder.display());
            end_s
        } else {
            let end_s = make(&stack, runtime)?;
            fs::write(&mark, format!("{}{end_s}", kind())).context("write that the fleet is made")?;
            end_s
        };
        let fleet = Self { stack, end_s, folder };
        fleet.roll_up()?;
        Ok(fleet)
    }

    /// A collector of its own before this store, up to the moment at which it only answers.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn collector(&self, name: &str, store: SocketAddr) -> Result<(Part, SocketAddr, SocketAddr)> {
        let grpc = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let state = self.folder.join(name);
        let log = self.folder.join(format!("{name}.log"));
        fs::write(&log, "").context("empty a log")?;
        let arguments = [
            "run".to_owned(),
            format!("--listen={grpc}"),
            format!("--http-listen={http}"),
            format!("--store-url=http://{store}"),
            "--store-user=procscope".to_owned(),
            format!("--store-password-file={}", self.stack.path("password")),
            format!("--ingest-token-file={}", self.stack.path("token")),
            format!("--state-dir={}", state.display()),
            "--die-with-parent".to_owned(),
        ]
        .into_iter()
        .chain(self.stack.collector_options.iter().cloned())
        .collect::<Vec<_>>();
        let mut part = Part::start("procscope-collector", &[], &arguments, log)?;
        let (started, mut told) = (Instant::now(), Instant::now());
        while !part.log()?.contains("looked over") {
            ensure!(
                started.elapsed() < ROLLUP_MAX && !part.has_ended(),
                "the collector has not looked over the store in {:?}:\n{}",
                started.elapsed(),
                part.log()?
            );
            if told.elapsed() > TELL {
                let computed = |table| {
                    let windows = format!("SELECT uniqExact(host, window) FROM {table}");
                    self.stack.sql_number::<u64>(&windows)
                };
                println!(
                    "{:.0} s, {} of {} minutes and {} of {} hours of hosts are computed",
                    started.elapsed().as_secs_f64(),
                    computed("host_samples_1m")?,
                    MACHINES * (SECONDS / 60),
                    computed("host_samples_1h")?,
                    MACHINES * SECONDS.div_ceil(3_600),
                );
                told = Instant::now();
            }
            thread::sleep(Duration::from_millis(500));
        }
        Ok((part, grpc, http))
    }

    /// A process that lives all the time.
    pub(crate) fn process(&self) -> Result<String> {
        self.stack.sql(
            "SELECT toString(process_id) FROM process_samples WHERE host = 'bench-042' AND name LIKE 'service-%' LIMIT 1",
        )
    }

    /// Where the engine listens.
    pub(crate) fn engine(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.stack.engine_door().0))
    }

    /// Has minutes and hours computed.
    fn roll_up(&self) -> Result<()> {
        let engine = self.stack.engine.as_ref().context("the engine runs")?.pid();
        let (before, started) = (cpu_seconds(engine)?, Instant::now());
        println!("a collector computes the minutes and hours that are missing");
        drop(self.collector("rollup", self.engine())?);
        let rows: u64 = self.stack.sql_number("SELECT count() FROM process_samples")?;
        let used = cpu_seconds(engine)? - before;
        println!(
            "minutes and hours over {rows} rows: {:.0} s, {:.2} CPU s of the engine per million rows, merges included",
            started.elapsed().as_secs_f64(),
            used / float(rows) * 1e6
        );
        settle(&self.stack)
    }
}

/// What the fleet is made of, as one number: another one is another fleet.
fn kind() -> String {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    (TABLES, MACHINES, PROCESSES, SECONDS, FINE_SECONDS).hash(&mut hasher);
    format!("{:016x} ", hasher.finish())
}

/// Makes tables and rows; gives the end of the last interval.
fn make(stack: &Stack, runtime: &Runtime) -> Result<u32> {
    let (port, _password) = stack.engine_door();
    let migrated = Command::new(binary("procscope-collector")?)
        .args(["migrate", "--store-user", "procscope", "--store-password-file"])
        .arg(stack.path("password"))
        .args(["--store-url", &format!("http://127.0.0.1:{port}")])
        .output()
        .context("run procscope-collector migrate")?;
    ensure!(
        migrated.status.success(),
        "procscope-collector migrate: {}",
        String::from_utf8_lossy(&migrated.stderr)
    );
    let end_s = now_s() / 60 * 60;
    let (from_s, fine_s) = (end_s - SECONDS, end_s - FINE_SECONDS);
    let chunks = chunks(from_s, fine_s, CHUNK, COARSE_STEP).chain(chunks(fine_s, end_s, FINE_CHUNK, 1));
    let chunks: Vec<_> = chunks.collect();
    let count = chunks.len();
    let (started, client) = (Instant::now(), Client::from(None));
    for (place, (from_s, to_s, step_s)) in chunks.into_iter().enumerate() {
        for (_table, sql) in TABLES {
            let statement = Statement::new(stack, sql)
                .with("param_from_s", from_s)
                .with("param_to_s", to_s)
                .with("param_step_s", step_s)
                .with("param_machines", MACHINES)
                .with("param_processes", PROCESSES)
                .with("param_first", place == 0);
            runtime.block_on(statement.send(&client))?;
        }
        if place % 8 == 7 || place + 1 == count {
            println!(
                "made {} of {count} parts of the fleet, {:.0} s",
                place + 1,
                started.elapsed().as_secs_f64()
            );
        }
    }
    settle(stack)?;
    Ok(end_s)
}

fn chunks(from_s: u32, to_s: u32, length_s: u32, step_s: u32) -> impl Iterator<Item = (u32, u32, u32)> {
    let begins = (from_s..to_s).step_by(usize::try_from(length_s).unwrap_or(1));
    begins.map(move |begin| (begin, (begin + length_s).min(to_s), step_s))
}

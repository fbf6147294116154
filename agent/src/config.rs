//! Arguments, environment and file → a configuration that cannot be wrong.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    host,
    names::escape,
    observer::{Hooks, Settings, SourceChoice},
    scrub::Cmdline,
    spool::Limits,
    uplink,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use procscope_startup::{
    Common, Failure, Result, format_duration, parse_duration, read_config,
    wire::{Files, Way},
};
use serde::Deserialize;

mod spool;
use spool::{SpoolArgs, SpoolKeys};

/// Draining more often costs more than it tells.
pub const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// A rarer drain would leave slots and events too long.
pub const INTERVAL_MAX: Duration = Duration::from_mins(1);
/// Longer host names are cut in no place, so they are refused.
const HOST_LEN_MAX: usize = 253;

/// Measures every process of this machine in the kernel and streams it to a collector.
#[derive(Debug, Parser)]
#[command(name = "procscope-agent", version)]
pub struct Cli {
    /// What every binary has.
    #[command(flatten)]
    pub common: Common,
    /// What to do; `run` when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of `run`, so that they work without the word too.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Drain the kernel side each interval and stream snapshots to a collector (the default)
    Run(Box<RunArgs>),
    /// Print samples of this machine, without a collector
    Sample(SampleArgs),
    /// Say what this kernel and these privileges allow; exit code 1 if the agent cannot run
    Check,
}

/// What is measured, and how often.
#[derive(Debug, Clone, Default, Args)]
pub struct MeasureArgs {
    /// Length of an interval, 100ms to 60s [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, env = "PROCSCOPE_AGENT_INTERVAL")]
    pub interval: Option<Duration>,
    /// Name of this host [default: the kernel's node name]
    #[arg(long, value_name = "NAME", env = "PROCSCOPE_AGENT_HOST")]
    pub host: Option<String>,
    /// How much of command lines is kept [default: scrubbed]
    #[arg(long, value_enum, value_name = "MODE", env = "PROCSCOPE_AGENT_CMDLINE")]
    pub cmdline: Option<Cmdline>,
    /// Where figures come from [default: ebpf]
    #[arg(long, value_enum, value_name = "SOURCE", env = "PROCSCOPE_AGENT_SOURCE")]
    pub source: Option<SourceChoice>,
    /// Which programs run in the kernel [default: auto]
    #[arg(long, value_enum, value_name = "WHICH", env = "PROCSCOPE_AGENT_HOOKS")]
    pub hooks: Option<Hooks>,
    /// Count run-queue waits by length, for each process
    #[arg(long, env = "PROCSCOPE_AGENT_RUNQUEUE_HISTOGRAM")]
    pub runqueue_histogram: bool,
    /// Percent of the machine that they may cost with `--hooks auto` [default: 0.5]
    #[arg(
        long,
        value_name = "PERCENT",
        env = "PROCSCOPE_AGENT_KERNEL_BUDGET",
        allow_negative_numbers = true
    )]
    pub kernel_budget: Option<f64>,
}

/// Options of `run`.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// What is measured.
    #[command(flatten)]
    pub measure: MeasureArgs,
    /// Address of the collector, https:// for TLS [default: `http://127.0.0.1:7400`]
    #[arg(long, value_name = "URL", env = "PROCSCOPE_AGENT_COLLECTOR")]
    pub collector: Option<String>,
    /// File with the token that the collector wants (mode 0600)
    #[arg(long, value_name = "FILE", env = "PROCSCOPE_AGENT_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Authorities that the collector's certificate may come from, PEM [default: those of this system]
    #[arg(long, value_name = "FILE", env = "PROCSCOPE_AGENT_TLS_CA")]
    pub tls_ca: Option<PathBuf>,
    /// This agent's certificate, PEM
    #[arg(long, value_name = "FILE", env = "PROCSCOPE_AGENT_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// The key of that certificate, PEM (mode 0600)
    #[arg(long, value_name = "FILE", env = "PROCSCOPE_AGENT_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// Folder that keeps the agent's identity and its spool [default: /var/lib/procscope-agent]
    #[arg(long, value_name = "DIR", env = "PROCSCOPE_AGENT_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// The spool.
    #[command(flatten)]
    pub spool: SpoolArgs,
    /// Address of a page with metrics for Prometheus, for instance 127.0.0.1:7402 [default: none]
    #[arg(long, value_name = "ADDRESS", env = "PROCSCOPE_AGENT_METRICS_LISTEN")]
    pub metrics_listen: Option<SocketAddr>,
    /// Send the token in the clear to a collector on another machine, and show metrics to other machines
    #[arg(long, env = "PROCSCOPE_AGENT_INSECURE")]
    pub insecure: bool,
    /// End when the process that started this one ends
    #[arg(long)]
    pub die_with_parent: bool,
}

/// Options of `sample`.
#[derive(Debug, Clone, Args)]
pub struct SampleArgs {
    /// What is measured.
    #[command(flatten)]
    pub measure: MeasureArgs,
    /// Intervals to print; 0: until stopped
    #[arg(long, default_value_t = 1)]
    pub count: u64,
    /// One JSON object a process and line, or a table
    #[arg(long, value_enum, default_value_t = Format::Json)]
    pub format: Format,
}

/// How `sample` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One object a process and line, and one with the audit at the end of each interval.
    Json,
    /// The processes that used most CPU, for people.
    Table,
}

/// The keys of a configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the keys are named as the options are")]
pub struct File {
    interval: Option<String>,
    host: Option<String>,
    cmdline: Option<Cmdline>,
    source: Option<SourceChoice>,
    hooks: Option<Hooks>,
    kernel_budget: Option<f64>,
    runqueue_histogram: Option<bool>,
    collector: Option<String>,
    token_file: Option<PathBuf>,
    tls_ca: Option<PathBuf>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    metrics_listen: Option<SocketAddr>,
    insecure: Option<bool>,
    #[serde(default)]
    spool: SpoolKeys,
}

/// What `run` needs.
#[derive(Debug)]
pub struct Config {
    /// What is measured.
    pub settings: Settings,
    /// Where to, and as whom.
    pub collector: Way,
    /// Where the metrics page is; `None`: nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// Where the identity is kept.
    pub state_dir: PathBuf,
    /// What the spool in that folder may hold; `None`: there is none.
    pub spool: Option<Limits>,
    /// End with the process that started this one.
    pub die_with_parent: bool,
}

/// Reads the file that `common` names.
///
/// # Errors
/// Exit code 2 with the key and place.
pub fn read_file(common: &Common) -> Result<File> {
    read_config(common.config.as_deref())
}

/// What to measure: options over environment over file.
///
/// # Errors
/// Exit code 2 with the key and what is allowed.
pub fn settings(args: &MeasureArgs, file: &File) -> Result<Settings> {
    let from_file = |text: &String| {
        parse_duration(text).map_err(|error| Failure::usage(format_args!("key `interval`: {error}")))
    };
    let interval = match (args.interval, &file.interval) {
        (Some(interval), _) => interval,
        (None, Some(text)) => from_file(text)?,
        (None, None) => Duration::from_secs(1),
    };
    if !(INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
        return Err(Failure::usage(format_args!(
            "interval {} is out of range: choose from {} to {}",
            format_duration(interval),
            format_duration(INTERVAL_MIN),
            format_duration(INTERVAL_MAX)
        )));
    }
    let host = args
        .host
        .clone()
        .or_else(|| file.host.clone())
        .unwrap_or_else(|| host::uname().2);
    if host.is_empty() || host.len() > HOST_LEN_MAX || escape(host.as_bytes()) != host {
        return Err(Failure::usage(format_args!(
            "host `{}` cannot be a name: use 1 to {HOST_LEN_MAX} printable bytes without a backslash (--host)",
            escape(host.as_bytes())
        )));
    }
    Ok(Settings {
        host,
        interval,
        cmdline: args.cmdline.or(file.cmdline).unwrap_or_default(),
        source: args.source.or(file.source).unwrap_or_default(),
        hooks: args.hooks.or(file.hooks).unwrap_or_default(),
        runqueue_histogram: args.runqueue_histogram || file.runqueue_histogram.unwrap_or(false),
        kernel_budget_ppm: budget_ppm(args.kernel_budget.or(file.kernel_budget).unwrap_or(0.5))?,
    })
}

/// A budget in percent as parts per million.
fn budget_ppm(percent: f64) -> Result<u64> {
    if !(0.01..=100.0).contains(&percent) {
        return Err(Failure::usage(format_args!(
            "kernel budget {percent} is out of range: choose from 0.01 to 100 percent (--kernel-budget); \
             --hooks quiet does without the programs on hot paths"
        )));
    }
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within 100 to 1,000,000"
    )]
    Ok((percent * 10_000.0).round() as u64)
}

/// Everything that `run` needs.
///
/// # Errors
/// Exit code 2 with the key and what is allowed.
pub fn run_config(args: &RunArgs, file: &File) -> Result<Config> {
    let settings = settings(&args.measure, file)?;
    let url = args
        .collector
        .clone()
        .or_else(|| file.collector.clone())
        .unwrap_or_else(|| "http://127.0.0.1:7400".to_owned());
    let insecure = args.insecure || file.insecure.unwrap_or(false);
    let named = |option: &Option<PathBuf>, key: &Option<PathBuf>| option.clone().or_else(|| key.clone());
    let files = Files {
        tls_ca: named(&args.tls_ca, &file.tls_ca),
        tls_cert: named(&args.tls_cert, &file.tls_cert),
        tls_key: named(&args.tls_key, &file.tls_key),
        token: named(&args.token_file, &file.token_file),
    };
    let is_known = files.token.is_some() || files.tls_cert.is_some();
    let collector = Way::new("--collector", &url, files, insecure, uplink::tune)?;
    if !is_known {
        return Err(Failure::usage(
            "no token for the collector: name the file that holds it with --token-file, or a certificate with \
             --tls-cert (`sample` and `check` work without)",
        ));
    }
    let metrics_listen = args.metrics_listen.or(file.metrics_listen);
    if let Some(address) = metrics_listen.filter(|address| !insecure && !address.ip().is_loopback()) {
        return Err(Failure::usage(format_args!(
            "metrics address {address} is open to other machines: take one of 127.0.0.1, or allow it with --insecure"
        )));
    }
    Ok(Config {
        settings,
        collector,
        metrics_listen,
        state_dir: args
            .state_dir
            .clone()
            .or_else(|| file.state_dir.clone())
            .unwrap_or_else(|| PathBuf::from("/var/lib/procscope-agent")),
        spool: spool::limits(&args.spool, &file.spool)?,
        die_with_parent: args.die_with_parent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(interval: &str, host: &str) -> Result<Settings> {
        let args = MeasureArgs {
            interval: Some(parse_duration(interval).unwrap()),
            host: Some(host.to_owned()),
            cmdline: None,
            source: None,
            hooks: None,
            kernel_budget: None,
            runqueue_histogram: false,
        };
        settings(&args, &File::default())
    }

    #[test]
    fn an_interval_out_of_range_is_refused_with_the_range() {
        assert!(check("100ms", "a").is_ok() && check("60s", "a").is_ok());
        for interval in ["50ms", "61s"] {
            let failure = check(interval, "a").unwrap_err();
            assert_eq!(failure.code(), 2);
            assert!(
                failure.to_string().contains("100ms") && failure.to_string().contains("1m"),
                "{failure}"
            );
        }
    }

    #[test]
    fn a_budget_out_of_range_is_refused_with_the_range() {
        #[derive(clap::Parser)]
        struct Run {
            #[command(flatten)]
            args: MeasureArgs,
        }
        let check = |percent: &str| {
            let run: Run = clap::Parser::try_parse_from(["run", "--kernel-budget", percent]).unwrap();
            settings(&run.args, &File::default())
        };
        assert_eq!(check("0.01").unwrap().kernel_budget_ppm, 100);
        assert_eq!(check("100").unwrap().kernel_budget_ppm, 1_000_000);
        for percent in ["-1", "-0.5", "0", "101", "nan"] {
            let failure = check(percent).unwrap_err();
            assert!(
                failure.code() == 2 && failure.to_string().contains("from 0.01 to 100 percent"),
                "{failure}"
            );
        }
    }

    #[test]
    fn a_host_name_is_text_that_every_page_can_show() {
        assert!(check("1s", "node-1.example").is_ok());
        for host in ["", "a\nb", "a\\b", &"x".repeat(300)] {
            assert!(check("1s", host).is_err(), "{host:?}");
        }
    }

    #[test]
    fn options_win_over_the_file() {
        let file: File = toml::from_str("interval = \"5s\"\nhost = \"file\"\ncmdline = \"off\"").unwrap();
        let settings = settings(
            &MeasureArgs {
                host: Some("option".into()),
                ..MeasureArgs::default()
            },
            &file,
        )
        .unwrap();
        assert_eq!(
            (settings.host.as_str(), settings.interval),
            ("option", Duration::from_secs(5))
        );
        assert_eq!(settings.cmdline, Cmdline::Off);
    }

    #[test]
    fn run_wants_a_token_and_an_address() {
        let error = run_config(&RunArgs::default(), &File::default()).unwrap_err();
        assert!(error.to_string().contains("--token-file"), "{error}");
        let args = RunArgs {
            collector: Some("ftp://x".into()),
            ..RunArgs::default()
        };
        assert!(
            run_config(&args, &File::default())
                .unwrap_err()
                .to_string()
                .contains("--collector")
        );
    }
}

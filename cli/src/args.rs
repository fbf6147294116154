//! The command line, checked once into types that cannot be wrong.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use procscope_proto::v1::{GroupBy, Metric};

use crate::when::When;

/// Rows of a table when nobody says how many.
pub(crate) const TOP_LIMIT: u32 = 20;
/// Intervals that a printed answer covers when nobody says which.
pub(crate) const INTERVALS: u32 = 10;

/// Shown below the help of the whole program.
const AFTER_HELP: &str = "\
Examples:
  procscope top                                     what uses this fleet now
  procscope top --once --by command --sort memory   a table of the last 10 complete intervals
  procscope top --since 2h --until 1h --json        who it was, an hour long
  procscope exits --failed --since 10m              what ended badly
  procscope history nginx --host web-1 --since 6h   one name over time

Exit codes: 0 good, 1 the thing asked about is not so or failed, 2 wrong usage.";

/// What is, or was, using this fleet
#[derive(Debug, Parser)]
#[command(name = "procscope", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub common: procscope_startup::Common,
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// Print JSON: one object, exact figures in the units of their names, null for what is not known
    #[arg(long, global = true, conflicts_with = "csv")]
    pub json: bool,
    /// Print CSV; a text that a spreadsheet would run as a formula gets an apostrophe in front
    #[arg(long, global = true)]
    pub csv: bool,
    /// Begin of the range: a duration back from now (10m), RFC 3339, or unix seconds
    #[arg(long, global = true, value_name = "WHEN", value_parser = When::parse, allow_hyphen_values = true)]
    pub since: Option<When>,
    /// End of the range, itself not included [default: that of the newest complete interval]
    #[arg(long, global = true, value_name = "WHEN", value_parser = When::parse, allow_hyphen_values = true)]
    pub until: Option<When>,
    /// Only this host; repeat it for several
    #[arg(long = "host", global = true, value_name = "HOST", value_parser = no_empty_text)]
    pub hosts: Vec<String>,
    /// At most so many rows [default: top and groups 20, exits 100, others all]
    #[arg(long, global = true, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: Option<u32>,
    /// Address of the collector.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "PROCSCOPE_SERVER",
        help = "The collector, https:// for TLS [default: http://127.0.0.1:7400]"
    )]
    pub server: Option<String>,
    /// File with the token to show to the collector; nobody but its owner may read it
    #[arg(long, global = true, value_name = "FILE", env = "PROCSCOPE_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Authorities that the collector's certificate may come from, PEM [default: those of this system]
    #[arg(long, global = true, value_name = "FILE", env = "PROCSCOPE_TLS_CA")]
    pub tls_ca: Option<PathBuf>,
    /// This client's certificate, PEM
    #[arg(long, global = true, value_name = "FILE", env = "PROCSCOPE_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// The key of that certificate, PEM; nobody but its owner may read it
    #[arg(long, global = true, value_name = "FILE", env = "PROCSCOPE_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// Send the token in the clear to a collector that is not on this machine
    #[arg(long, global = true)]
    pub insecure: bool,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The processes that use most: live, or once
    Top(Top),
    /// One process, or all of one name, over time
    History(History),
    /// Processes whose names share a beginning, match an expression or are a configured group, together
    Groups(Groups),
    /// Processes that ended, short-lived ones too
    Exits(Exits),
    /// Hosts that sent something
    Hosts,
    /// Where each CPU-second of each host went, and what was lost
    Audit,
    /// Agents that do not exist, to try what a collector bears; their hosts load-0000, load-0001, … stay in its store
    Loadgen(Loadgen),
    /// Completions for a shell, on standard output
    Completions(Completions),
}

/// Arguments of `completions`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Completions {
    /// Which shell reads them
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Arguments of `top`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Top {
    /// Print one table and stop; so do --json, --csv, --since, --intervals, and an output that is no terminal
    #[arg(long)]
    pub once: bool,
    /// What one row stands for
    #[arg(long, value_enum, default_value_t = By::Process)]
    pub by: By,
    /// What to rank by
    #[arg(long, value_enum, default_value_t = Sort::Cpu)]
    pub sort: Sort,
    /// Only names that contain this text, whatever the case
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub filter: String,
    /// The last so many complete intervals [default: 10; live: 1]
    #[arg(long, value_name = "N", conflicts_with = "since", value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub intervals: Option<u32>,
    /// Colours of the live view
    #[arg(long, value_enum, default_value_t = Colors::Auto)]
    pub colors: Colors,
}

/// Arguments of `history`.
#[derive(Debug, Clone, Args)]
pub(crate) struct History {
    /// All processes of exactly this name, on the one --host
    #[arg(required_unless_present = "process_id", conflicts_with = "process_id", value_parser = no_empty_text)]
    pub name: Option<String>,
    /// This process, by the id that `top --json` and `exits --json` show
    #[arg(long, value_name = "ID", value_parser = no_empty_text)]
    pub process_id: Option<String>,
    /// Length of one point [default: so that there are at most 300]
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    pub step: Option<Duration>,
}

/// Arguments of `groups`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Groups {
    /// Names that begin with this text
    #[arg(
        required_unless_present_any = ["regex", "group"],
        conflicts_with_all = ["regex", "group"],
        value_parser = no_empty_text
    )]
    pub base: Option<String>,
    /// Names that match this expression (RE2)
    #[arg(long, value_name = "RE", conflicts_with = "group", value_parser = no_empty_text)]
    pub regex: Option<String>,
    /// Names of this group, from `[groups]` of the collector's configuration
    #[arg(long, value_name = "NAME", value_parser = no_empty_text)]
    pub group: Option<String>,
}

/// Arguments of `exits`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Exits {
    /// Only this exact name
    #[arg(long, value_name = "NAME", value_parser = no_empty_text)]
    pub name: Option<String>,
    /// Only lives of at most this length, such as 100ms
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    pub max_lifetime: Option<Duration>,
    /// Only those that ended with another code than 0, or by a signal
    #[arg(long)]
    pub failed: bool,
    /// Only this process
    #[arg(long, value_name = "ID", value_parser = no_empty_text)]
    pub process_id: Option<String>,
}

/// Arguments of `loadgen`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Loadgen {
    /// Agents, each with a connection of its own
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub agents: u32,
    /// Processes of each
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub processes: u32,
    /// Processes of each that end in an interval, within which they began
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub exits: u32,
    /// Length of an interval
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = positive_duration)]
    pub interval: Duration,
    /// For how long they measure
    #[arg(long = "for", value_name = "DURATION", default_value = "30s", value_parser = positive_duration)]
    pub time: Duration,
    /// How long they wait afterwards until all is stored
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = procscope_startup::parse_duration)]
    pub settle: Duration,
}

/// Colours of the live `top`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colors {
    /// What the terminal can show, by `TERM`, `COLORTERM`, `COLORFGBG` and `NO_COLOR`
    Auto,
    /// None; what matters is bold or reversed
    None,
    /// The terminal's own 16
    #[value(name = "16")]
    Basic,
    /// Of 256 those for a dark ground
    Dark,
    /// Of 256 those for a light ground
    Light,
}

/// What one row of `top` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// One process
    Process,
    /// All processes of one name
    Command,
    /// One container
    Container,
    /// One pod of Kubernetes
    Pod,
    /// One user
    User,
    /// One host
    Host,
}

/// What `top` ranks by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// CPU time
    Cpu,
    /// Resident memory, mean over the range
    #[value(alias = "mem")]
    Memory,
    /// Peak of resident memory
    #[value(alias = "peak_memory", alias = "peak-memory")]
    Peak,
    /// Time spent waiting for a CPU
    Runqueue,
    /// Bytes fetched from and sent towards disks
    #[value(alias = "disk")]
    Io,
    /// Page faults
    Faults,
    /// Context switches
    Switches,
}

impl By {
    /// The same on the wire.
    pub(crate) fn wire(self) -> GroupBy {
        match self {
            Self::Process => GroupBy::Process,
            Self::Command => GroupBy::Command,
            Self::Container => GroupBy::Container,
            Self::Pod => GroupBy::Pod,
            Self::User => GroupBy::User,
            Self::Host => GroupBy::Host,
        }
    }

    /// As people say it: `per process`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Command => "command",
            Self::Container => "container",
            Self::Pod => "pod",
            Self::User => "user",
            Self::Host => "host",
        }
    }
}

impl Sort {
    /// The same on the wire.
    pub(crate) fn wire(self) -> Metric {
        match self {
            Self::Cpu => Metric::Cpu,
            Self::Memory => Metric::Memory,
            Self::Peak => Metric::PeakMemory,
            Self::Runqueue => Metric::Runqueue,
            Self::Io => Metric::Io,
            Self::Faults => Metric::Faults,
            Self::Switches => Metric::Switches,
        }
    }

    /// As people say it: `by CPU`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Memory => "memory",
            Self::Peak => "peak memory",
            Self::Runqueue => "wait for CPU",
            Self::Io => "disk",
            Self::Faults => "page faults",
            Self::Switches => "context switches",
        }
    }
}

fn no_empty_text(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err("it must not be empty".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = procscope_startup::parse_duration(text)?;
    if duration.is_zero() {
        Err("it must be longer than nothing".to_owned())
    } else {
        Ok(duration)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn check(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_takes_what_is_for_everywhere() {
        for command in [
            "top --once",
            "history nginx",
            "groups nginx",
            "exits",
            "hosts",
            "audit",
        ] {
            let cli = check(&format!(
                "procscope {command} --json --since 10m --until 5m --host a --host b --limit 7 \
                 --server http://x:1 --token-file t --log-format json"
            ))
            .unwrap();
            assert_eq!(
                (cli.global.hosts.len(), cli.global.limit),
                (2, Some(7)),
                "{command}"
            );
        }
    }

    #[test]
    fn wrong_usage_has_exit_code_2() {
        for line in [
            "procscope",
            "procscope nosuch",
            "procscope top --by nosuch",
            "procscope top --limit 0",
            "procscope top --json --csv",
            "procscope top --intervals 0",
            "procscope top --intervals 3 --since 1h",
            "procscope top --since yesterday",
            "procscope history",
            "procscope history a --process-id b",
            "procscope history a --step 0s",
            "procscope groups",
            "procscope groups a --regex b",
            "procscope groups a --group b",
            "procscope groups --regex a --group b",
            "procscope groups --group",
            "procscope exits --max-lifetime 5",
            "procscope exits nginx",
        ] {
            assert_eq!(check(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}

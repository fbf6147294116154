//! What an observer is told: under which name, how often, from where, at what cost.

use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;

use crate::scrub::Cmdline;

/// Where figures come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SourceChoice {
    /// Programs in the kernel; without them the agent does not run.
    #[default]
    Ebpf,
    /// Samples of /proc: what lives between two of them is missing.
    Proc,
    /// Programs in the kernel where it allows them, otherwise samples of /proc.
    Auto,
}

/// Which programs run in the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Hooks {
    /// All, until they cost more than the budget.
    #[default]
    Auto,
    /// All, whatever they cost.
    Full,
    /// None on the paths that run at each switch and page: memory peaks are then as the kernel notes them.
    Quiet,
}

/// What to observe, and under which name.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of the host.
    pub host: String,
    /// Length of an interval.
    pub interval: Duration,
    /// How much of a command line is kept.
    pub cmdline: Cmdline,
    /// Where figures come from.
    pub source: SourceChoice,
    /// Run-queue waits are counted by length.
    pub runqueue_histogram: bool,
    /// Which programs run in the kernel.
    pub hooks: Hooks,
    /// What they may cost in parts per million of CPUs x wall, with `Hooks::Auto`.
    pub kernel_budget_ppm: u64,
}

//! Compiles `agent-ebpf`, and embeds the object in the agent.

use std::process::ExitCode;

#[path = "build/kernel_programs.rs"]
mod kernel_programs;

fn main() -> ExitCode {
    kernel_programs::compile("agent-ebpf", &["agent-ebpf", "agent-common"])
}

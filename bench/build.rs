//! Compiles `bench-ebpf` as the agent's build compiles `agent-ebpf`: the same compiler, the same flags.

use std::process::ExitCode;

#[path = "../agent/build/kernel_programs.rs"]
mod kernel_programs;

fn main() -> ExitCode {
    kernel_programs::compile("bench-ebpf", &["bench-ebpf"])
}

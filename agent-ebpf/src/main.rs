//! Entry points of what runs in the kernel, one call each. Built for the `bpfel-unknown-none` target by
//! `agent/build.rs`; elsewhere this is an empty program, so that any machine can lint it.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![allow(
    clippy::inline_always,
    reason = "one function a program: the verifier follows it best, and a call costs on the hot path"
)]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "the words of one slot are read or written under one argument"
)]
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::needless_pass_by_value,
    reason = "the macro that makes an entry point repeats it without its documentation"
)]
#![allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "offsets and lengths that fit, where `try_from` would bring panics"
)]

mod cost;
mod cpu_time;
mod idle;
mod lifecycle;
mod maps;
mod members;
mod mm;
mod percpu;
mod rss;
mod task;
mod tasks;
mod waits;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use procscope_agent_common::Program;

use crate::task::Task;

/// A thread leaves a CPU, another gets it.
#[btf_tracepoint(function = "sched_switch")]
pub fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    let run = cost::begin(Program::SchedSwitch);
    cpu_time::on_switch(Task::from_arg(&ctx, 1), Task::from_arg(&ctx, 2), ctx.arg(3));
    cost::end(run);
    0
}

/// The idle loop of a CPU halts or goes on. Only attached where the kernel hides switches.
#[btf_tracepoint(function = "cpu_idle")]
pub fn cpu_idle(ctx: BtfTracePointContext) -> i32 {
    let run = cost::begin(Program::CpuIdle);
    idle::on_cpu_idle(ctx.arg(0));
    cost::end(run);
    0
}

/// A thread or process was made.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    let run = cost::begin(Program::Fork);
    lifecycle::on_fork(&ctx, Task::from_arg(&ctx, 0), Task::from_arg(&ctx, 1));
    cost::end(run);
    0
}

/// A process became another program.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    let run = cost::begin(Program::Exec);
    lifecycle::on_exec(&ctx, Task::from_arg(&ctx, 0), ctx.arg(1), ctx.arg(2));
    cost::end(run);
    0
}

/// A thread began to exit.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(ctx: BtfTracePointContext) -> i32 {
    let run = cost::begin(Program::Exit);
    lifecycle::on_exit(&ctx, Task::from_arg(&ctx, 0));
    cost::end(run);
    0
}

/// A task is freed: nothing more is heard of it.
#[btf_tracepoint(function = "sched_process_free")]
pub fn sched_process_free(ctx: BtfTracePointContext) -> i32 {
    let run = cost::begin(Program::Free);
    cpu_time::on_free(Task::from_arg(&ctx, 0));
    cost::end(run);
    0
}

/// Nothing is done: what it costs is what being attached costs. Attached for a moment at start.
#[btf_tracepoint(function = "task_rename")]
pub fn task_rename(_ctx: BtfTracePointContext) -> i32 {
    0
}

/// Times the clock that runs are timed with. Attached for a moment at start.
#[btf_tracepoint(function = "task_rename")]
pub fn clock_cost(_ctx: BtfTracePointContext) -> i32 {
    cost::time_the_clock();
    0
}

/// Resident pages of some address space changed.
#[btf_tracepoint(function = "rss_stat")]
pub fn rss_stat(ctx: BtfTracePointContext) -> i32 {
    let run = cost::begin(Program::RssStat);
    rss::on_change(ctx.arg(0));
    cost::end(run);
    0
}

/// Called once for each task when the agent reads the iterator.
#[cfg_attr(target_arch = "bpf", unsafe(link_section = "iter/task"))]
#[unsafe(no_mangle)]
pub extern "C" fn task_iter(ctx: *const tasks::IterContext) -> i32 {
    tasks::on_task(ctx);
    0
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers that read other memory are for programs under a GPL-compatible licence.
#[cfg_attr(target_arch = "bpf", unsafe(link_section = "license"))]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}

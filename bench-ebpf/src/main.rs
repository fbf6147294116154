//! What our programs in the kernel are measured against: one that does nothing, and one that does what is usual.
//! Built for `bpfel-unknown-none` by `bench/build.rs`; elsewhere an empty program, so that any machine can lint it.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::needless_pass_by_value,
    reason = "the macro that makes an entry point repeats it without its documentation"
)]
#![allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "the upper half of what the helper returns is the number of the process"
)]

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_ktime_get_ns},
    macros::{btf_tracepoint, map},
    maps::{PerCpuArray, PerCpuHashMap},
    programs::BtfTracePointContext,
};

/// Processes that the usual program follows at most.
const PROCESSES: u32 = 16_384;

/// When this CPU last came by.
#[map]
static SINCE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Nanoseconds by process.
#[map]
static TIMES: PerCpuHashMap<u32, u64> = PerCpuHashMap::with_max_entries(PROCESSES, 0);

/// Nothing: what being called costs, and being measured.
#[btf_tracepoint(function = "sched_switch")]
pub fn empty(_ctx: BtfTracePointContext) -> i32 {
    0
}

/// What most tools do at each switch: a clock, the time since the last switch of this CPU, and a per-CPU hash by
/// process to add it to.
#[btf_tracepoint(function = "sched_switch")]
pub fn usual(_ctx: BtfTracePointContext) -> i32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: a helper without conditions.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    let Some(since) = SINCE.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: this CPU's own value, preemption off.
    let used_ns = now_ns.wrapping_sub(unsafe { *since });
    // SAFETY: as above.
    unsafe { *since = now_ns };
    if let Some(time) = TIMES.get_ptr_mut(tgid) {
        // SAFETY: this CPU's own value, preemption off.
        unsafe { *time += used_ns };
    } else {
        // Full: the time is lost, as it is with most tools.
        _ = TIMES.insert(tgid, used_ns, 0);
    }
    0
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers that the usual program calls are for programs under a GPL-compatible licence.
#[cfg_attr(target_arch = "bpf", unsafe(link_section = "license"))]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}

//! fork, exec and exit → `EVENTS`.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE},
    helpers::generated::bpf_ktime_get_boot_ns,
    maps::ring_buf::RingBufEntry,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::warn;
use procscope_agent_common::{
    CGROUP_NAME_LEN, DropReason, EVENT_EXEC, EVENT_EXIT, EVENT_FORK, ExecEvent, ExitEvent, FILENAME_LEN,
    ForkEvent,
};

use crate::{
    cpu_time,
    maps::{EVENTS, count_drop},
    rss,
    task::{Task, write_filename},
};

/// One lost event in so many is also logged.
const WARN_EVERY: u64 = 4096;

/// Hands an event to the agent. A wake-up costs thirty times what the event costs, so the agent comes by itself
/// ten times a second and is woken only when the buffer is half full.
#[inline(always)]
pub(crate) fn submit<T>(event: RingBufEntry<T>) {
    let waiting = EVENTS.query(u64::from(BPF_RB_AVAIL_DATA));
    let half = EVENTS.query(u64::from(BPF_RB_RING_SIZE)) / 2;
    event.submit(u64::from(if waiting > half {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    }));
}

/// Counts an event for which there was no room; the first of many also tells the agent's log.
#[inline(always)]
fn no_room(ctx: &BtfTracePointContext, what: &str, tgid: u32) {
    if count_drop(DropReason::RingFull).is_multiple_of(WARN_EVERY) {
        warn!(
            ctx,
            "no room for the {} of process {}, and for others until the agent drains", what, tgid
        );
    }
}

/// `child` was made by `parent`. Threads are found by the iterator and by their end.
#[inline(always)]
pub(crate) fn on_fork(ctx: &BtfTracePointContext, parent: Task, child: Task) {
    if child.tid() != child.tgid() {
        return;
    }
    let Some(mut event) = EVENTS.reserve::<ForkEvent>(0) else {
        return no_room(ctx, "fork", child.tgid());
    };
    event.write(ForkEvent {
        kind: EVENT_FORK,
        uid: child.uid(),
        process: child.process(),
        parent: parent.process(),
        exec_generation: child.exec_generation(),
        namespace_pid: child.namespace_pid(),
        cgroup_id: child.cgroup_id(),
        comm: child.comm(),
    });
    submit(event);
}

/// `task`, which is the current one, became another program; it called execve(2) as thread `old_tid`.
#[inline(always)]
pub(crate) fn on_exec(ctx: &BtfTracePointContext, task: Task, old_tid: u32, bprm: *const u8) {
    let Some(mut event) = EVENTS.reserve::<ExecEvent>(0) else {
        return no_room(ctx, "exec", task.tgid());
    };
    let to = event.as_mut_ptr();
    // SAFETY: `to` is the reserved entry; every field is written, strings up to their ending zero and arguments
    // up to `arguments_len`, and the agent reads no further.
    unsafe {
        (*to).kind = EVENT_EXEC;
        (*to).old_tid = old_tid;
        (*to).process = task.process();
        (*to).parent = task.parent();
        (*to).cgroup_id = task.cgroup_id();
        (*to).exec_generation = task.exec_generation();
        (*to).uid = task.uid();
        (*to).peak_rss_pages = rss::take_peak(task);
        (*to).comm = task.comm();
        task.write_cgroup_name((&raw mut (*to).cgroup_name).cast(), CGROUP_NAME_LEN as u32);
        write_filename(bprm, (&raw mut (*to).filename).cast(), FILENAME_LEN as u32);
        (*to).arguments_len = match task.mm() {
            Some(mm) => mm.write_arguments((&raw mut (*to).arguments).cast()),
            None => 0,
        };
    }
    submit(event);
}

/// `task` began to exit. Only the last thread of a process tells: `live` has already been counted down.
#[inline(always)]
pub(crate) fn on_exit(ctx: &BtfTracePointContext, task: Task) {
    cpu_time::on_exit(task);
    let signal = task.signal();
    if signal.live() != 0 {
        return;
    }
    let Some(mut event) = EVENTS.reserve::<ExitEvent>(0) else {
        return no_room(ctx, "exit", task.tgid());
    };
    let (has_mm, rss_pages, hiwater_pages) = match task.own_mm() {
        Some(mm) => (1, mm.rss_pages(), mm.hiwater_pages()),
        None => (0, 0, 0),
    };
    let to = event.as_mut_ptr();
    // SAFETY: `to` is the reserved entry; every field is written, the string up to its ending zero.
    unsafe {
        (*to).kind = EVENT_EXIT;
        (*to).exit_status = task.exit_status();
        (*to).process = task.process();
        (*to).parent = task.leader().parent();
        (*to).end_boottime_ns = bpf_ktime_get_boot_ns();
        (*to).cgroup_id = task.cgroup_id();
        (*to).rss_pages = rss_pages;
        (*to).hiwater_pages = hiwater_pages;
        (*to).cpu_time_ns = signal.ended_cpu_time_ns() + task.cpu_time_ns();
        (*to).exec_generation = task.exec_generation();
        (*to).uid = task.uid();
        (*to).has_mm = has_mm;
        (*to).oom_killed = u32::from(signal.is_oom_victim());
        (*to).tid = task.tid();
        (*to).threads = signal.threads();
        // The thread that exits last may have a name of its own; the first one has the process's.
        (*to).comm = task.leader().comm();
        task.write_cgroup_name((&raw mut (*to).cgroup_name).cast(), CGROUP_NAME_LEN as u32);
    }
    submit(event);
}

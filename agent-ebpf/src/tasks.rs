//! The task iterator: what is there now, exactly. Each read of the iterator's file runs this once a task.
//!
//! Most tasks sleep. What a thread has used, and whatever only it can change, is as it was when it has not left a CPU
//! since the last walk and has none now: then only what others can change is read, and a shorter record tells it.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{
    helpers::generated::bpf_seq_write,
    macros::map,
    maps::{Array, PerCpuArray},
};
use procscope_agent_common::{
    OPEN_FILES_SAME, OPEN_FILES_UNKNOWN, Present, ProcessKey, StillRecord, StillThreadRecord, TASK_HAS_MM,
    TASK_KERNEL_THREAD, TASK_SUMMED, TASK_ZOMBIE, TaskRecord, ThreadTotals, WALK_MARKS, WALK_STILL,
    WALK_STILL_THREAD, WALK_TASK, WalkMark, walk_mark_index,
};

use crate::{
    cpu_time::mark_walked,
    maps::whole_walk,
    percpu,
    task::{Mm, Task},
};

/// Where a record is put together: it is too large for the stack.
#[map]
static RECORD: PerCpuArray<TaskRecord> = PerCpuArray::with_max_entries(1, 0);

/// What the last walk noted of each thread, by tid modulo size. Never full: two threads with one mark are told whole.
#[map]
static MARKS: Array<WalkMark> = Array::with_max_entries(WALK_MARKS, 0);

/// `WalkMark::switches` of a thread that has a CPU or waits for one.
const RUNS: u64 = u64::MAX;

/// `struct bpf_iter__task`.
#[repr(C)]
pub struct IterContext {
    meta: *const IterMeta,
    task: *const u8,
}

/// `struct bpf_iter_meta`.
#[repr(C)]
pub struct IterMeta {
    seq: *mut core::ffi::c_void,
    session_id: u64,
    seq_num: u64,
}

/// Writes the record of one task; the kernel makes room and asks again when the output is full.
#[inline(always)]
pub(crate) fn on_task(ctx: *const IterContext) {
    // SAFETY: the kernel gives the context of this kind of iterator.
    let (meta, task) = unsafe { ((*ctx).meta, (*ctx).task) };
    if task.is_null() {
        return;
    }
    // SAFETY: as above.
    if unsafe { (*meta).seq_num } == 0 {
        percpu::find_bases();
    }
    let task = Task::from_ptr(task);
    let summed = mark_walked(task);
    let Some(record) = RECORD.get_ptr_mut(0) else {
        return;
    };
    let Some(mark) = MARKS.get_ptr_mut(walk_mark_index(task.tid())) else {
        return;
    };
    // SAFETY: one walk runs at a time, and this CPU runs nothing else of ours that writes here.
    let now = unsafe { look(record, task) };
    // SAFETY: as above: nobody else writes marks.
    let before = unsafe { *mark };
    // SAFETY: as above.
    let len = unsafe { write(record, task, before, now) };
    if summed {
        // SAFETY: as above: an ended task is told whole.
        unsafe { (*record).now.flags |= TASK_SUMMED };
    }
    // SAFETY: as above; the record is plain bytes of at least the length given.
    let failed = unsafe { bpf_seq_write((*meta).seq.cast(), record.cast(), len) };
    // What found no room is asked for again, and must be told then as now.
    if failed == 0
        && (before.switches != now.switches || !is_of(before, now) || before.owns_files != now.owns_files)
    {
        // SAFETY: as above.
        unsafe { *mark = now };
    }
}

/// The mark of a task as it is now.
///
/// # Safety
/// `record` may be written and nobody else does.
#[inline(always)]
unsafe fn look(record: *mut TaskRecord, task: Task) -> WalkMark {
    // SAFETY: as promised by the caller. A pointer is written into memory so that it can be read back as a number.
    let address = unsafe {
        let scratch = &raw mut (*record).start_boottime_ns;
        write_volatile(scratch.cast::<*const u8>(), task.as_ptr());
        read_volatile(scratch)
    };
    // First this: what the thread does from here on shows in the next walk.
    let switches = task.switches();
    WalkMark {
        task: address,
        start_boottime_ns: task.start_boottime_ns(),
        switches: if task.may_run() { RUNS } else { switches },
        whole: whole_walk(),
        owns_files: u32::from(task.owns_files()),
    }
}

/// Whether a mark is of this very thread, and to be heeded.
#[inline(always)]
fn is_of(before: WalkMark, now: WalkMark) -> bool {
    before.task == now.task && before.start_boottime_ns == now.start_boottime_ns && before.whole == now.whole
}

/// Fills as much of the record as is to be told, and says how many bytes that are.
///
/// # Safety
/// `record` may be written and nobody else does.
#[inline(always)]
unsafe fn write(record: *mut TaskRecord, task: Task, before: WalkMark, now: WalkMark) -> u32 {
    let known = is_of(before, now);
    let still = known && now.switches != RUNS && before.switches == now.switches && task.exit_state() == 0;
    let process = task.process();
    let tid = task.tid();
    let is_leader = tid == process.tgid;
    // Another thread tells of the memory once the first has gone.
    let tells_memory = is_leader || task.leader().mm().is_none();
    // SAFETY: as promised by the caller. Every field that is told is written, each time.
    unsafe {
        (*record).tid = tid;
        (*record).process = process;
        (*record).start_boottime_ns = now.start_boottime_ns;
        if still && !tells_memory {
            (*record).kind = WALK_STILL_THREAD;
            return size_of::<StillThreadRecord>() as u32;
        }
        let same_files = still && before.owns_files != 0 && now.owns_files != 0;
        write_present(&raw mut (*record).now, task, is_leader, same_files, tells_memory);
        if still && is_leader {
            (*record).kind = WALK_STILL;
            return size_of::<StillRecord>() as u32;
        }
        (*record).kind = WALK_TASK;
        (*record).totals = task.totals();
        (*record).ended = ThreadTotals::default();
        if is_leader {
            let signal = task.signal();
            if !known || task.exit_state() != 0 {
                (*record).ended = signal.ended_totals();
            }
            (*record).parent = task.parent();
            (*record).exec_generation = task.exec_generation();
            (*record).uid = task.uid();
            (*record).threads = signal.threads();
            (*record).namespace_pid = task.namespace_pid();
        } else {
            (*record).parent = ProcessKey::new(0, 0);
            (*record).exec_generation = 0;
            (*record).uid = 0;
            (*record).threads = 0;
            (*record).namespace_pid = 0;
        }
    }
    size_of::<TaskRecord>() as u32
}

/// Fills what others can change of a sleeping task.
///
/// # Safety
/// `now` may be written and nobody else does.
#[inline(always)]
unsafe fn write_present(
    now: *mut Present,
    task: Task,
    is_leader: bool,
    same_files: bool,
    tells_memory: bool,
) {
    // First this: the verifier follows its loop once for each way that leads there, and keeps what it saw.
    let open_files = match (is_leader, same_files) {
        (false, _) => OPEN_FILES_UNKNOWN,
        (true, true) => OPEN_FILES_SAME,
        (true, false) => task.open_files(),
    };
    // SAFETY: as promised by the caller.
    unsafe { (*now).open_files = open_files };
    let mut flags = 0;
    if task.is_kernel_thread() {
        flags |= TASK_KERNEL_THREAD;
    }
    if task.exit_state() != 0 {
        flags |= TASK_ZOMBIE;
    }
    let mm = if tells_memory { task.own_mm() } else { None };
    let mut pages = [0; 4];
    if let Some(mm) = mm {
        flags |= TASK_HAS_MM;
        pages = mm.exact_pages();
    }
    // SAFETY: as promised by the caller. Every field is written, each time.
    unsafe {
        (*now).file_pages = pages[0];
        (*now).anon_pages = pages[1];
        (*now).swap_pages = pages[2];
        (*now).shmem_pages = pages[3];
        (*now).hiwater_pages = mm.map_or(0, Mm::hiwater_pages);
        (*now).virtual_pages = mm.map_or(0, Mm::virtual_pages);
        (*now).flags = flags;
        (*now).reserved = 0;
        if is_leader {
            (*now).cgroup_id = task.cgroup_id();
            (*now).open_files_limit = task.signal().open_files_limit();
            (*now).state = task.state();
            (*now).comm = task.comm();
        } else {
            (*now).cgroup_id = 0;
            (*now).open_files_limit = 0;
            (*now).state = 0;
            (*now).comm = [0; 16];
        }
    }
}

//! The task iterator: what is there now, exactly. Each read of the iterator's file runs this once a task.

use aya_ebpf::{helpers::generated::bpf_seq_write, macros::map, maps::PerCpuArray};
use procscope_agent_common::{
    OPEN_FILES_UNKNOWN, ProcessKey, TASK_HAS_MM, TASK_KERNEL_THREAD, TASK_ZOMBIE, TaskRecord, ThreadTotals,
};

use crate::{cpu_time::mark_walked, percpu, task::Task};

/// Where a record is put together: it is too large for the stack.
#[map]
static RECORD: PerCpuArray<TaskRecord> = PerCpuArray::with_max_entries(1, 0);

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
    mark_walked(task);
    let Some(record) = RECORD.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: one walk runs at a time, and this CPU runs nothing else of ours that writes here.
    unsafe { write(record, task) };
    // SAFETY: as above; the record is plain bytes of the size given.
    unsafe {
        bpf_seq_write((*meta).seq.cast(), record.cast(), size_of::<TaskRecord>() as u32);
    }
}

/// Fills the record.
///
/// # Safety
/// `record` may be written and nobody else does.
#[inline(always)]
unsafe fn write(record: *mut TaskRecord, task: Task) {
    let process = task.process();
    let tid = task.tid();
    let is_leader = tid == process.tgid;
    let mut flags = 0;
    if task.is_kernel_thread() {
        flags |= TASK_KERNEL_THREAD;
    }
    if task.exit_state() != 0 {
        flags |= TASK_ZOMBIE;
    }
    // SAFETY: as promised by the caller. Every field is written, each time.
    unsafe {
        (*record).process = process;
        (*record).start_boottime_ns = task.start_boottime_ns();
        (*record).tid = tid;
        (*record).totals = task.totals();
        if is_leader {
            let signal = task.signal();
            (*record).ended = signal.ended_totals();
            (*record).cgroup_id = task.cgroup_id();
            (*record).parent = task.parent();
            (*record).exec_generation = task.exec_generation();
            (*record).uid = task.uid();
            (*record).threads = signal.threads();
            (*record).namespace_pid = task.namespace_pid();
            (*record).open_files = task.open_files();
            (*record).state = task.state();
            (*record).open_files_limit = signal.open_files_limit();
            (*record).comm = task.comm();
        } else {
            (*record).ended = ThreadTotals::default();
            (*record).cgroup_id = 0;
            (*record).parent = ProcessKey::new(0, 0);
            (*record).exec_generation = 0;
            (*record).uid = 0;
            (*record).threads = 0;
            (*record).namespace_pid = 0;
            (*record).open_files = OPEN_FILES_UNKNOWN;
            (*record).state = 0;
            (*record).open_files_limit = 0;
            (*record).comm = [0; 16];
        }
        let mut pages = [0; 4];
        let (mut hiwater_pages, mut virtual_pages) = (0, 0);
        if let Some(mm) = task.own_mm()
            && (is_leader || task.leader().mm().is_none())
        {
            flags |= TASK_HAS_MM;
            pages = mm.exact_pages();
            hiwater_pages = mm.hiwater_pages();
            virtual_pages = mm.virtual_pages();
        }
        (*record).file_pages = pages[0];
        (*record).anon_pages = pages[1];
        (*record).swap_pages = pages[2];
        (*record).shmem_pages = pages[3];
        (*record).hiwater_pages = hiwater_pages;
        (*record).virtual_pages = virtual_pages;
        (*record).flags = flags;
    }
}

//! The task iterator: what is there now, exactly. Each read of the iterator's file runs this once a task.

use aya_ebpf::helpers::generated::bpf_seq_write;
use procscope_agent_common::{
    ProcessKey, TASK_HAS_MM, TASK_KERNEL_THREAD, TASK_ZOMBIE, TaskRecord, ThreadTotals,
};

use crate::task::{Task, positive};

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
}

/// Writes the record of one task; the kernel makes room and asks again when the output is full.
#[inline(always)]
pub(crate) fn on_task(ctx: *const IterContext) {
    // SAFETY: the kernel gives the context of this kind of iterator.
    let (meta, task) = unsafe { ((*ctx).meta, (*ctx).task) };
    if task.is_null() {
        return;
    }
    let task = Task::from_ptr(task);
    let record = record(task);
    // SAFETY: as above; the record is plain bytes of the size given.
    unsafe {
        bpf_seq_write(
            (*meta).seq.cast(),
            (&raw const record).cast(),
            size_of::<TaskRecord>() as u32,
        );
    }
}

#[inline(always)]
fn record(task: Task) -> TaskRecord {
    let mut record = TaskRecord {
        process: task.process(),
        start_boottime_ns: task.start_boottime_ns(),
        tid: task.tid(),
        flags: 0,
        totals: task.totals(),
        ended: ThreadTotals::default(),
        file_pages: 0,
        anon_pages: 0,
        shmem_pages: 0,
        swap_pages: 0,
        hiwater_pages: 0,
        virtual_pages: 0,
        cgroup_id: 0,
        parent: ProcessKey::new(0, 0),
        exec_generation: 0,
        uid: 0,
        threads: 0,
        reserved: 0,
        comm: [0; 16],
    };
    if task.is_kernel_thread() {
        record.flags |= TASK_KERNEL_THREAD;
    }
    if task.exit_state() != 0 {
        record.flags |= TASK_ZOMBIE;
    }
    let is_leader = record.tid == record.process.tgid;
    if is_leader {
        let signal = task.signal();
        record.ended = signal.ended_totals();
        record.threads = signal.threads();
        record.parent = task.parent();
        record.exec_generation = task.exec_generation();
        record.uid = task.uid();
        record.cgroup_id = task.cgroup_id();
        record.comm = task.comm();
    }
    if let Some(mm) = task.mm()
        && (is_leader || task.leader().mm().is_none())
    {
        record.flags |= TASK_HAS_MM;
        record.file_pages = positive(mm.file_count());
        record.anon_pages = positive(mm.anon_count());
        record.shmem_pages = positive(mm.shmem_count());
        record.swap_pages = positive(mm.swap_count());
        record.hiwater_pages = mm.hiwater_pages();
        record.virtual_pages = mm.virtual_pages();
    }
    record
}

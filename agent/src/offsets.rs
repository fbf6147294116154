//! Which members the kernel programs read, by the names of `agent-ebpf/src/task.rs` and `mm.rs`, and where this
//! kernel has them.

use crate::btf::Btf;

/// The offset of a member that this kernel lacks.
pub const MISSING: u32 = u32::MAX;

/// A read-only value of the kernel programs.
pub type Offset = (&'static str, u32);

/// Global, struct, and paths to try in order: kernels differ.
type Member = (&'static str, &'static str, &'static [&'static str]);

const MEMBERS: &[Member] = &[
    ("TASK_PID", "task_struct", &["pid"]),
    ("TASK_TGID", "task_struct", &["tgid"]),
    ("TASK_FLAGS", "task_struct", &["flags"]),
    ("TASK_MM", "task_struct", &["mm"]),
    ("TASK_EXIT_STATE", "task_struct", &["exit_state"]),
    ("TASK_EXIT_CODE", "task_struct", &["exit_code"]),
    ("TASK_REAL_PARENT", "task_struct", &["real_parent"]),
    ("TASK_GROUP_LEADER", "task_struct", &["group_leader"]),
    (
        "TASK_START_BOOTTIME",
        "task_struct",
        &["start_boottime", "real_start_time"],
    ),
    ("TASK_SUM_EXEC_RUNTIME", "task_struct", &["se.sum_exec_runtime"]),
    ("TASK_EXEC_START", "task_struct", &["se.exec_start"]),
    ("TASK_RUN_DELAY", "task_struct", &["sched_info.run_delay"]),
    ("TASK_NVCSW", "task_struct", &["nvcsw"]),
    ("TASK_NIVCSW", "task_struct", &["nivcsw"]),
    ("TASK_MIN_FLT", "task_struct", &["min_flt"]),
    ("TASK_MAJ_FLT", "task_struct", &["maj_flt"]),
    ("TASK_CRED", "task_struct", &["cred"]),
    ("TASK_COMM", "task_struct", &["comm"]),
    ("TASK_SIGNAL", "task_struct", &["signal"]),
    ("TASK_SELF_EXEC_ID", "task_struct", &["self_exec_id"]),
    ("TASK_CGROUPS", "task_struct", &["cgroups"]),
    ("SIGNAL_LIVE", "signal_struct", &["live.counter"]),
    ("SIGNAL_NR_THREADS", "signal_struct", &["nr_threads"]),
    ("SIGNAL_GROUP_EXIT_CODE", "signal_struct", &["group_exit_code"]),
    ("SIGNAL_FLAGS", "signal_struct", &["flags"]),
    ("SIGNAL_NVCSW", "signal_struct", &["nvcsw"]),
    ("SIGNAL_NIVCSW", "signal_struct", &["nivcsw"]),
    ("SIGNAL_MIN_FLT", "signal_struct", &["min_flt"]),
    ("SIGNAL_MAJ_FLT", "signal_struct", &["maj_flt"]),
    (
        "SIGNAL_SUM_SCHED_RUNTIME",
        "signal_struct",
        &["sum_sched_runtime"],
    ),
    ("SIGNAL_OOM_MM", "signal_struct", &["oom_mm"]),
    ("MM_HIWATER_RSS", "mm_struct", &["hiwater_rss"]),
    ("MM_TOTAL_VM", "mm_struct", &["total_vm"]),
    ("MM_ARG_START", "mm_struct", &["arg_start"]),
    ("MM_ARG_END", "mm_struct", &["arg_end"]),
    // From 6.2 on a per-CPU counter each, before that plain numbers.
    (
        "MM_RSS_FILE",
        "mm_struct",
        &["rss_stat[0].count", "rss_stat.count[0].counter"],
    ),
    (
        "MM_RSS_ANON",
        "mm_struct",
        &["rss_stat[1].count", "rss_stat.count[1].counter"],
    ),
    (
        "MM_RSS_SWAP",
        "mm_struct",
        &["rss_stat[2].count", "rss_stat.count[2].counter"],
    ),
    (
        "MM_RSS_SHMEM",
        "mm_struct",
        &["rss_stat[3].count", "rss_stat.count[3].counter"],
    ),
    ("CRED_UID", "cred", &["uid"]),
    ("CSS_SET_DFL_CGRP", "css_set", &["dfl_cgrp"]),
    ("CSS_CGROUP", "cgroup_subsys_state", &["cgroup"]),
    ("CGROUP_KN", "cgroup", &["kn"]),
    ("KN_ID", "kernfs_node", &["id"]),
    ("KN_NAME", "kernfs_node", &["name"]),
    ("BINPRM_FILENAME", "linux_binprm", &["filename"]),
    ("TASK_PCOUNT", "task_struct", &["sched_info.pcount"]),
    ("TASK_UTIME", "task_struct", &["utime"]),
    ("TASK_STIME", "task_struct", &["stime"]),
    ("TASK_STATE", "task_struct", &["__state"]),
    ("TASK_THREAD_PID", "task_struct", &["thread_pid"]),
    ("TASK_FILES", "task_struct", &["files"]),
    ("SIGNAL_UTIME", "signal_struct", &["utime"]),
    ("SIGNAL_STIME", "signal_struct", &["stime"]),
    // RLIMIT_NOFILE is 7 everywhere but on alpha, mips and sparc.
    ("SIGNAL_NOFILE", "signal_struct", &["rlim[7].rlim_cur"]),
    ("PID_LEVEL", "pid", &["level"]),
    ("PID_NUMBERS", "pid", &["numbers"]),
    ("FILES_COUNT", "files_struct", &["count.counter"]),
    ("FILES_FDT", "files_struct", &["fdt"]),
    ("FDTABLE_MAX_FDS", "fdtable", &["max_fds"]),
    ("FDTABLE_OPEN_FDS", "fdtable", &["open_fds"]),
];

/// Members that a kernel may be built without; the programs then leave out what needs them.
const OPTIONAL: &[Member] = &[
    // CONFIG_SMP
    ("TASK_ON_CPU", "task_struct", &["on_cpu"]),
    // CONFIG_TASK_XACCT
    ("TASK_IO_CHARS", "task_struct", &["ioac.rchar"]),
    ("SIGNAL_IO_CHARS", "signal_struct", &["ioac.rchar"]),
    // CONFIG_TASK_IO_ACCOUNTING
    ("TASK_IO_DISK", "task_struct", &["ioac.read_bytes"]),
    ("SIGNAL_IO_DISK", "signal_struct", &["ioac.read_bytes"]),
    // From 6.2 on: what each CPU has not yet put into `rss_stat[].count`.
    ("MM_RSS_FILE_PARTS", "mm_struct", &["rss_stat[0].counters"]),
    ("MM_RSS_ANON_PARTS", "mm_struct", &["rss_stat[1].counters"]),
    ("MM_RSS_SWAP_PARTS", "mm_struct", &["rss_stat[2].counters"]),
    ("MM_RSS_SHMEM_PARTS", "mm_struct", &["rss_stat[3].counters"]),
    ("ARRAY_PPTRS", "bpf_array", &["pptrs"]),
];

/// Finds every member in the kernel's BTF.
///
/// `legacy_controller`: on a machine whose groups live in cgroup v1, the controller whose hierarchy counts.
///
/// # Errors
/// The names of the members that this kernel lacks.
pub fn find(btf: &Btf<'_>, legacy_controller: Option<&str>) -> Result<Vec<Offset>, Vec<String>> {
    let mut found = Vec::with_capacity(MEMBERS.len() + 1);
    let mut missing = Vec::new();
    for (global, structure, paths) in MEMBERS {
        match paths.iter().find_map(|path| btf.offset(structure, path)) {
            Some(offset) => found.push((*global, offset)),
            None => missing.push(format!(
                "{structure}.{}",
                paths.first().copied().unwrap_or_default()
            )),
        }
    }
    for (global, structure, paths) in OPTIONAL {
        let offset = paths.iter().find_map(|path| btf.offset(structure, path));
        found.push((*global, offset.unwrap_or(MISSING)));
    }
    found.push((
        "CSS_SET_SUBSYS",
        legacy_subsystem(btf, legacy_controller).unwrap_or(MISSING),
    ));
    if missing.is_empty() {
        Ok(found)
    } else {
        Err(missing)
    }
}

/// Where `css_set` points to the group of a cgroup v1 controller.
fn legacy_subsystem(btf: &Btf<'_>, controller: Option<&str>) -> Option<u32> {
    let id = btf.enum_value("cgroup_subsys_id", &format!("{}_cgrp_id", controller?))?;
    btf.offset("css_set", &format!("subsys[{id}]")).or_else(|| {
        // An array of pointers: its element is not a type with a size in BTF.
        Some(btf.offset("css_set", "subsys")? + id * 8)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_every_member() {
        let bytes = std::fs::read("/sys/kernel/btf/vmlinux").expect("this kernel has BTF");
        let found = find(&Btf::parse(&bytes).unwrap(), Some("memory")).unwrap();
        assert!(
            found
                .iter()
                .all(|(name, offset)| *offset != MISSING || *name == "CSS_SET_SUBSYS")
        );
    }
}

//! Loads and attaches the kernel programs, and translates what the kernel refuses into words.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

use aya::{
    Btf, Ebpf, EbpfLoader, include_bytes_aligned,
    programs::{BtfTracePoint, Iter, ProgramError, tp_btf::BtfTracePointLinkId},
};

use procscope_agent_common::{PROGRAMS, THREAD_SLOTS};

use crate::{btf, clock, offsets};

/// The compiled `agent-ebpf`.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/agent-ebpf.o"));

/// Where the kernel shows its types.
pub const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// The tracepoints, each the name of its program too.
pub const TRACEPOINTS: [&str; 6] = [
    "sched_process_fork",
    "sched_process_exec",
    "sched_process_exit",
    "sched_process_free",
    "rss_stat",
    "sched_switch",
];

/// Those of them that run for more than a process's life.
const HOT: [&str; 2] = ["rss_stat", "sched_switch"];

/// The tracepoint at which a program that does nothing is attached for a moment, to learn what that costs.
const NOTHING: &str = "task_rename";

/// The program that times the clock, at the same tracepoint.
const CLOCK: &str = "clock_cost";

/// The tracepoint that is attached only where the kernel hides switches.
pub const IDLE_LOOP: &str = "cpu_idle";

/// The iterator program.
pub const ITERATOR: &str = "task_iter";

/// Why the kernel programs do not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The kernel does not describe its types.
    #[error(
        "this kernel shows no types at {BTF_PATH} ({0}); it needs CONFIG_DEBUG_INFO_BTF=y (Linux 6.1 or later)"
    )]
    NoBtf(io::Error),
    /// The kernel's types cannot be read.
    #[error("could not read {BTF_PATH}")]
    Btf(#[source] btf::BtfError),
    /// The kernel's types cannot be read by the loader.
    #[error("could not read {BTF_PATH}")]
    LoaderBtf(#[source] aya::BtfError),
    /// The kernel lacks members that the programs read.
    #[error("this kernel has no {}; Linux 6.1 to 6.18 are known", .0.join(", "))]
    MissingMembers(Vec<String>),
    /// Maps or programs could not be made.
    #[error("could not load the kernel programs")]
    Load(#[source] aya::EbpfError),
    /// One program was refused.
    #[error("could not load or attach the kernel program {program}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What the kernel said.
        #[source]
        source: ProgramError,
    },
    /// The object lacks something: a bug of ours.
    #[error("the embedded kernel programs have no {0}")]
    Object(&'static str),
    /// The iterator could not be linked.
    #[error("could not link the task iterator")]
    Iterator(#[source] io::Error),
}

/// Loaded and attached programs; dropping it detaches them.
pub struct Probes {
    /// Programs and maps.
    pub ebpf: Ebpf,
    /// The link from which iterators are made.
    pub iterator: OwnedFd,
    /// What interrupts and the hypervisor take is outside of task times on this kernel.
    pub time_accounting: TimeAccounting,
    /// What this kernel counts.
    pub counts: Counts,
    /// What being attached costs a program beside its own time, nanoseconds a run, with an empty program's own;
    /// `None`: this kernel did not let us measure it.
    pub attach_ns: Option<u64>,
    /// Run-queue waits are counted by length.
    pub counts_waits: bool,
    hot_links: Vec<(&'static str, BtfTracePointLinkId)>,
}

/// What a kernel may be built not to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// `CONFIG_TASK_XACCT`: bytes and calls of read(2), write(2) and their kin.
    pub io: bool,
    /// `CONFIG_TASK_IO_ACCOUNTING`: bytes from and to storage.
    pub disk_io: bool,
}

/// What this kernel takes out of task times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeAccounting {
    /// `CONFIG_IRQ_TIME_ACCOUNTING`.
    pub interrupts: bool,
    /// `CONFIG_PARAVIRT_TIME_ACCOUNTING`.
    pub steal: bool,
}

impl Probes {
    /// Loads and attaches everything. `cpus`: CPUs that this machine can ever have.
    ///
    /// # Errors
    /// When the kernel lacks something or refuses; `explain` makes it one line for a person.
    pub fn attach(cpus: u32) -> Result<Self, ProbeError> {
        Self::attach_with(cpus, false)
    }

    /// The same, and run-queue waits are counted by length.
    ///
    /// # Errors
    /// As `attach`.
    pub fn attach_with(cpus: u32, count_waits: bool) -> Result<Self, ProbeError> {
        let bytes = fs::read(BTF_PATH).map_err(ProbeError::NoBtf)?;
        let (offsets, time_accounting, counts) = {
            let kernel = btf::Btf::parse(&bytes).map_err(ProbeError::Btf)?;
            let offsets = offsets::find(&kernel, legacy_controller(Path::new("/sys/fs/cgroup")))
                .map_err(ProbeError::MissingMembers)?;
            let time_accounting = TimeAccounting {
                interrupts: kernel.has_member("rq", "prev_irq_time"),
                steal: kernel.has_member("rq", "prev_steal_time_rq"),
            };
            let counts = Counts {
                io: kernel.has_member("task_struct", "ioac.rchar"),
                disk_io: kernel.has_member("task_struct", "ioac.read_bytes"),
            };
            (offsets, time_accounting, counts)
        };
        let btf = Btf::parse(&bytes, aya::Endianness::default()).map_err(ProbeError::LoaderBtf)?;
        drop(bytes);
        let mut loader = EbpfLoader::new();
        loader
            .btf(Some(&btf))
            .map_max_entries("CPUS", cpus)
            .map_max_entries("COSTS", cpus * PROGRAMS);
        for (name, offset) in &offsets {
            loader.override_global(name, offset, true);
        }
        loader.override_global("CPU_COUNT", &cpus, true);
        let wait_switch = u32::from(count_waits);
        loader.override_global("COUNT_WAITS", &wait_switch, true);
        if count_waits {
            loader.map_max_entries("WAITS", THREAD_SLOTS);
        }
        let mut ebpf = loader.load(OBJECT).map_err(ProbeError::Load)?;
        // The iterator first: it is the only one that an unprivileged attach could refuse late.
        let iterator = link_iterator(&mut ebpf, &btf)?;
        for program in TRACEPOINTS {
            load(&mut ebpf, program, &btf)?;
        }
        if let Err(error) = load(&mut ebpf, IDLE_LOOP, &btf) {
            tracing::debug!(%error, "hidden switches would not be noticed on this kernel");
        }
        let mut probes = Self {
            ebpf,
            iterator,
            time_accounting,
            counts,
            attach_ns: None,
            counts_waits: count_waits,
            hot_links: Vec::new(),
        };
        probes.attach_ns = probes.measure_attaching(&btf);
        for program in TRACEPOINTS {
            let link = probes.attach_to(program)?;
            if HOT.contains(&program) {
                probes.hot_links.push((program, link));
            }
        }
        Ok(probes)
    }

    /// Renames this thread many times with and without a program that does nothing: the difference is what it
    /// costs to be attached.
    fn measure_attaching(&mut self, btf: &Btf) -> Option<u64> {
        load(&mut self.ebpf, NOTHING, btf).ok()?;
        let mut with = u64::MAX;
        let mut without = u64::MAX;
        for _round in 0..MEASURED_ROUNDS {
            without = without.min(renaming_ns());
            let link = self.attach_to(NOTHING).ok()?;
            with = with.min(renaming_ns());
            tracepoint(&mut self.ebpf, NOTHING).ok()?.detach(link).ok()?;
        }
        let clock = tracepoint(&mut self.ebpf, CLOCK).ok()?;
        clock.load(NOTHING, btf).ok()?;
        let link = clock.attach().ok()?;
        renaming_ns();
        tracepoint(&mut self.ebpf, CLOCK).ok()?.detach(link).ok()?;
        Some(with.saturating_sub(without) / MEASURED_RUNS)
    }

    /// Detaches the programs on hot paths.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn detach_hot(&mut self) -> Result<(), ProbeError> {
        for (program, link) in std::mem::take(&mut self.hot_links) {
            let fail = |source| ProbeError::Program { program, source };
            tracepoint(&mut self.ebpf, program)?.detach(link).map_err(fail)?;
        }
        Ok(())
    }

    /// Attaches a program that is loaded.
    ///
    /// # Errors
    /// When it is not loaded, or the kernel refuses.
    pub fn attach_to(&mut self, program: &'static str) -> Result<BtfTracePointLinkId, ProbeError> {
        let fail = |source| ProbeError::Program { program, source };
        tracepoint(&mut self.ebpf, program)?.attach().map_err(fail)
    }
}

/// How often this thread is renamed in one measurement, and how many measurements are made of each kind.
const MEASURED_RUNS: u64 = 2_000;
const MEASURED_ROUNDS: u32 = 5;

/// Time to give this thread its own name many times.
fn renaming_ns() -> u64 {
    let Ok(name) = rustix::thread::name() else {
        return 0;
    };
    let begun_ns = clock::monotonic_ns();
    for _run in 0..MEASURED_RUNS {
        if rustix::thread::set_name(&name).is_err() {
            return 0;
        }
    }
    clock::monotonic_ns().saturating_sub(begun_ns)
}

fn tracepoint<'a>(ebpf: &'a mut Ebpf, program: &'static str) -> Result<&'a mut BtfTracePoint, ProbeError> {
    ebpf.program_mut(program)
        .ok_or(ProbeError::Object(program))?
        .try_into()
        .map_err(|source| ProbeError::Program { program, source })
}

/// Loads one program for the tracepoint of its name.
fn load(ebpf: &mut Ebpf, program: &'static str, btf: &Btf) -> Result<(), ProbeError> {
    tracepoint(ebpf, program)?
        .load(program, btf)
        .map_err(|source| ProbeError::Program { program, source })
}

/// Loads the iterator and links it, so that a file for reading can be made again and again.
fn link_iterator(ebpf: &mut Ebpf, btf: &Btf) -> Result<OwnedFd, ProbeError> {
    let fail = |source| ProbeError::Program {
        program: ITERATOR,
        source,
    };
    let program: &mut Iter = ebpf
        .program_mut(ITERATOR)
        .ok_or(ProbeError::Object(ITERATOR))?
        .try_into()
        .map_err(fail)?;
    program.load("task", btf).map_err(fail)?;
    let fd = program.fd().map_err(fail)?.as_fd().as_raw_fd();
    bpf_link_create_iterator(fd).map_err(ProbeError::Iterator)
}

/// `BPF_LINK_CREATE` for an iterator, and `BPF_ITER_CREATE`: aya gives its iterator link away once only.
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_ITER_CREATE: libc::c_long = 33;
const BPF_TRACE_ITER: u32 = 28;

fn bpf_link_create_iterator(program: i32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        prog_fd: u32,
        target_fd: u32,
        attach_type: u32,
        flags: u32,
        iter_info: u64,
        iter_info_len: u32,
        reserved: u32,
    }
    let attributes = Attributes {
        prog_fd: program.cast_unsigned(),
        target_fd: 0,
        attach_type: BPF_TRACE_ITER,
        flags: 0,
        iter_info: 0,
        iter_info_len: 0,
        reserved: 0,
    };
    bpf(BPF_LINK_CREATE, &attributes)
}

/// A file that, read to its end, runs the iterator once over all tasks.
///
/// # Errors
/// What the kernel said.
pub fn open_iterator(link: &OwnedFd) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        link_fd: u32,
        flags: u32,
    }
    bpf(
        BPF_ITER_CREATE,
        &Attributes {
            link_fd: link.as_raw_fd().cast_unsigned(),
            flags: 0,
        },
    )
}

/// The bpf(2) calls that return a new file descriptor.
fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of plain integers, and nothing else.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The cgroup v1 controller whose hierarchy holds the containers, or `None` on a machine with cgroup v2 alone.
#[must_use]
pub fn legacy_controller(cgroup_root: &Path) -> Option<&'static str> {
    if cgroup_root.join("cgroup.controllers").exists() {
        return None;
    }
    ["memory", "pids", "cpu"]
        .into_iter()
        .find(|controller| cgroup_root.join(controller).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unified_hierarchy_has_no_legacy_controller() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("memory")).unwrap();
        assert_eq!(legacy_controller(dir.path()), Some("memory"));
        fs::write(dir.path().join("cgroup.controllers"), "cpu memory").unwrap();
        assert_eq!(legacy_controller(dir.path()), None);
    }
}

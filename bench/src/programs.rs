//! Programs in the kernel, attached for a while: the very object that the agent embeds, an empty one, the usual one;
//! and what the kernel counted of each.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use aya::{
    Btf, Ebpf, EbpfLoader, Endianness, include_bytes_aligned,
    programs::{BtfTracePoint, Program},
};
use procscope_agent::{
    host,
    probes::{BTF_PATH, IDLE_LOOP, Probes},
};

/// The compiled `bench-ebpf`.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench-ebpf.o"));

/// Who is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A program that does nothing, at each tracepoint of ours.
    Empty,
    /// What the agent attaches.
    Ours,
    /// Clock and per-CPU hash by process, at each tracepoint of ours.
    Usual,
}

impl Kind {
    /// In the order in which they take turns.
    pub(crate) const ALL: [Self; 3] = [Self::Empty, Self::Ours, Self::Usual];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Ours => "ours",
            Self::Usual => "usual",
        }
    }
}

/// Attached until it is dropped.
pub(crate) enum Attached {
    /// The agent's.
    Ours(Box<Probes>),
    /// One object for each tracepoint.
    Other(Vec<(String, Ebpf)>),
}

/// Nanoseconds and runs by tracepoint, as the kernel counted them.
pub(crate) type Counts = BTreeMap<String, (u64, u64)>;

/// What attaching needs.
pub(crate) struct Kernel {
    btf: Btf,
    /// CPUs that this machine can ever have.
    pub(crate) cpus: u32,
    /// The tracepoints of ours.
    pub(crate) tracepoints: Vec<String>,
}

impl Kernel {
    /// Asks the kernel for its types and the agent for its programs.
    ///
    /// # Errors
    /// Without the privilege to attach.
    pub(crate) fn open() -> Result<Self> {
        let bytes = fs::read(BTF_PATH).with_context(|| format!("read {BTF_PATH}"))?;
        let btf = Btf::parse(&bytes, Endianness::default()).with_context(|| format!("read {BTF_PATH}"))?;
        let possible =
            host::cpu_list(Path::new("/sys/devices/system/cpu/possible")).context("read the CPUs")?;
        let mut kernel = Self {
            btf,
            cpus: possible.iter().max().map_or(1, |last| last + 1),
            tracepoints: Vec::new(),
        };
        let mut tracepoints: Vec<String> = kernel.attach(Kind::Ours)?.counts()?.into_keys().collect();
        // Programs with which the agent measures itself have names of their own.
        tracepoints.retain(|tracepoint| kernel.attach_other(Kind::Empty, tracepoint).is_ok());
        kernel.tracepoints = tracepoints;
        Ok(kernel)
    }

    /// Attaches one copy.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn attach(&self, kind: Kind) -> Result<Attached> {
        if kind == Kind::Ours {
            let mut probes = Probes::attach(self.cpus)
                .context("attach the agent's programs: benches need root, and kernel BTF")?;
            // Attached by the agent only where it is needed; here it is measured, too.
            probes.attach_to(IDLE_LOOP).context("attach to the idle loop")?;
            return Ok(Attached::Ours(Box::new(probes)));
        }
        let mut objects = Vec::new();
        for tracepoint in &self.tracepoints {
            let object = self
                .attach_other(kind, tracepoint)
                .with_context(|| format!("attach the {} program to {tracepoint}", kind.word()))?;
            objects.push((tracepoint.clone(), object));
        }
        Ok(Attached::Other(objects))
    }

    fn attach_other(&self, kind: Kind, tracepoint: &str) -> Result<Ebpf> {
        let mut ebpf = EbpfLoader::new().btf(Some(&self.btf)).load(OBJECT)?;
        let program: &mut BtfTracePoint = ebpf
            .program_mut(kind.word())
            .context("it is not in the object")?
            .try_into()?;
        program.load(tracepoint, &self.btf)?;
        program.attach()?;
        Ok(ebpf)
    }
}

impl Attached {
    /// What the kernel counted since they were loaded; it counts while bpf stats are on.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(crate) fn counts(&self) -> Result<Counts> {
        let mut counts = Counts::new();
        match self {
            Self::Ours(probes) => {
                // A program has the name of its tracepoint.
                for (name, program) in probes.ebpf.programs() {
                    count(name, program, &mut counts)?;
                }
            }
            Self::Other(objects) => {
                for (tracepoint, object) in objects {
                    for (_name, program) in object.programs() {
                        count(tracepoint, program, &mut counts)?;
                    }
                }
            }
        }
        Ok(counts)
    }
}

/// Adds what the kernel counted of one program; one that is not loaded has no count.
fn count(tracepoint: &str, program: &Program, counts: &mut Counts) -> Result<()> {
    let Program::BtfTracePoint(program) = program else {
        return Ok(());
    };
    if program.fd().is_err() {
        return Ok(());
    }
    let info = program
        .info()
        .with_context(|| format!("ask for the counts at {tracepoint}"))?;
    let ns = u64::try_from(info.run_time().as_nanos()).context("read a count")?;
    counts.insert(tracepoint.to_owned(), (ns, info.run_count()));
    Ok(())
}

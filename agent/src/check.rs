//! `check`: what this kernel and these privileges allow, each line ok or missing with its remedy.

use std::{fs, io::Write, path::Path, time::Duration};

use procscope_startup::{Failure, Result};

use crate::{
    btf::Btf,
    host,
    observer::{Hooks, ObserveError, Observer, Settings, SourceChoice},
    offsets,
    probes::{BTF_PATH, ProbeError, legacy_controller},
    scrub::Cmdline,
};

const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

struct Line {
    ok: bool,
    required: bool,
    what: &'static str,
    found: String,
    remedy: &'static str,
}

/// Prints the lines.
///
/// # Errors
/// Exit code 1 when the agent cannot run here.
pub fn check(out: &mut impl Write) -> Result<()> {
    let [programs, hidden] = programs();
    let lines = [
        kernel(),
        btf(),
        members(),
        bpf_capability(),
        perfmon_capability(),
        pid_namespace(),
        clocks(),
        programs,
        hidden,
    ];
    let mut missing = 0;
    for line in &lines {
        let state = match (line.ok, line.required) {
            (true, _) => "ok     ",
            (false, true) => "MISSING",
            (false, false) => "note   ",
        };
        missing += usize::from(!line.ok && line.required);
        let remedy = if line.ok {
            String::new()
        } else {
            format!(" -> {}", line.remedy)
        };
        writeln!(out, "{state}  {}: {}{remedy}", line.what, line.found)
            .map_err(|error| Failure::failed(format_args!("could not print: {error}")))?;
    }
    if missing == 0 {
        return Ok(());
    }
    Err(Failure::failed(format_args!(
        "the agent cannot run here: {missing} of {} things are missing",
        lines.len()
    )))
}

/// Why the kernel programs do not run, in one line with what to do.
#[must_use]
pub fn explain(error: &ProbeError) -> Failure {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    let mut cause = String::new();
    while let Some(inner) = source {
        cause = inner.to_string();
        source = inner.source();
    }
    // The verifier's log can be pages; its first line says enough here.
    if let Some(first) = cause
        .lines()
        .next()
        .filter(|first| !first.is_empty() && !text.contains(first))
    {
        text = format!("{text}: {first}");
    }
    let lacking: Vec<&str> = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")]
        .into_iter()
        .filter(|(bit, _name)| !has_capability(*bit) && !has_capability(CAP_SYS_ADMIN))
        .map(|(_bit, name)| name)
        .collect();
    if matches!(error, ProbeError::NoBtf(_) | ProbeError::MissingMembers(_)) {
        return Failure::failed(text);
    }
    if lacking.is_empty() {
        return Failure::failed(format_args!(
            "{text}; `procscope-agent check` says what this kernel allows"
        ));
    }
    Failure::failed(format_args!(
        "{text}; run it as root or grant {}",
        lacking.join(" and ")
    ))
}

fn kernel() -> Line {
    let (release, machine, _node) = host::uname();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    Line {
        ok: version >= (6, 1),
        required: false,
        what: "kernel",
        found: format!("Linux {release} {machine}"),
        remedy: "6.1 is the oldest that is tested",
    }
}

fn btf() -> Line {
    let size = fs::metadata(BTF_PATH).map(|metadata| metadata.len());
    Line {
        ok: size.is_ok(),
        required: true,
        what: "kernel types (BTF)",
        found: size.map_or_else(
            |error| format!("{BTF_PATH}: {error}"),
            |size| format!("{BTF_PATH}, {size} bytes"),
        ),
        remedy: "needs a kernel with CONFIG_DEBUG_INFO_BTF=y and /sys in view",
    }
}

fn members() -> Line {
    let found = fs::read(BTF_PATH)
        .map_err(|error| error.to_string())
        .and_then(|bytes| {
            let btf = Btf::parse(&bytes).map_err(|error| error.to_string())?;
            offsets::find(&btf, legacy_controller(Path::new("/sys/fs/cgroup")))
                .map_err(|missing| missing.join(", "))
        });
    Line {
        ok: found.is_ok(),
        required: true,
        what: "members of kernel structs",
        found: found.map_or_else(|missing| missing, |found| format!("{} found", found.len())),
        remedy: "this kernel differs from those that are known, 6.1 to 6.18",
    }
}

fn has_capability(bit: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> bit & 1 == 1)
}

fn capability(bit: u32, what: &'static str, remedy: &'static str) -> Line {
    let ok = has_capability(bit) || has_capability(CAP_SYS_ADMIN);
    Line {
        ok,
        required: true,
        what,
        found: if ok { "held" } else { "not held" }.to_owned(),
        remedy,
    }
}

fn bpf_capability() -> Line {
    capability(
        CAP_BPF,
        "CAP_BPF",
        "run it as root, or grant CAP_BPF (AmbientCapabilities= of its unit)",
    )
}

fn perfmon_capability() -> Line {
    capability(
        CAP_PERFMON,
        "CAP_PERFMON",
        "run it as root, or grant CAP_PERFMON (AmbientCapabilities= of its unit)",
    )
}

fn pid_namespace() -> Line {
    let other = host::other_pid_namespace();
    Line {
        ok: matches!(other, Ok(None)),
        required: true,
        what: "pid namespace",
        found: match other {
            Ok(None) => "the host's".to_owned(),
            Ok(Some(other)) => format!("{other}, not the host's"),
            Err(error) => error.to_string(),
        },
        remedy: "start the container with hostPID (--pid=host)",
    }
}

fn clocks() -> Line {
    let shifted = host::shifted_clocks();
    Line {
        ok: shifted.is_none(),
        required: true,
        what: "clocks",
        found: shifted.map_or_else(
            || "the host's".to_owned(),
            |shifted| format!("shifted by a time namespace: {shifted}"),
        ),
        remedy: "start the agent in the host's time namespace",
    }
}

/// Starts observing and stops again: the programs, and the processes that the kernel keeps from them.
fn programs() -> [Line; 2] {
    let settings = Settings {
        host: "check".to_owned(),
        interval: Duration::from_secs(1),
        cmdline: Cmdline::Off,
        source: SourceChoice::Ebpf,
        runqueue_histogram: false,
        hooks: Hooks::Auto,
        kernel_budget_ppm: 1_000_000,
    };
    let observer = Observer::start(settings);
    let hidden = observer
        .as_ref()
        .ok()
        .map(|observer| observer.hidden_processes().to_vec());
    let programs = Line {
        ok: observer.is_ok(),
        required: true,
        what: "kernel programs",
        found: match observer {
            Ok(_observer) => "loaded, attached and detached again".to_owned(),
            Err(ObserveError::Probe(error)) => explain(&error).to_string(),
            Err(error) => error.to_string(),
        },
        remedy: "see the lines above",
    };
    let known = hidden.is_some();
    let hidden = Line {
        ok: hidden.as_ref().is_some_and(Vec::is_empty),
        required: false,
        what: "processes hidden from programs",
        found: match hidden {
            None => "not known".to_owned(),
            Some(hidden) if hidden.is_empty() => "none".to_owned(),
            Some(hidden) => format!("{hidden:?}"),
        },
        remedy: if known {
            "a sandbox's own, perhaps: they are sampled from /proc, and their rows say so"
        } else {
            "only the programs above can find them"
        },
    };
    [programs, hidden]
}

//! What this process may touch once it serves: its data folder, a few facts about the machine, and no network but
//! the connections that come to it. Landlock, as far as this kernel knows it.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus,
};

use crate::folder::Folder;

/// The newest set of rules that we ask for; older kernels give what they have.
const ABI_WANTED: ABI = ABI::V5;

/// What the engine reads about the machine and itself: memory, CPUs, limits, time zones. Missing ones are left out.
/// Of `/proc/self` only what tells nothing: its `environ` and `mem` would.
const READABLE: &[&str] = &[
    "/dev/random",
    "/dev/urandom",
    "/etc/localtime",
    "/etc/timezone",
    "/proc/cpuinfo",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/self/cgroup",
    "/proc/self/maps",
    "/proc/self/mountinfo",
    "/proc/self/stat",
    "/proc/self/statm",
    "/proc/self/status",
    "/proc/stat",
    "/proc/sys/kernel",
    "/proc/sys/vm",
    "/proc/uptime",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/usr/share/zoneinfo",
];

/// How far the sandbox goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// Everything that was asked for.
    Full,
    /// This kernel knows only a part of it.
    Partial,
    /// This kernel has no Landlock.
    Absent,
}

/// Locks this thread, and every thread that it starts from now on, into the parts of `folder` that the engine
/// writes; beside them a file can be made and renamed, and nothing can be read: a password may lie there. `library`
/// stays readable: the engine maps it again for stack traces.
///
/// # Errors
/// When Landlock is there and refuses the rules.
pub fn enter(folder: &Folder, library: &Path) -> Result<Sandbox, RulesetError> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI_WANTED))?
        .handle_access(AccessNet::from_all(ABI_WANTED))?
        .create()?;
    let all = AccessFs::from_all(ABI_WANTED);
    let read = AccessFs::from_read(ABI_WANTED) & !AccessFs::Execute;
    let mut ruleset = allow(ruleset, &folder.engine(), all)?;
    ruleset = allow(ruleset, &folder.backups(), all)?;
    ruleset = allow(ruleset, folder.path(), AccessFs::MakeReg | AccessFs::RemoveFile)?;
    ruleset = allow(
        ruleset,
        Path::new("/dev/null"),
        AccessFs::ReadFile | AccessFs::WriteFile,
    )?;
    ruleset = allow(ruleset, library, read)?;
    for path in READABLE {
        ruleset = allow(ruleset, Path::new(path), read)?;
    }
    let status = ruleset.restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Sandbox::Full,
        RulesetStatus::PartiallyEnforced => Sandbox::Partial,
        RulesetStatus::NotEnforced => Sandbox::Absent,
    })
}

fn allow(
    ruleset: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(file) = PathFd::new(path) else {
        return Ok(ruleset);
    };
    // A rule for a file may not name what only folders have.
    let access = if path.is_dir() {
        access
    } else {
        access & AccessFs::from_file(ABI_WANTED)
    };
    let ruleset = ruleset.add_rule(PathBeneath::new(&file, access))?;
    // The rule holds for the entry as it was found; one of procfs is made anew once nobody has it open.
    std::mem::forget(file);
    Ok(ruleset)
}

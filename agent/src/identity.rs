//! `ProcessKey` → names: what people call a process, where its program lies, which container and pod it is in. A cache
//! as large as the number of processes; /proc is asked only for what was there before us.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read as _},
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use procscope_agent_common::{ARGUMENTS_LEN, ProcessKey};
use sha2::{Digest as _, Sha256};

use crate::{
    fold::{ByKey, Facts},
    names::{command_name, container_id, escape, pod_uid},
    scrub::{Cmdline, command_line},
};

/// Control groups whose path is remembered at most; beyond that all are forgotten and asked again.
const CGROUPS_MAX: usize = 8192;

/// Bytes read of a file in /proc at most.
const PROC_BYTES_MAX: u64 = 16 << 10;

/// What people call a process. Texts are escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Identity for good, in every row and answer.
    pub process_id: [u8; 16],
    /// Name of the command.
    pub name: String,
    /// Executable; empty: not known.
    pub exe: String,
    /// Arguments as far as they are kept; empty: none.
    pub cmdline: String,
    /// Path of the control group; empty: not known.
    pub cgroup: String,
    /// Container; empty: none.
    pub container_id: String,
    /// Pod; empty: none.
    pub pod_uid: String,
    /// Start by the wall clock, nanoseconds since 1970, computed once.
    pub start_wall_ns: u64,
}

#[derive(Debug)]
struct Known {
    facts: Arc<Facts>,
    identity: Arc<Identity>,
    exe: Vec<u8>,
    arguments: Vec<u8>,
}

/// The cache.
#[derive(Debug)]
pub struct Identities {
    proc_root: PathBuf,
    boot_id: [u8; 16],
    legacy_controller: Option<&'static str>,
    cmdline: Cmdline,
    known: ByKey<ProcessKey, Known>,
    cgroup_paths: HashMap<u64, String>,
}

impl Identities {
    /// Nothing known yet. `legacy_controller`: as `probes::legacy_controller` says.
    #[must_use]
    pub fn new(
        proc_root: PathBuf,
        boot_id: [u8; 16],
        legacy_controller: Option<&'static str>,
        cmdline: Cmdline,
    ) -> Self {
        Self {
            proc_root,
            boot_id,
            legacy_controller,
            cmdline,
            known: ByKey::default(),
            cgroup_paths: HashMap::new(),
        }
    }

    /// The names of a process, and whether they are new: first seen, or after an exec or renaming.
    /// `wall_minus_boot_ns`: the wall clock's lead over `CLOCK_BOOTTIME`.
    pub fn of(
        &mut self,
        key: ProcessKey,
        facts: &Arc<Facts>,
        wall_minus_boot_ns: u64,
    ) -> (Arc<Identity>, bool) {
        if let Some(known) = self.known.get(&key)
            && (Arc::ptr_eq(&known.facts, facts) || known.facts == *facts)
        {
            return (Arc::clone(&known.identity), false);
        }
        let start_wall_ns = self.known.get(&key).map_or_else(
            || wall_minus_boot_ns.saturating_add(key.start_boottime_ns),
            |known| known.identity.start_wall_ns,
        );
        let (exe, arguments) = self.program(key, facts);
        let cgroup = self.cgroup(key, facts);
        let identity = Arc::new(Identity {
            process_id: process_id(self.boot_id, key),
            name: escape(&command_name(&facts.comm, &exe)),
            exe: escape(&exe),
            cmdline: command_line(&arguments, self.cmdline),
            container_id: container_id(&cgroup).unwrap_or_default().to_owned(),
            pod_uid: pod_uid(&cgroup).unwrap_or_default(),
            cgroup,
            start_wall_ns,
        });
        let known = Known {
            facts: Arc::clone(facts),
            identity: Arc::clone(&identity),
            exe,
            arguments,
        };
        self.known.insert(key, known);
        (identity, true)
    }

    /// The path of a control group; empty: not known.
    #[must_use]
    pub fn cgroup_of(&self, cgroup_id: u64) -> &str {
        self.cgroup_paths.get(&cgroup_id).map_or("", String::as_str)
    }

    /// The process has ended and was reported.
    pub fn forget(&mut self, key: ProcessKey) {
        self.known.remove(&key);
    }

    /// Executable and arguments: from the exec we saw, from the parent it was copied from, or from /proc.
    fn program(&self, key: ProcessKey, facts: &Facts) -> (Vec<u8>, Vec<u8>) {
        if facts.kernel_thread {
            return (Vec::new(), Vec::new());
        }
        if !facts.filename.is_empty() {
            return (facts.filename.clone(), facts.arguments.clone());
        }
        // Of a process that is only sampled nobody tells an exec.
        let same_program =
            |known: &&Known| !facts.from_proc && known.facts.exec_generation == facts.exec_generation;
        let ours = self.known.get(&key).filter(same_program);
        let parents = || {
            facts
                .parent
                .and_then(|parent| self.known.get(&parent))
                .filter(same_program)
        };
        if let Some(known) = ours.or_else(parents) {
            return (known.exe.clone(), known.arguments.clone());
        }
        let folder = self.proc_root.join(key.tgid.to_string());
        let exe = fs::read_link(folder.join("exe")).map(|path| path.into_os_string().into_vec());
        let arguments = read_start(&folder.join("cmdline")).map(|mut bytes| {
            bytes.truncate(ARGUMENTS_LEN);
            bytes
        });
        (exe.unwrap_or_default(), arguments.unwrap_or_default())
    }

    /// Path of the control group, from the cache or from /proc; only its last part when the process has gone.
    fn cgroup(&mut self, key: ProcessKey, facts: &Facts) -> String {
        if facts.kernel_thread {
            return String::new();
        }
        if let Some(path) = self.cgroup_paths.get(&facts.cgroup_id)
            && !facts.from_proc
        {
            return path.clone();
        }
        let file = self.proc_root.join(key.tgid.to_string()).join("cgroup");
        let path = read_start(&file)
            .ok()
            .and_then(|text| cgroup_path(&text, self.legacy_controller));
        let Some(path) = path else {
            return escape(&facts.cgroup_name);
        };
        if facts.from_proc {
            return path;
        }
        if self.cgroup_paths.len() >= CGROUPS_MAX {
            self.cgroup_paths.clear();
        }
        self.cgroup_paths.insert(facts.cgroup_id, path.clone());
        path
    }
}

/// The identity of a process for good: 128 bits of SHA-256 over boot id, tgid and start, in the form of a UUID.
#[must_use]
pub fn process_id(boot_id: [u8; 16], key: ProcessKey) -> [u8; 16] {
    let digest = Sha256::new()
        .chain_update(boot_id)
        .chain_update(key.tgid.to_le_bytes())
        .chain_update(key.start_boottime_ns.to_le_bytes())
        .finalize();
    let mut id = [0; 16];
    id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    uuid::Builder::from_custom_bytes(id).into_uuid().into_bytes()
}

/// The line of /proc/PID/cgroup that counts.
#[must_use]
pub fn cgroup_path(text: &[u8], legacy_controller: Option<&str>) -> Option<String> {
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let mut parts = line.splitn(3, |byte| *byte == b':');
        let (_number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let ours = match legacy_controller {
            None => controllers.is_empty(),
            Some(controller) => controllers
                .split(|byte| *byte == b',')
                .any(|one| one == controller.as_bytes()),
        };
        ours.then(|| escape(path))
    })
}

/// The first bytes of a file.
fn read_start(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(file)?
        .take(PROC_BYTES_MAX)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identities() -> Identities {
        Identities::new("/nonexistent".into(), [7; 16], None, Cmdline::Scrubbed)
    }

    #[test]
    fn an_identity_differs_by_boot_number_and_start() {
        let id = process_id([1; 16], ProcessKey::new(10, 20));
        assert_eq!(id, process_id([1; 16], ProcessKey::new(10, 20)));
        assert_ne!(id, process_id([2; 16], ProcessKey::new(10, 20)));
        assert_ne!(id, process_id([1; 16], ProcessKey::new(11, 20)));
        assert_ne!(id, process_id([1; 16], ProcessKey::new(10, 21)));
    }

    #[test]
    fn a_process_that_has_gone_has_the_names_that_the_kernel_told() {
        let facts = Arc::new(Facts {
            comm: b"true".to_vec(),
            filename: b"/bin/true".to_vec(),
            arguments: b"/bin/true\0--token=x\0".to_vec(),
            cgroup_name: b"docker-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.scope"
                .to_vec(),
            ..Facts::default()
        });
        let (identity, new) = identities().of(ProcessKey::new(10, 5), &facts, 1000);
        assert!(new);
        assert_eq!(
            (identity.name.as_str(), identity.exe.as_str()),
            ("true", "/bin/true")
        );
        assert_eq!(identity.cmdline, "/bin/true --token=********");
        assert_eq!(identity.container_id.len(), 64);
        assert_eq!(identity.start_wall_ns, 1005);
    }

    #[test]
    fn names_are_told_once_and_again_after_an_exec() {
        let mut identities = identities();
        let key = ProcessKey::new(10, 5);
        let before = Arc::new(Facts {
            comm: b"sh".to_vec(),
            ..Facts::default()
        });
        assert!(identities.of(key, &before, 1000).1);
        assert!(!identities.of(key, &before, 2000).1);
        let after = Arc::new(Facts {
            comm: b"ls".to_vec(),
            exec_generation: 1,
            ..Facts::default()
        });
        let (identity, new) = identities.of(key, &after, 3000);
        assert!(new);
        assert_eq!(
            identity.start_wall_ns, 1005,
            "the start for display is computed once"
        );
    }

    #[test]
    fn the_hierarchy_that_counts_is_chosen() {
        let text = b"5:cpuacct,cpu:/a\n4:memory:/docker/x\n0::/user.slice\n";
        assert_eq!(cgroup_path(text, None).as_deref(), Some("/user.slice"));
        assert_eq!(cgroup_path(text, Some("memory")).as_deref(), Some("/docker/x"));
        assert_eq!(cgroup_path(text, Some("cpu")).as_deref(), Some("/a"));
        assert_eq!(cgroup_path(b"nonsense\n::", Some("cpu")), None);
    }
}

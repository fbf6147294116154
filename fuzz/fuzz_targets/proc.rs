//! What the agent reads of /proc: any bytes as the files of a process, as its control group, as its names.

#![no_main]

use libfuzzer_sys::fuzz_target;
use procscope_agent::{
    identity, names,
    procfs::{self, ProcUnits},
};

/// Parts the input where a byte stands that the kernel writes into none of the files.
const BORDER: u8 = 0xff;

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(4, |byte| *byte == BORDER);
    let (stat, status, io) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
        parts.next(),
    );
    let units = ProcUnits {
        tick_ns: 10_000_000,
        page_size: 4096,
    };
    if let Some(record) = procfs::record(1, stat, status, io, 1, units) {
        assert!(record.tid == 1 && record.process.tgid == 1);
        assert_eq!(record.now.comm.last(), Some(&0), "a name ends within its field");
    }
    let cgroup = parts.next().unwrap_or(stat);
    for controller in [None, Some("memory")] {
        let Some(path) = identity::cgroup_path(cgroup, controller) else {
            continue;
        };
        assert!(!path.chars().any(char::is_control), "{path:?}");
        if let Some(id) = names::container_id(&path) {
            assert!(
                id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{id:?}"
            );
        }
        if let Some(uid) = names::pod_uid(&path) {
            assert!(
                [32, 36].contains(&uid.len())
                    && uid.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()),
                "{uid:?}"
            );
        }
    }
    let name = names::escape(&names::command_name(stat, status));
    assert!(!name.chars().any(char::is_control), "{name:?}");
});

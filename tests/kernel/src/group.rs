//! A control group of one's own: the kernel's other account of CPU time, exact to the nanosecond on version 1.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, bail};

use crate::Program;

/// Where each version of control groups keeps the CPU time of a group.
const ROOTS: [(&str, &str); 2] = [
    ("/sys/fs/cgroup/cpuacct", "cpuacct.usage"),
    ("/sys/fs/cgroup", "cpu.stat"),
];

/// Each group of this program has a name of its own.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A new control group with CPU accounting; removed when it is dropped.
pub struct Group {
    folder: PathBuf,
    usage: &'static str,
    /// What its processes had used before they were in it.
    outside_ns: u64,
}

impl Group {
    /// Makes one.
    ///
    /// # Errors
    /// Where none can be made.
    pub fn new() -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("procscope-test-{}-{number}", std::process::id());
        for (root, usage) in ROOTS {
            let folder = PathBuf::from(root).join(&name);
            if PathBuf::from(root).join("cgroup.procs").exists() && fs::create_dir(&folder).is_ok() {
                return Ok(Self {
                    folder,
                    usage,
                    outside_ns: 0,
                });
            }
        }
        bail!("no control group with CPU accounting can be made here")
    }

    /// Starts one of the loads of `binary` in it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(&mut self, binary: &str, arguments: &str) -> Result<Program> {
        let folder = self.folder.display();
        let mut program = Program::start(binary, &format!("in-group {folder} {arguments}"))?;
        self.outside_ns += program.hear("outside_ns")?;
        Ok(program)
    }

    /// What its processes have used in their lives, in nanoseconds.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn usage_ns(&self) -> Result<u64> {
        let text = fs::read_to_string(self.folder.join(self.usage))?;
        let inside_ns = if self.usage == "cpu.stat" {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("usage_usec "))
                .context("no usage_usec")?;
            line.trim().parse::<u64>()? * 1_000
        } else {
            text.trim().parse()?
        };
        Ok(inside_ns + self.outside_ns)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Refused while a process of a failed test is still in it.
        drop(fs::remove_dir(&self.folder));
    }
}

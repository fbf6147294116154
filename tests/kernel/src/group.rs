//! Control groups of one's own: to be found in, and for the kernel's other account of CPU time, exact to the nanosecond
//! on version 1.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, bail};
use procscope_agent::probes::legacy_controller;

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

/// A new control group in the hierarchy that the agent names them by; removed when it is dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one below the root.
    ///
    /// # Errors
    /// Where none can be made.
    pub fn new(name: &str) -> Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let root =
            legacy_controller(root).map_or_else(|| root.to_owned(), |controller| root.join(controller));
        Self::make(root.join(name))
    }

    /// Makes one within this one.
    ///
    /// # Errors
    /// Where none can be made.
    pub fn within(&self, name: &str) -> Result<Self> {
        Self::make(self.0.join(name))
    }

    fn make(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Refused while a process of a failed test is still in it.
        drop(fs::remove_dir(&self.0));
    }
}

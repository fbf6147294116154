//! Emulated machines with other kernels: what is put into them, how they run, and what they say.
//!
//! The tests are those of `tests/kernel`, compiled once more as static programs. A guest finds them where cargo put
//! them, so that they know nothing of it but the variable `PROCSCOPE_GUEST`.

pub mod archive;
pub mod image;
pub mod machine;
pub mod programs;

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result};

/// Where `cargo xtask setup --tests` put kernels, the emulator and a busybox.
///
/// # Errors
/// When the environment names no folder.
pub fn cache() -> Result<PathBuf> {
    let folder = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    folder("PROCSCOPE_CACHE")
        .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("procscope")))
        .or_else(|| Some(folder("HOME")?.join(".cache/procscope")))
        .map(|cache| cache.join("guests"))
        .context("find the cache: set HOME, XDG_CACHE_HOME or PROCSCOPE_CACHE to an absolute path")
}

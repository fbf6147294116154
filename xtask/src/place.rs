//! Where things lie: the workspace, the built programs, and the cache that set-up fills.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// The folders that every command works in.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The workspace.
    pub(crate) root: PathBuf,
    /// What set-up downloads and builds, shared by all clones of one user. `agent/build/kernel_programs.rs` and the suites in
    /// `tests/` find it by the same rule.
    pub(crate) cache: PathBuf,
    /// The programs of the dev profile: the folder that this program itself was built into.
    pub(crate) programs: PathBuf,
}

impl Place {
    /// Finds them from the environment.
    pub(crate) fn find() -> Result<Self> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest
            .parent()
            .context("find the workspace above xtask")?
            .to_owned();
        let own = env::current_exe().context("find this program's own file")?;
        let programs = own
            .parent()
            .context("find the folder of this program")?
            .to_owned();
        let cache = match folder_of("PROCSCOPE_CACHE") {
            Some(cache) => cache,
            None => user_folder("XDG_CACHE_HOME", ".cache")?.join("procscope"),
        };
        Ok(Self {
            root,
            cache,
            programs,
        })
    }

    /// The file that tells `agent/build/kernel_programs.rs` which compiler to use.
    pub(crate) fn ebpf_toolchain(&self) -> PathBuf {
        self.cache.join("ebpf-toolchain.toml")
    }

    /// Where programs that only the suites need are put, to be searched before the rest of `PATH`.
    pub(crate) fn test_tool_folders(&self) -> [PathBuf; 2] {
        [self.cache.join("tools/bin"), self.cache.join("venv/bin")]
    }
}

/// A folder that the XDG rules let a user move: `$variable`, else `$HOME/fallback`.
pub(crate) fn user_folder(variable: &str, fallback: &str) -> Result<PathBuf> {
    match folder_of(variable) {
        Some(folder) => Ok(folder),
        None => folder_of("HOME")
            .map(|home| home.join(fallback))
            .with_context(|| {
                format!("choose a folder: neither {variable} nor HOME is set to an absolute path")
            }),
    }
}

/// An environment variable that holds an absolute path; empty and relative ones count as unset.
fn folder_of(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

/// The program `name` in `PATH` or in the folders of system administration, which users often lack in theirs.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| is_program(file))
}

/// Whether this is a file that may be executed.
pub(crate) fn is_program(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_its_name() {
        assert!(find_program("sh").is_some_and(|file| is_program(&file)));
        assert_eq!(find_program("no-such-program-anywhere"), None);
    }
}

//! The data folder: made private, held by one engine at a time, and where the address is written.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use procscope_startup::{Failure, Result};

/// A data folder that belongs to this process as long as this lives.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Becomes the file `listen`: open from the start, for the sandbox opens no file here.
    address: File,
    /// Locked; the lock goes with the process, however it ends.
    _lock: File,
}

impl Folder {
    /// Makes the folder where it is missing, with mode 0700, and takes it.
    ///
    /// # Errors
    /// When it cannot be made or written to, or another engine has it.
    pub fn take(path: &Path) -> Result<Self> {
        let fail = |what: &str, error: &dyn std::fmt::Display| {
            Failure::failed(format_args!(
                "could not {what} the data folder {}: {error}; name another one with --data-dir",
                path.display()
            ))
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| fail("make", &error))?;
        let path = fs::canonicalize(path).map_err(|error| fail("open", &error))?;
        if path.to_str().is_none_or(|text| text.contains(['\n', '\''])) {
            return Err(fail("use", &"its name is not plain text"));
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("engine.lock"));
        let mut lock = lock.map_err(|error| fail("write to", &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let owner = fs::read_to_string(path.join("engine.lock")).unwrap_or_default();
                return Err(Failure::failed(format_args!(
                    "could not take the data folder {}: another engine has it (process {}); stop that one, or name another folder with --data-dir",
                    path.display(),
                    owner.trim()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(fail("lock", &error)),
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(|error| fail("write to", &error))?;
        // An address of an earlier run leads nowhere.
        drop(fs::remove_file(path.join("listen")));
        let address = File::create(path.join("listen.new")).map_err(|error| fail("write to", &error))?;
        let folder = Self {
            path,
            address,
            _lock: lock,
        };
        for part in [folder.engine(), folder.backups()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&part)
                .map_err(|error| fail("make", &error))?;
        }
        Ok(folder)
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the engine keeps its tables.
    #[must_use]
    pub fn engine(&self) -> PathBuf {
        self.path.join("clickhouse")
    }

    /// Where backups go.
    #[must_use]
    pub fn backups(&self) -> PathBuf {
        self.path.join("backups")
    }

    /// Writes the address that is served to the file `listen`, at once or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_address(&self, address: SocketAddr) -> Result<()> {
        let (new, file) = (self.path.join("listen.new"), self.path.join("listen"));
        (&self.address)
            .write_all(format!("{address}\n").as_bytes())
            .and_then(|()| fs::rename(&new, &file))
            .map_err(|error| {
                Failure::failed(format_args!(
                    "could not write the address to {}: {error}",
                    file.display()
                ))
            })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_folder_is_made_private() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::take(&dir.path().join("a/b")).unwrap();
        assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o700);
        folder.write_address("127.0.0.1:5".parse().unwrap()).unwrap();
        assert_eq!(
            fs::read_to_string(folder.path().join("listen")).unwrap(),
            "127.0.0.1:5\n"
        );
    }

    #[test]
    fn a_folder_has_one_engine() {
        let dir = tempfile::tempdir().unwrap();
        let first = Folder::take(dir.path()).unwrap();
        let line = Folder::take(dir.path()).unwrap_err().to_string();
        assert!(
            line.contains("another engine") && line.contains(&std::process::id().to_string()),
            "{line}"
        );
        drop(first);
        assert!(Folder::take(dir.path()).is_ok());
    }
}

//! What the spool asks of a folder, and the real one; nothing here knows what is in the files.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use procscope_startup::{Failure, Result, open_folder};

/// A file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Time since it was last written; zero when a clock was set back since.
    pub age: Duration,
}

/// A folder with files that grow at their end. Names are without slashes.
pub trait Disk {
    /// An open file.
    type File;

    /// Tells of each plain file; of what is none, or has a name of other than ASCII, it tells nothing. Stops after
    /// `max` entries; `false` when there were more.
    ///
    /// # Errors
    /// When the folder cannot be read.
    fn list(&mut self, max: usize, each: &mut dyn FnMut(Entry)) -> io::Result<bool>;

    /// Makes a file that is not there.
    ///
    /// # Errors
    /// When it is there, or cannot be made.
    fn create(&mut self, name: &str) -> io::Result<Self::File>;

    /// Appends all of the bytes.
    ///
    /// # Errors
    /// When some could not be written; others may have been.
    fn write(&mut self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()>;

    /// Cuts a file.
    ///
    /// # Errors
    /// When it cannot be cut.
    fn truncate(&mut self, file: &mut Self::File, bytes: u64) -> io::Result<()>;

    /// Waits until what was written is on the disk.
    ///
    /// # Errors
    /// When it may not be there.
    fn sync(&mut self, file: &mut Self::File) -> io::Result<()>;

    /// Waits until the names of files are on the disk.
    ///
    /// # Errors
    /// When they may not be there.
    fn sync_names(&mut self) -> io::Result<()>;

    /// All of a file; an error when it is longer than `max`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&mut self, name: &str, max: u64) -> io::Result<Vec<u8>>;

    /// Removes a file.
    ///
    /// # Errors
    /// When it is still there.
    fn remove(&mut self, name: &str) -> io::Result<()>;
}

/// A real folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    handle: File,
}

impl Folder {
    /// Makes the folder when it is not there, and checks that it is this user's alone.
    ///
    /// # Errors
    /// Exit code 1 when somebody else may write into it, or this user may not.
    pub fn open(path: &Path) -> Result<Self> {
        let refuse = |why: &dyn std::fmt::Display| {
            Failure::failed(format_args!(
                "could not use the spool folder {}: {why}; make it a folder of this user with mode 0700, or do \
                 without with --spool-max-bytes 0",
                path.display()
            ))
        };
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(refuse(&error)),
            _ => {}
        }
        let handle = open_folder(path).map_err(|why| refuse(&why))?;
        // Read-only folders, and folders of a user whose rights were taken away, are found out now.
        let probe = path.join("probe");
        let probed = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&probe)
            .and_then(|_probe| fs::remove_file(&probe));
        match probed {
            // A full disk is no reason not to start, and a stranger of this name is left alone.
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::AlreadyExists
                ) =>
            {
                return Err(refuse(&error));
            }
            _ => {}
        }
        Ok(Self {
            path: path.to_path_buf(),
            handle,
        })
    }
}

impl Disk for Folder {
    type File = File;

    fn list(&mut self, max: usize, each: &mut dyn FnMut(Entry)) -> io::Result<bool> {
        let now = Duration::from_nanos(crate::clock::wall_ns());
        for (index, entry) in fs::read_dir(&self.path)?.enumerate() {
            if index >= max {
                return Ok(false);
            }
            let entry = entry?;
            // Does not follow links. What has gone meanwhile is nothing to us.
            let Ok(found) = entry.metadata() else { continue };
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if found.is_file() {
                let written = Duration::from_secs(u64::try_from(found.mtime()).unwrap_or(0));
                each(Entry {
                    name,
                    bytes: found.len(),
                    age: now.saturating_sub(written),
                });
            }
        }
        Ok(true)
    }

    fn create(&mut self, name: &str) -> io::Result<File> {
        OpenOptions::new()
            .create_new(true)
            .append(true)
            .mode(0o600)
            .open(self.path.join(name))
    }

    fn write(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn truncate(&mut self, file: &mut File, bytes: u64) -> io::Result<()> {
        file.set_len(bytes)
    }

    fn sync(&mut self, file: &mut File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_names(&mut self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn read(&mut self, name: &str, max: u64) -> io::Result<Vec<u8>> {
        let file = OpenOptions::new()
            .read(true)
            // Whatever has taken the file's place since it was listed: no link is followed, no pipe waited for.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(self.path.join(name))?;
        let found = file.metadata()?;
        if !found.is_file() || found.len() > max {
            return Err(io::Error::other("is no segment"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(found.len()).unwrap_or(0));
        file.take(max).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

//! Data that an `INSERT … SELECT … FROM input(…)` reads: kept in a file of its own until the statement has ended.

use std::{
    fs::{self, File},
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
};

use crate::{
    engine::Engine,
    exception::{Code, Exception},
    running::Run,
    upload::{INSERT_PIECE_BYTES, body_error, fill},
};

/// Bytes of one insert's data that are kept at most.
const KEPT_BYTES_MAX: u64 = 1 << 30;

/// The folder, without what an engine that has died left there.
///
/// # Errors
/// When it cannot be emptied or made.
pub fn empty_folder(engine: &Path) -> io::Result<PathBuf> {
    let folder = engine.join("uploads");
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A file that lives as long as this value.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
}

impl Kept {
    /// Reads all data into a file: a statement whose data breaks off never begins.
    ///
    /// # Errors
    /// When the data breaks off or is too much, the disk is full, or the query was killed.
    pub fn keep(engine: &Engine, mut data: impl Read, run: &Run) -> Result<Self, Exception> {
        let path = engine.uploads().join(uuid::Uuid::new_v4().to_string());
        let failed = |error: &io::Error| {
            Exception::new(
                Code::NOT_ENOUGH_SPACE,
                format_args!("Cannot keep the request's body: {error}"),
            )
        };
        let mut file = File::create_new(&path).map_err(|error| failed(&error))?;
        let kept = Self { path };
        let mut piece = vec![0; INSERT_PIECE_BYTES];
        let mut room = KEPT_BYTES_MAX;
        loop {
            let filled = fill(&mut data, &mut piece).map_err(|error| body_error(&error))?;
            run.check()?;
            let length = u64::try_from(filled).unwrap_or(u64::MAX);
            if filled == 0 {
                return Ok(kept);
            }
            room = room.checked_sub(length).ok_or_else(|| {
                Exception::new(
                    Code::QUERY_IS_TOO_LARGE,
                    format_args!("The data of an INSERT … SELECT is longer than {KEPT_BYTES_MAX} bytes"),
                )
            })?;
            file.write_all(&piece[..filled]).map_err(|error| failed(&error))?;
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> String {
        self.path.display().to_string()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "could not remove an upload");
        }
    }
}

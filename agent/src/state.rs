//! The state folder: the agent's identity, and a lock so that no two agents claim it. The spool has a folder
//! of its own in it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use procscope_startup::{Failure, Result, check_state_folder};
use rustix::fs::{FlockOperation, flock};

const AGENT_ID_FILE: &str = "agent_id";

/// The opened folder; the lock is held until it is dropped.
#[derive(Debug)]
pub struct State {
    /// Who this agent is, also after a restart.
    pub agent_id: uuid::Uuid,
    /// Where it is.
    pub folder: PathBuf,
    _lock: File,
}

impl State {
    /// Makes the folder when it is not there, locks it, and reads or makes the identity.
    ///
    /// # Errors
    /// Exit code 1 when another agent uses the folder, when it cannot be written, or when others may write into it.
    pub fn open(folder: &Path) -> Result<Self> {
        let fail = |what: &str, error: &dyn std::fmt::Display| {
            Failure::failed(format_args!(
                "could not {what} in the state folder {}: {error}; name a folder that this user may write with \
                 --state-dir",
                folder.display()
            ))
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| fail("make a folder", &error))?;
        check_state_folder(folder)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(folder.join("lock"))
            .map_err(|error| fail("make the lock", &error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            if error == rustix::io::Errno::WOULDBLOCK {
                Failure::failed(format_args!(
                    "another agent uses the state folder {}; stop it, or name another folder with --state-dir",
                    folder.display()
                ))
            } else {
                fail("lock", &error)
            }
        })?;
        let agent_id =
            agent_id(&folder.join(AGENT_ID_FILE)).map_err(|error| fail("keep the agent's id", &error))?;
        Ok(Self {
            agent_id,
            folder: folder.to_path_buf(),
            _lock: lock,
        })
    }
}

/// Reads the id, or makes one: written beside, synced and renamed, so that it is there whole or not at all.
fn agent_id(file: &Path) -> io::Result<uuid::Uuid> {
    match fs::read_to_string(file) {
        Ok(text) => {
            if let Ok(id) = uuid::Uuid::parse_str(text.trim()) {
                return Ok(id);
            }
            tracing::warn!(file = %file.display(), "the agent's id could not be read; this agent gets a new one");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let id = uuid::Uuid::new_v4();
    let beside = file.with_extension("new");
    let mut new = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&beside)?;
    writeln!(new, "{id}")?;
    new.sync_all()?;
    fs::rename(&beside, file)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_the_same_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("state");
        let first = State::open(&folder).unwrap().agent_id;
        assert_eq!(State::open(&folder).unwrap().agent_id, first);
    }

    #[test]
    fn a_folder_that_others_may_write_into_is_refused_before_anything_is_in_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
        let error = State::open(&open).unwrap_err();
        assert!(
            error.code() == 1 && error.to_string().contains("others may write"),
            "{error}"
        );
        assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
        // As in a volume that is everybody's: a folder of its own in it.
        State::open(&open.join("agent")).unwrap();
    }

    #[test]
    fn a_second_agent_is_refused_while_the_first_runs() {
        let dir = tempfile::tempdir().unwrap();
        let first = State::open(dir.path()).unwrap();
        let error = State::open(dir.path()).unwrap_err();
        assert!(
            error.code() == 1 && error.to_string().contains("another agent"),
            "{error}"
        );
        drop(first);
        assert!(State::open(dir.path()).is_ok());
    }

    #[test]
    fn a_damaged_identity_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(AGENT_ID_FILE), b"\xff\xfe").unwrap_or_default();
        fs::write(dir.path().join(AGENT_ID_FILE), "no uuid").unwrap();
        assert!(!State::open(dir.path()).unwrap().agent_id.is_nil());
    }
}

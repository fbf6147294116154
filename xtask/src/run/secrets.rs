//! Secrets of one data folder: made once, and readable by their owner alone.

use std::{
    fmt::Write as _,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Bytes of chance in a secret, twice as many letters in its file.
const SECRET_BYTES: usize = 32;

/// Makes a folder that only its owner may enter.
pub(super) fn private_folder(folder: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("create {}", folder.display()))?;
    fs::set_permissions(folder, Permissions::from_mode(0o700))
        .with_context(|| format!("close {}", folder.display()))
}

/// The file of a secret; makes one where there is none yet.
pub(super) fn secret(file: &Path) -> Result<PathBuf> {
    let write = || format!("write the secret {}", file.display());
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
    {
        Ok(mut new) => new.write_all(random_hex()?.as_bytes()).with_context(write)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(write),
    }
    Ok(file.to_owned())
}

fn random_hex() -> Result<String> {
    let mut bytes = [0; SECRET_BYTES];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .context("read /dev/urandom")?;
    bytes.iter().try_fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").context("write hex")?;
        Ok(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let read = || fs::read_to_string(secret(&file).unwrap()).unwrap();
        let first = read();
        assert_eq!(first.len(), 2 * SECRET_BYTES);
        assert_eq!(read(), first);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(random_hex().unwrap(), random_hex().unwrap());
    }

    #[test]
    fn a_folder_is_closed_to_others_even_if_it_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("data");
        fs::create_dir(&folder).unwrap();
        private_folder(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    }
}

//! Secrets in files that only their owner can read.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use crate::{Failure, Result};

/// A secret longer than this is no secret of ours.
const SECRET_BYTES_MAX: u64 = 4096;

/// Reads a secret (token, password) from a file and trims the newline at its end.
///
/// # Errors
/// Exit code 2 when the file cannot be read, is empty or too long, or when others than its owner (and root's
/// group) may read it. The secret itself is never part of the line.
pub fn read_secret(file: &Path) -> Result<String> {
    let fail = |why: &dyn std::fmt::Display, remedy: &str| {
        Failure::usage(format_args!(
            "could not use the secret file {}: {why}; {remedy}",
            file.display()
        ))
    };
    let metadata = fs::metadata(file).map_err(|error| fail(&error, "name an existing file"))?;
    if metadata.mode() & 0o007 != 0 {
        return Err(fail(
            &"everybody on this machine may open it",
            "chmod 0600 it and replace the secret",
        ));
    }
    if metadata.len() > SECRET_BYTES_MAX {
        return Err(fail(
            &"it is longer than 4096 bytes",
            "write the secret alone into it",
        ));
    }
    let text = fs::read_to_string(file).map_err(|error| fail(&error, "let this user read it"))?;
    let secret = text.trim();
    if secret.is_empty() {
        return Err(fail(&"it is empty", "write the secret into it"));
    }
    if secret.contains(char::is_whitespace) || secret.contains(char::is_control) {
        return Err(fail(
            &"it holds blanks or control characters",
            "write the secret alone into it",
        ));
    }
    Ok(secret.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn check(text: &str, mode: u32) -> Result<String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        read_secret(&file)
    }

    #[test]
    fn a_secret_is_read_without_its_newline() {
        assert_eq!(check("s3cret\n", 0o600).unwrap(), "s3cret");
    }

    #[test]
    fn a_secret_that_everybody_can_read_is_refused_and_not_shown() {
        let line = check("s3cret\n", 0o644).unwrap_err().to_string();
        assert!(line.contains("0600") && !line.contains("s3cret"), "{line}");
    }

    #[test]
    fn an_empty_or_broken_secret_is_refused() {
        for text in ["", "\n", "two words", "two\nlines"] {
            assert!(check(text, 0o600).is_err(), "{text:?}");
        }
    }
}

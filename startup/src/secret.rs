//! Secrets and private keys in files that only their owner can read, and certificates beside them.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use crate::{Failure, Result};

/// A secret longer than this is no secret of ours.
const SECRET_BYTES_MAX: u64 = 16_384;

/// No chain of certificates and no list of authorities of a system is longer.
const CERTIFICATES_BYTES_MAX: u64 = 1 << 20;

/// Reads a secret (token, password) from a file and trims the newline at its end.
///
/// # Errors
/// Exit code 2 when the file cannot be read, is empty or too long, or when others than its owner (and root's
/// group) may read it. The secret itself is never part of the line.
pub fn read_secret(file: &Path) -> Result<String> {
    let text = read_private(file)?;
    let secret = text.trim();
    if secret.is_empty() {
        return Err(unusable(file, &"it is empty", "write the secret into it"));
    }
    if secret.contains(char::is_whitespace) || secret.contains(char::is_control) {
        return Err(unusable(
            file,
            &"it holds blanks or control characters",
            "write the secret alone into it",
        ));
    }
    Ok(secret.to_owned())
}

/// Reads a file that nobody but its owner (and root's group) may read, such as a private key.
///
/// # Errors
/// Exit code 2 when the file cannot be read, is too long, or when everybody may read it.
pub fn read_private(file: &Path) -> Result<String> {
    let metadata = fs::metadata(file).map_err(|error| unusable(file, &error, "name an existing file"))?;
    if metadata.mode() & 0o007 != 0 {
        return Err(unusable(
            file,
            &"everybody on this machine may open it",
            "chmod 0600 it and replace the secret",
        ));
    }
    if metadata.len() > SECRET_BYTES_MAX {
        return Err(unusable(
            file,
            &"it is longer than 16384 bytes",
            "write the secret alone into it",
        ));
    }
    fs::read_to_string(file).map_err(|error| unusable(file, &error, "let this user read it"))
}

/// Reads a file that everybody may read, such as certificates.
///
/// # Errors
/// Exit code 2 when the file cannot be read or is too long.
pub fn read_public(file: &Path) -> Result<String> {
    let fail = |why: &dyn std::fmt::Display, remedy: &str| {
        Failure::usage(format_args!(
            "could not use the file {}: {why}; {remedy}",
            file.display()
        ))
    };
    let metadata = fs::metadata(file).map_err(|error| fail(&error, "name an existing file"))?;
    if metadata.len() > CERTIFICATES_BYTES_MAX {
        return Err(fail(
            &"it is longer than 1 MiB",
            "name a file of PEM certificates",
        ));
    }
    fs::read_to_string(file).map_err(|error| fail(&error, "let this user read it"))
}

fn unusable(file: &Path, why: &dyn std::fmt::Display, remedy: &str) -> Failure {
    Failure::usage(format_args!(
        "could not use the secret file {}: {why}; {remedy}",
        file.display()
    ))
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

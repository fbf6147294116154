//! The engine's library: one pinned version of an npm package, checked by its bytes and unpacked into the cache.

use std::{
    env,
    fs::{self, File},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use super::{Outcome, apt, fresh_folder, write_file};
use crate::{
    place::{Place, find_program},
    shell::{output, retry},
};

/// The npm package that carries the library.
const PACKAGE: &str = "@chdb/lib-linux-x64-gnu";
/// Its version; the checksums below belong to it.
const VERSION: &str = "26.7.3-stable.1";
/// SHA-256 of the package as npm hands it out.
const PACKAGE_SHA256: &str = "c0d32b129e988f2b9a9a31c9141aecf5e1e2453f9a079efc4d36ab8e3f92b2ad";
/// SHA-256 of the library in it.
const LIBRARY_SHA256: &str = "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5";
/// The library in the package.
const LIBRARY: &str = "package/libchdb.so";
/// A user's own library, taken as it is.
const OVERRIDE: &str = "PROCSCOPE_LIBCHDB";

fn folder(place: &Place) -> PathBuf {
    place.cache.join(format!("libchdb-{VERSION}"))
}

/// npm, where the library is still to be fetched and npm is missing.
pub(super) fn missing_packages(place: &Place) -> Vec<String> {
    let needed = env::var_os(OVERRIDE).is_none() && !is_verified(&folder(place).join("libchdb.so"));
    if needed && find_program("npm").is_none() {
        apt::missing(&["npm".to_owned()])
    } else {
        Vec::new()
    }
}

/// Finds or fetches the library and returns where it is.
pub(super) fn set_up(place: &Place) -> Result<(PathBuf, Outcome)> {
    if let Some(own) = env::var_os(OVERRIDE).map(PathBuf::from) {
        ensure!(
            own.is_file(),
            "{OVERRIDE} names {}, which is no file",
            own.display()
        );
        let what = format!("{} (from {OVERRIDE}, not checked)", own.display());
        return Ok((own, Outcome::Found(what)));
    }
    let library = folder(place).join("libchdb.so");
    let what = format!("libchdb {VERSION}, {}", library.display());
    if is_verified(&library) {
        return Ok((library, Outcome::Found(what)));
    }
    if is_plain_file(&library) && check_sha256(&library, LIBRARY_SHA256).is_ok() {
        stamp(&library)?;
        return Ok((library, Outcome::Found(what)));
    }
    fetch(place, &library)?;
    Ok((library, Outcome::Installed(what)))
}

/// Fetches the package, checks it, and moves the library to its place.
fn fetch(place: &Place, library: &Path) -> Result<()> {
    let work = fresh_folder(&place.cache, "libchdb.part")?;
    eprintln!("fetching {PACKAGE} {VERSION} (178 MB)");
    let package = retry("fetching the engine library", || {
        let mut pack = Command::new("npm");
        pack.args(["pack", "--silent", &format!("{PACKAGE}@{VERSION}")])
            .current_dir(&work);
        let said = output(&mut pack)?;
        let package = work.join(said.lines().last().unwrap_or_default().trim());
        check_sha256(&package, PACKAGE_SHA256)?;
        Ok(package)
    })?;
    let mut unpack = Command::new("tar");
    unpack
        .arg("--extract")
        .arg("--file")
        .arg(&package)
        .args(["--no-same-owner", LIBRARY])
        .current_dir(&work);
    output(&mut unpack)?;
    let unpacked = work.join(LIBRARY);
    check_sha256(&unpacked, LIBRARY_SHA256)?;
    let folder = folder(place);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    fs::rename(&unpacked, library).with_context(|| format!("move the library to {}", library.display()))?;
    stamp(library)?;
    fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))
}

/// Holds a file against its checksum.
fn check_sha256(file: &Path, wanted: &str) -> Result<()> {
    let is = sha256(file)?;
    ensure!(
        is == wanted,
        "{} has the SHA-256 {is}, and {wanted} was expected: not used",
        file.display()
    );
    Ok(())
}

/// SHA-256 of a file, in hex.
fn sha256(file: &Path) -> Result<String> {
    use std::fmt::Write as _;
    let mut reader = File::open(file).with_context(|| format!("open {}", file.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = reader
            .read(&mut buffer)
            .with_context(|| format!("read {}", file.display()))?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
    }
    hash.finalize().iter().try_fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").context("write hex")?;
        Ok(text)
    })
}

/// Whether this is the file that an earlier run has checked, by its size and time of change: hashing half a
/// gigabyte again would take longer than all the rest.
fn is_verified(library: &Path) -> bool {
    let Ok(stamp) = stamp_of(library) else {
        return false;
    };
    is_plain_file(library) && fs::read_to_string(stamp_file(library)).is_ok_and(|text| text == stamp)
}

fn is_plain_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// Notes that a file was checked.
fn stamp(library: &Path) -> Result<()> {
    write_file(&stamp_file(library), &stamp_of(library)?)
}

fn stamp_file(library: &Path) -> PathBuf {
    library.with_extension("verified")
}

fn stamp_of(library: &Path) -> Result<String> {
    let metadata = fs::metadata(library).with_context(|| format!("look at {}", library.display()))?;
    let (size, inode) = (metadata.size(), metadata.ino());
    let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
    Ok(format!(
        "sha256 {LIBRARY_SHA256}\nsize {size}\ninode {inode}\nmtime {seconds}.{nanoseconds:09}\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("abc");
        fs::write(&file, "abc").unwrap();
        let wanted = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        check_sha256(&file, wanted).unwrap();
        fs::write(&file, "abd").unwrap();
        let error = check_sha256(&file, wanted).unwrap_err().to_string();
        assert!(error.contains("not used"), "{error}");
    }

    #[test]
    fn a_checked_file_is_trusted_until_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let library = dir.path().join("libchdb.so");
        fs::write(&library, "one").unwrap();
        assert!(!is_verified(&library));
        stamp(&library).unwrap();
        assert!(is_verified(&library));
        fs::write(&library, "other").unwrap();
        assert!(!is_verified(&library));
    }

    #[test]
    fn a_link_to_a_checked_file_is_no_checked_file() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("libchdb.so"));
        fs::write(&file, "one").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        stamp(&link).unwrap();
        assert!(!is_verified(&link));
    }
}

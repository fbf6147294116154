//! Folders in which a program keeps what nobody else may change.

use std::{
    fs::{self, File},
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, StatVfsMountFlags, fstatvfs},
    io::Errno,
};

use crate::{Failure, Result};

/// Opens a folder, no link to one, and checks that only root and this process's user may change what is in it.
///
/// # Errors
/// Why not, as the middle of a line.
pub fn open_folder(path: &Path) -> std::result::Result<File, String> {
    // Behind a slash at its end even a link that is not to be followed is.
    let path: PathBuf = path.components().collect();
    let folder = open(&path, OFlags::NOFOLLOW).map_err(|error| match fs::symlink_metadata(&path) {
        Ok(found) if found.is_symlink() => "it is a link".to_owned(),
        _ => std::io::Error::from(error).to_string(),
    })?;
    check(folder)
}

/// Checks the state folder of a program as `open_folder` does. A link is followed where root alone can have made it
/// and can change it: systemd's `DynamicUser=` makes one.
///
/// # Errors
/// Exit code 1 with why not and what to do.
pub fn check_state_folder(path: &Path) -> Result<()> {
    let checked = if is_roots_link(path) {
        open(path, OFlags::empty())
            .map_err(|error| std::io::Error::from(error).to_string())
            .and_then(check)
    } else {
        open_folder(path)
    };
    checked.map(drop).map_err(|why| {
        Failure::failed(format_args!(
            "could not use the state folder {}: {why}; make it a folder of this user or of root that nobody else may \
             write into, or name one that is not there yet with --state-dir",
            path.display()
        ))
    })
}

fn open(path: &Path, flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

fn check(folder: OwnedFd) -> std::result::Result<File, String> {
    let is_read_only = fstatvfs(&folder).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY));
    let folder = File::from(folder);
    let found = folder.metadata().map_err(|error| error.to_string())?;
    if ![0, rustix::process::geteuid().as_raw()].contains(&found.uid()) {
        return Err(format!("user {} owns it", found.uid()));
    }
    // Secrets of Kubernetes lie in such a folder, with any mode: nobody writes into it.
    if found.mode() & 0o022 != 0 && !is_read_only {
        return Err("others may write into it".to_owned());
    }
    Ok(folder)
}

fn is_roots_link(path: &Path) -> bool {
    let path: PathBuf = path.components().collect();
    let beside = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::symlink_metadata(&path).is_ok_and(|link| link.is_symlink() && link.uid() == 0)
        && fs::metadata(beside).is_ok_and(|beside| beside.uid() == 0 && beside.mode() & 0o022 == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    fn folder(within: &Path, name: &str, mode: u32) -> PathBuf {
        let path = within.join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn check(path: &Path, why: Option<&str>) {
        match (check_state_folder(path), why) {
            (Ok(()), None) => {}
            (Err(failure), Some(why)) => {
                let said = failure.to_string();
                assert!(
                    failure.code() == 1
                        && said.contains(why)
                        && said.contains("--state-dir")
                        && !said.contains('\n'),
                    "{said}"
                );
            }
            (outcome, why) => panic!("{}: {outcome:?}, not {why:?}", path.display()),
        }
    }

    #[test]
    fn a_folder_that_others_may_write_into_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (name, mode, why) in [
            ("private", 0o700, None),
            ("readable", 0o755, None),
            ("group", 0o775, Some("others may write")),
            ("everybody", 0o777, Some("others may write")),
            ("sticky", 0o1777, Some("others may write")),
        ] {
            check(&folder(dir.path(), name, mode), why);
        }
        check(&dir.path().join("none"), Some("No such file"));
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        check(&file, Some("Not a directory"));
    }

    #[test]
    fn a_folder_of_somebody_else_is_refused() {
        // Who may not give folders away has one of root's to look at.
        check(Path::new("/usr"), None);
        if rustix::process::geteuid().is_root() {
            let dir = tempfile::tempdir().unwrap();
            let other = folder(dir.path(), "other", 0o700);
            chown(&other, Some(65_534), None).unwrap();
            check(&other, Some("user 65534 owns it"));
        }
    }

    #[test]
    fn a_link_is_refused_unless_root_alone_can_have_made_it() {
        let dir = tempfile::tempdir().unwrap();
        let target = folder(dir.path(), "target", 0o700);
        let open = folder(dir.path(), "open", 0o1777);
        symlink(&target, open.join("link")).unwrap();
        check(&open.join("link"), Some("a link"));
        check(&open.join("link/"), Some("a link"));
        check(&open.join("link/."), Some("a link"));
        assert_eq!(open_folder(&open.join("link")).unwrap_err(), "it is a link");
        if rustix::process::geteuid().is_root() {
            let link = dir.path().join("link");
            symlink("target", &link).unwrap();
            check(&link, None);
            // It is what it leads to that counts.
            fs::set_permissions(&target, fs::Permissions::from_mode(0o777)).unwrap();
            check(&link, Some("others may write"));
        }
    }
}

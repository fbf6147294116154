//! What is in a guest: busybox, a shell and tools of this machine with their libraries, the tests.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    archive::Archive,
    programs::{Programs, output},
};

const INIT: &str = include_str!("init.sh");
const SPOOL_INIT: &str = include_str!("spool_init.sh");

/// Names that busybox has in a guest. Its shell would prefer its own `setpriv` and `unshare`, which know less, so
/// tests get this machine's shell.
const BUSYBOX: &[&str] = &[
    "cat", "cut", "grep", "head", "mount", "poweroff", "rm", "sed", "sleep", "stty", "sync", "tail",
    "timeout", "true", "umount", "uname",
];

/// Programs of this machine that the tests start.
const TOOLS: &[&str] = &["bpftool", "setpriv", "unshare"];

/// The file system that a guest starts with.
///
/// # Errors
/// Names what is missing, and what brings it.
pub fn image(cache: &Path, programs: &Programs) -> Result<Vec<u8>> {
    let mut archive = bare(cache, INIT)?;
    add_tool(&mut archive, Path::new("/bin/sh"), &find("sh")?)?;
    for name in TOOLS {
        add_tool(&mut archive, &Path::new("/usr/bin").join(name), &find(name)?)?;
    }
    let mut list = Vec::new();
    for helper in &programs.helpers {
        archive.program(helper, read(helper)?);
    }
    for test in &programs.tests {
        if !archive.has(&test.program) {
            archive.program(&test.program, read(&test.program)?);
        }
        list.push(format!("{} {}\n", test.program.display(), test.name));
    }
    archive.program(Path::new("/tests"), list.concat().into_bytes());
    Ok(archive.bytes())
}

/// One that writes a spool on its disk, or reads the one that is there; by `program`, which knows how.
///
/// # Errors
/// As `image`.
pub fn spool_image(cache: &Path, program: &Path) -> Result<Vec<u8>> {
    let mut archive = bare(cache, SPOOL_INIT)?;
    archive.folder(Path::new("/disk"));
    archive.program(Path::new("/spool"), read(program)?);
    Ok(archive.bytes())
}

fn bare(cache: &Path, init: &str) -> Result<Archive> {
    let mut archive = Archive::default();
    for folder in ["/proc", "/sys", "/tmp"] {
        archive.folder(Path::new(folder));
    }
    archive.console();
    archive.program(Path::new("/init"), init.as_bytes().to_vec());
    archive.program(Path::new("/bin/busybox"), read(&cache.join("busybox"))?);
    for name in BUSYBOX {
        archive.link(&Path::new("/bin").join(name), "busybox");
    }
    Ok(archive)
}

/// A program of this machine, with the libraries that the loader would load.
fn add_tool(archive: &mut Archive, at: &Path, program: &Path) -> Result<()> {
    archive.program(at, read(program)?);
    let said = output(Command::new("ldd").arg(program))?;
    for library in said
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(Path::new)
    {
        if !archive.has(library) {
            archive.program(library, read(library)?);
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("read {}: run `cargo xtask setup --tests`", file.display()))
}

/// A program in `PATH`.
fn find(name: &str) -> Result<PathBuf> {
    env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("find {name} in PATH: run `cargo xtask setup --tests`"))
}

//! Set-up: finds or installs what building, running and testing need, says each thing with its time, and does
//! nothing the second time.

mod apt;
mod ebpf;
mod engine;
mod guests;
mod tools;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, flock};

use crate::place::{Place, find_program};

/// What set-up has ready for the other commands.
#[derive(Debug)]
pub(crate) struct Ready {
    /// The engine's library.
    pub(crate) library: PathBuf,
}

/// How a thing came to be there.
enum Outcome {
    /// It was there already; the text says which one.
    Found(String),
    /// It is there now.
    Installed(String),
}

/// Sets up everything; with `tests`, what the suites need as well.
///
/// # Errors
/// What could not be found or installed. Where root is needed and missing, the commands are printed before.
pub(crate) fn run(place: &Place, tests: bool) -> Result<Ready> {
    fs::create_dir_all(&place.cache).with_context(|| format!("create {}", place.cache.display()))?;
    let alone = lock(&place.cache, "lock")?;

    if !missing_packages(place, tests).is_empty() {
        step("Debian packages", || {
            apt::update();
            // Which LLVM goes with Debian's newest Rust is read from the lists, so they are asked again.
            let missing = missing_packages(place, tests);
            apt::install(&missing)?;
            Ok(Outcome::Installed(missing.join(" ")))
        })?;
    }
    step("eBPF compiler", || ebpf::set_up(place))?;
    let mut library = PathBuf::new();
    step("engine library", || {
        let (path, outcome) = engine::set_up(place)?;
        library = path;
        Ok(outcome)
    })?;
    drop(alone);
    if tests {
        // These take minutes, and nobody who only builds and runs has to wait for them.
        let _alone = lock(&place.cache, "tools.lock")?;
        tools::set_up(place)?;
        guests::set_up(place)?;
    }
    Ok(Ready { library })
}

/// Finds or installs programs that Debian packages bring: pairs of both names.
///
/// # Errors
/// As `run`.
pub(crate) fn programs(place: &Place, wanted: &[(&str, &str)]) -> Result<()> {
    let _alone = lock(&place.cache, "lock")?;
    let missing: Vec<String> = wanted
        .iter()
        .filter(|(program, _package)| find_program(program).is_none())
        .map(|(_program, package)| (*package).to_owned())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    step("Debian packages", || {
        apt::update();
        apt::install(&missing)?;
        Ok(Outcome::Installed(missing.join(" ")))
    })
}

/// The Debian packages that are missing, of all steps together, so that one command installs them.
fn missing_packages(place: &Place, tests: bool) -> Vec<String> {
    let mut packages = ebpf::missing_packages(place);
    packages.extend(engine::missing_packages(place));
    if tests {
        packages.extend(tools::missing_packages());
    }
    packages.sort();
    packages.dedup();
    packages
}

/// Does one step and prints its line.
fn step(name: &str, work: impl FnOnce() -> Result<Outcome>) -> Result<()> {
    let start = Instant::now();
    let outcome = work().with_context(|| format!("set up the {name}"))?;
    let seconds = start.elapsed().as_secs_f64();
    let (verb, what) = match outcome {
        Outcome::Found(what) => ("found", what),
        Outcome::Installed(what) => ("installed", what),
    };
    eprintln!("{name:<16} {verb:<10} {seconds:>6.1} s  {what}");
    Ok(())
}

/// Keeps two set-ups from working in one cache at a time. The lock lasts as long as the file stays open.
fn lock(cache: &Path, name: &str) -> Result<File> {
    let path = cache.join(name);
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        eprintln!("waiting for another set-up to finish");
        flock(&file, FlockOperation::LockExclusive).with_context(|| format!("lock {}", path.display()))?;
    }
    Ok(file)
}

/// An empty folder in the cache for the work of one step.
fn fresh_folder(cache: &Path, name: &str) -> Result<PathBuf> {
    let folder = cache.join(name);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            bail!("empty {}: {error}", folder.display())
        }
        _ => {}
    }
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}

/// Writes a small file so that a reader sees the old text or the new one; the same text is not written again,
/// for cargo looks at the time of change.
fn write_file(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let part = path.with_extension("part");
    fs::write(&part, text).with_context(|| format!("write {}", part.display()))?;
    fs::rename(&part, path).with_context(|| format!("rename to {}", path.display()))
}

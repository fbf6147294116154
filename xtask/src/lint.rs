//! Everything that reads the code without running it: formatter, clippy, documentation, tidy, licences, advisories
//! and the style of `proto/`.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::{
    place::Place,
    runner::{Counts, Runner},
    shell::{cargo, output},
    tidy,
};

/// Advisories of `RustSec`, of 2026-08-21, packed: lint needs no network for them.
const ADVISORIES: &str = "xtask/advisory-db.tar.xz";
/// The style that `proto/` is held against.
const BUF: &str = r#"{"version":"v2","lint":{"use":["STANDARD"]},"breaking":{"use":["FILE"]}}"#;

/// Runs every lint, whatever the ones before found, and counts each as one test.
///
/// # Errors
/// When one cannot be run at all, its time is over, or Ctrl-C was pressed.
pub(crate) fn all(place: &Place, runner: &Runner, deadline: Instant) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut failed = Vec::new();
    for (name, mut command) in commands(place)? {
        let ran = runner.run(&mut command, deadline)?;
        counts += if ran.succeeded {
            Counts::PASSED
        } else {
            Counts::FAILED
        };
        if !ran.succeeded {
            failed.push(name);
        }
    }
    match tidy(&place.root) {
        Ok(()) => counts += Counts::PASSED,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            counts += Counts::FAILED;
            failed.push("tidy");
        }
    }
    if !failed.is_empty() {
        eprintln!("xtask: lints that failed: {}", failed.join(", "));
    }
    Ok(counts)
}

/// Prints every breach of the house rules.
///
/// # Errors
/// When there is one, or a file cannot be read.
pub(crate) fn tidy(root: &Path) -> Result<()> {
    let breaches = tidy::breaches(root)?;
    for breach in &breaches {
        println!("{breach}");
    }
    ensure!(breaches.is_empty(), "tidy found {} breaches", breaches.len());
    Ok(())
}

/// The lints that are programs, in the order of how soon they answer.
fn commands(place: &Place) -> Result<Vec<(&'static str, Command)>> {
    let cargo = |words: &str| {
        let mut command = cargo();
        command.args(words.split_whitespace()).current_dir(&place.root);
        command
    };
    let tool = |name: &str, words: &str| {
        let mut command = Command::new(place.cache.join("tools/bin").join(name));
        command.args(words.split_whitespace()).current_dir(&place.root);
        command
    };

    let all_but_kernel = "--locked --workspace --exclude agent-ebpf --exclude bench-ebpf";
    let format = cargo("fmt --all --check");
    let clippy = cargo(&format!(
        "clippy {all_but_kernel} --keep-going --all-targets -- -D warnings"
    ));
    // The kernel's side has no unwinding: its own lints run apart, on the host, without the eBPF compiler.
    let kernel =
        cargo("clippy --locked --package agent-ebpf --package bench-ebpf -- -C panic=abort -D warnings");
    let mut docs = cargo(&format!("doc {all_but_kernel} --no-deps"));
    docs.env("RUSTDOCFLAGS", "-D warnings");
    // Advisories are the business of `cargo audit`.
    let deny = tool("cargo-deny", "--locked check bans licenses sources");
    let mut audit = tool("cargo-audit", "audit --no-fetch --stale --deny warnings --db");
    audit.arg(advisories(place)?);
    let mut proto = tool("buf", "lint --config");
    proto.arg(BUF).current_dir(place.root.join("proto"));
    Ok(vec![
        ("fmt", format),
        ("buf", proto),
        ("deny", deny),
        ("audit", audit),
        ("clippy", clippy),
        ("clippy of the kernel's side", kernel),
        ("doc", docs),
    ])
}

/// Unpacks the advisories into the cache, as the git repository that `cargo audit` wants.
fn advisories(place: &Place) -> Result<PathBuf> {
    let archive = place.root.join(ADVISORIES);
    let bytes = fs::read(&archive).with_context(|| format!("read {}", archive.display()))?;
    let hash = Sha256::digest(&bytes);
    let name: OsString = format!(
        "advisory-db-{:02x}{:02x}{:02x}{:02x}",
        hash[0], hash[1], hash[2], hash[3]
    )
    .into();
    let folder = place.cache.join(name);
    if folder.join(".git").is_dir() {
        return Ok(folder);
    }
    let part = folder.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part).with_context(|| format!("remove {}", part.display()))?;
    }
    fs::create_dir_all(&part).with_context(|| format!("create {}", part.display()))?;
    output(
        Command::new("tar")
            .arg("--extract")
            .arg("--file")
            .arg(&archive)
            .current_dir(&part),
    )?;
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args([
            "-c",
            "user.name=xtask",
            "-c",
            "user.email=xtask@localhost",
            "-c",
            "commit.gpgsign=false",
        ]);
        git.args(["-c", "core.hooksPath=/dev/null"])
            .args(arguments)
            .current_dir(&part);
        for (name, _value) in env::vars_os() {
            if name.to_string_lossy().starts_with("GIT_") {
                git.env_remove(name);
            }
        }
        output(&mut git)
    };
    git(&["init", "--quiet"])?;
    git(&["add", "--all"])?;
    git(&["commit", "--quiet", "--message", "RustSec's advisories"])?;
    fs::rename(&part, &folder).with_context(|| format!("rename to {}", folder.display()))?;
    Ok(folder)
}

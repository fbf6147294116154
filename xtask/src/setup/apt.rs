//! Debian packages: which are there, and installing the others, or telling a person how.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    place::find_program,
    shell::{output, retry, run},
};

/// The command that installs, without the packages' names. It removes nothing that is there, and waits five
/// minutes for another run of apt.
const INSTALL: [&str; 7] = [
    "apt-get",
    "install",
    "--yes",
    "--no-install-recommends",
    "--no-remove",
    "-oDPkg::Lock::Timeout=300",
    "-oAcquire::Retries=2",
];

/// Whether this machine has Debian's package manager.
pub(super) fn is_here() -> bool {
    find_program("apt-get").is_some() && find_program("dpkg-query").is_some()
}

/// Those of `packages` that are not installed; all of them where there is no dpkg.
pub(super) fn missing(packages: &[String]) -> Vec<String> {
    let mut query = Command::new("dpkg-query");
    query
        .args(["--show", "--showformat=${binary:Package} ${db:Status-Status}\n"])
        .args(packages);
    // It exits 1 when one of them is unknown, and still lists the others.
    let listed = query
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    packages
        .iter()
        .filter(|package| !is_installed(&listed, package))
        .cloned()
        .collect()
}

/// Whether a listing of `NAME[:ARCH] STATUS` has this package as installed.
fn is_installed(listed: &str, package: &str) -> bool {
    listed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .any(|(name, status)| name.split(':').next() == Some(package) && status == "installed")
}

/// Installs packages.
///
/// # Errors
/// Without root: the commands to run are printed. With it: what apt said.
pub(super) fn install(packages: &[String]) -> Result<()> {
    if !is_here() {
        bail!(
            "this machine has no apt-get: install what these Debian packages hold: {}; for the eBPF compiler \
             `rustup toolchain install nightly --component rust-src` and a bpf-linker in PATH will do",
            packages.join(" ")
        );
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("These commands need root:");
        eprintln!("    sudo apt-get update");
        eprintln!("    sudo {} {}", INSTALL.join(" "), packages.join(" "));
        bail!(
            "{} Debian packages are missing and this user may not install them: run the two commands above, \
             then `cargo xtask setup` again",
            packages.len()
        );
    }
    retry("installing Debian packages", || {
        let mut install = Command::new(INSTALL[0]);
        install
            .args(&INSTALL[1..])
            .args(["-q", "-q"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut install).inspect_err(|_error| update())
    })
}

/// Reads the lists of packages anew, before the first is chosen: a machine's own lists may be months old, and name
/// a compiler that is too old, or files that are no longer there. A list that cannot be read is no failure: others
/// may have what we need, and installing says so if not. Who is not root may not; [`install`] tells them what to do.
pub(super) fn update() {
    if !is_here() || !rustix::process::geteuid().is_root() {
        return;
    }
    eprintln!("reading the lists of Debian packages");
    if let Err(error) = run(Command::new("apt-get").args(["update", "-q", "-q", "-oDPkg::Lock::Timeout=300"]))
    {
        eprintln!("xtask: {error:#}; going on with the lists that are here");
    }
}

/// Names of packages that begin with `beginning`, of those that can be had here.
pub(super) fn names(beginning: &str) -> Result<Vec<String>> {
    let said = output(Command::new("apt-cache").args(["pkgnames", beginning]))?;
    Ok(said.lines().map(str::to_owned).collect())
}

/// The packages that installing `package` would bring, itself included. Nothing is installed.
pub(super) fn with_missing_dependencies(package: &str) -> Result<Vec<String>> {
    let mut simulate = Command::new(INSTALL[0]);
    simulate.args(["install", "--simulate", "--no-install-recommends", package]);
    Ok(output(&mut simulate)?
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
        .map(str::to_owned)
        .collect())
}

/// Downloads packages and lays out what is in them below `folder`. This needs no root and installs nothing: a
/// machine that has a package in another version keeps it.
pub(super) fn unpack(packages: &[String], folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let archives = folder.join("archives");
    fs::create_dir_all(&archives).with_context(|| format!("create {}", archives.display()))?;
    retry(&format!("downloading {}", packages.join(" ")), || {
        let mut download = Command::new(INSTALL[0]);
        download
            .args([
                "download",
                "-q",
                "-q",
                "-oAcquire::Retries=2",
                "-oAPT::Sandbox::User=root",
            ])
            .args(packages)
            .current_dir(&archives);
        output(&mut download).map(drop).inspect_err(|_error| update())
    })?;
    for archive in fs::read_dir(&archives).with_context(|| format!("list {}", archives.display()))? {
        output(
            Command::new("dpkg-deb")
                .arg("--extract")
                .arg(archive?.path())
                .arg(folder),
        )?;
    }
    fs::remove_dir_all(&archives).with_context(|| format!("remove {}", archives.display()))
}

/// The major version of LLVM that a package brings with it, as its dependencies say.
pub(super) fn llvm_of(package: &str) -> Option<u32> {
    let only_depends = [
        "suggests",
        "recommends",
        "conflicts",
        "breaks",
        "replaces",
        "enhances",
    ];
    let mut depends = Command::new("apt-cache");
    depends
        .args(["depends", "--recurse"])
        .args(only_depends.map(|kind| format!("--no-{kind}")))
        .arg(package);
    let listed = output(&mut depends).ok()?;
    listed.lines().find_map(|line| {
        line.trim()
            .trim_start_matches("Depends: ")
            .strip_prefix("libllvm")?
            .parse()
            .ok()
    })
}

/// The package that a file belongs to.
pub(super) fn owner_of(file: &str) -> Result<String> {
    let said = output(Command::new("dpkg-query").args(["--search", file]))?;
    said.split(':')
        .next()
        .map(str::to_owned)
        .context("read the answer of dpkg-query")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_counts_only_when_it_is_installed_in_full() {
        let listed = "libzstd-dev:amd64 installed\npodman config-files\nrustc-web installed\n";
        assert!(is_installed(listed, "libzstd-dev"));
        assert!(is_installed(listed, "rustc-web"));
        assert!(!is_installed(listed, "podman"));
        assert!(!is_installed(listed, "rustc"));
    }
}

//! What the suite `guests` needs: kernels of Debian's clouds, an emulator for them, and a busybox. All of it comes out
//! of Debian packages into the cache, without root and without installing anything.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Outcome, apt, fresh_folder, step, write_file};
use crate::{
    place::{Place, find_program, is_program},
    shell::output,
};

/// The kernels by the versions that their packages' names begin with, and what `tests/guests` calls them. Both are in
/// Debian 12; another Debian may lack one.
const KERNELS: &[&str] = &["6.1", "6.12"];

/// What starts them.
const EMULATOR: &str = "qemu-system-x86_64";

/// Finds or downloads everything.
pub(super) fn set_up(place: &Place) -> Result<()> {
    let folder = place.cache.join("guests");
    fs::create_dir_all(folder.join("kernels")).with_context(|| format!("create {}", folder.display()))?;
    step("guests' kernels", || kernels(place, &folder))?;
    step("emulator", || emulator(place, &folder))?;
    step("guests' busybox", || busybox(place, &folder))
}

/// One file a kernel, and beside it the name of the package that it is from. A newer one is taken when the cache is
/// removed: a suite that passed goes on with what it passed with.
fn kernels(place: &Place, folder: &Path) -> Result<Outcome> {
    let mut names = Vec::new();
    let mut installed = false;
    for version in KERNELS {
        let kernel = folder.join("kernels").join(version);
        let name = folder.join("kernels").join(format!("{version}.package"));
        if !(kernel.is_file() && name.is_file()) {
            installed = true;
            let package = newest_kernel(version)?;
            let part = fresh_folder(&place.cache, "kernel.part")?;
            apt::unpack(std::slice::from_ref(&package), &part)?;
            fs::rename(kernel_file(&part)?, &kernel)
                .with_context(|| format!("put {} into place", kernel.display()))?;
            fs::remove_dir_all(&part).with_context(|| format!("remove {}", part.display()))?;
            write_file(&name, &package)?;
        }
        names.push(fs::read_to_string(&name).with_context(|| format!("read {}", name.display()))?);
    }
    Ok(outcome(installed, names.join(" ")))
}

/// The newest package of a kernel; the lists are read anew when they know none.
fn newest_kernel(version: &str) -> Result<String> {
    ensure!(
        apt::is_here(),
        "this machine has no apt-get: put the kernels {} of Debian's packages linux-image-*-cloud-amd64 by hand where \
         docs/testing.md says",
        KERNELS.join(" and ")
    );
    let find = || -> Result<Option<String>> {
        Ok(newest(version, &apt::names(&format!("linux-image-{version}."))?))
    };
    if let Some(package) = find()? {
        return Ok(package);
    }
    apt::update();
    find()?.with_context(|| {
        format!(
            "find a package linux-image-{version}.*-cloud-amd64: Debian 12 (bookworm and bookworm-security) has it; \
             add them to the sources of apt, or see docs/testing.md"
        )
    })
}

/// Of the names of packages, the kernel with the greatest numbers.
fn newest(version: &str, names: &[String]) -> Option<String> {
    let numbers = |name: &str| -> Option<Vec<u32>> {
        let rest = name.strip_prefix(&format!("linux-image-{version}."))?;
        let rest = rest.strip_suffix("-cloud-amd64")?;
        let rest = rest.split('+').next()?;
        rest.split(['.', '-']).map(|number| number.parse().ok()).collect()
    };
    names
        .iter()
        .filter_map(|name| Some((numbers(name)?, name)))
        .max()
        .map(|(_numbers, name)| name.clone())
}

/// `boot/vmlinuz-*` of an unpacked package.
fn kernel_file(folder: &Path) -> Result<PathBuf> {
    let boot = folder.join("boot");
    for entry in fs::read_dir(&boot).with_context(|| format!("list {}", boot.display()))? {
        let entry = entry.with_context(|| format!("list {}", boot.display()))?;
        if entry.file_name().to_string_lossy().starts_with("vmlinuz-") {
            return Ok(entry.path());
        }
    }
    bail!("there is no vmlinuz in {}", boot.display())
}

/// The system's, or one in the cache with those of its libraries that the system lacks: installing it could remove
/// other parts of qemu in another version.
fn emulator(place: &Place, folder: &Path) -> Result<Outcome> {
    let own = folder.join("qemu");
    let program = own.join("usr/bin").join(EMULATOR);
    if is_program(&program) {
        return Ok(Outcome::Found(program.display().to_string()));
    }
    if let Some(program) = find_program(EMULATOR) {
        return Ok(Outcome::Found(program.display().to_string()));
    }
    let part = fresh_folder(&place.cache, "qemu.part")?;
    let packages = apt::with_missing_dependencies("qemu-system-x86").or_else(|_error| {
        apt::update();
        apt::with_missing_dependencies("qemu-system-x86")
    })?;
    apt::unpack(&packages, &part)?;
    if own.exists() {
        fs::remove_dir_all(&own).with_context(|| format!("remove {}", own.display()))?;
    }
    fs::rename(&part, &own).with_context(|| format!("put {} into place", own.display()))?;
    Ok(Outcome::Installed(program.display().to_string()))
}

/// A busybox without libraries.
fn busybox(place: &Place, folder: &Path) -> Result<Outcome> {
    let program = folder.join("busybox");
    let what = program.display().to_string();
    if is_program(&program) {
        return Ok(Outcome::Found(what));
    }
    let part = fresh_folder(&place.cache, "busybox.part")?;
    apt::unpack(&["busybox-static".to_owned()], &part)?;
    let unpacked = [part.join("bin/busybox"), part.join("usr/bin/busybox")];
    let unpacked = unpacked
        .iter()
        .find(|file| is_program(file))
        .context("find busybox in its package")?;
    output(Command::new(unpacked).arg("true"))?;
    fs::rename(unpacked, &program).with_context(|| format!("put {} into place", program.display()))?;
    fs::remove_dir_all(&part).with_context(|| format!("remove {}", part.display()))?;
    Ok(Outcome::Installed(what))
}

fn outcome(installed: bool, what: String) -> Outcome {
    if installed {
        Outcome::Installed(what)
    } else {
        Outcome::Found(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: &str, names: &[&str], package: Option<&str>) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(newest(version, &names).as_deref(), package);
    }

    #[test]
    fn the_newest_kernel_is_the_one_with_the_greatest_numbers() {
        check(
            "6.1",
            &[
                "linux-image-6.1.0-9-cloud-amd64",
                "linux-image-6.1.0-56-cloud-amd64",
                "linux-image-6.1.0-57-cloud-amd64-unsigned",
                "linux-image-6.1.0-58-cloud-amd64-dbg",
            ],
            Some("linux-image-6.1.0-56-cloud-amd64"),
        );
        check(
            "6.12",
            &[
                "linux-image-6.12.101+deb12-cloud-amd64",
                "linux-image-6.12.99+deb12-cloud-amd64",
                "linux-image-6.12-cloud-amd64",
            ],
            Some("linux-image-6.12.101+deb12-cloud-amd64"),
        );
        check("6.1", &["linux-image-6.12.9+deb12-cloud-amd64"], None);
    }
}

//! The power of a machine is cut while an agent's spool is written: what was synced is there afterwards, and nothing that
//! is there is another than was written. A real kernel, a real file system, an emulated disk.

#![allow(
    clippy::print_stdout,
    reason = "the figures are for the people who read the run"
)]

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use procscope_tests_guests::{
    cache,
    image::spool_image,
    machine::{Heard, Machine},
    programs,
};

const KERNEL: &str = "6.12";
/// The power is cut once so many syncs were told.
const SYNCS: u32 = 4;
/// A guest that says no more by then is ended.
const TIME: Duration = Duration::from_mins(1);
/// As tests/guests/tests/guests.rs says.
const STARTS_MAX: u32 = 3;

/// Starts a guest and gives what it says after `GUEST ` to `each`, until that says that it has heard enough.
fn run(image: &Path, disk: &Path, folder: &Path, mut each: impl FnMut(&str) -> Result<bool>) -> Result<()> {
    let cache = cache()?;
    let kernel = cache.join("kernels").join(KERNEL);
    for _start in 0..STARTS_MAX {
        let machine = Machine::start(&cache, &kernel, image, Some(disk), folder)?;
        let deadline = Instant::now() + TIME;
        let mut up = false;
        loop {
            match machine.hear(deadline) {
                Heard::Line(line) => {
                    let Some(said) = line.strip_prefix("GUEST ") else {
                        println!("| {line}");
                        continue;
                    };
                    ensure!(!said.starts_with("failed"), "the guest {said}");
                    up |= said == "up";
                    // Dropping the machine cuts its power.
                    if each(said)? {
                        return Ok(());
                    }
                }
                Heard::End if !up => break,
                Heard::End | Heard::Late => bail!("the guest said no more: {:?}", machine.last_words(10)),
            }
        }
    }
    bail!("the guest died {STARTS_MAX} times while it started")
}

#[test]
fn what_was_synced_is_there_after_the_power_was_cut() -> Result<()> {
    let folder = env::temp_dir().join(format!("procscope-power-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let (image, disk) = (folder.join("image"), folder.join("disk"));
    fs::write(&image, spool_image(&cache()?, &programs::helper()?)?)?;
    fs::File::create(&disk)?.set_len(64 << 20)?;
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F"])
        .arg(&disk)
        .stdin(Stdio::null())
        .status()
        .context("run mkfs.ext4 (see cargo xtask setup)")?;
    ensure!(made.success(), "mkfs.ext4: {made}");

    let (mut synced, mut syncs) = (0_u64, 0);
    run(&image, &disk, &folder, |said| {
        if let Some(number) = said.strip_prefix("synced ") {
            synced = number.parse()?;
            syncs += 1;
        }
        Ok(syncs == SYNCS)
    })?;
    let (mut read, mut lost) = (Vec::new(), Vec::new());
    run(&image, &disk, &folder, |said| {
        if let Some(number) = said.strip_prefix("read ") {
            read.push(number.parse::<u64>()?);
        } else if let Some(loss) = said.strip_prefix("lost ") {
            lost.push(loss.to_owned());
        }
        Ok(said.starts_with("done"))
    })?;
    fs::remove_dir_all(&folder)?;
    println!("{synced} were synced, {} were there, lost: {lost:?}", read.len());
    let expected: Vec<u64> = (1..=u64::try_from(read.len())?).collect();
    ensure!(read == expected, "not one after the other: {read:?}");
    ensure!(
        u64::try_from(read.len())? >= synced && synced > 0,
        "{} of {synced} synced are there",
        read.len()
    );
    Ok(())
}

//! `cargo xtask man`: manual pages of all programs, and completions for shells, as packages want them.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    place::Place,
    run,
    shell::{output, run as run_command},
};

/// Programs that a person calls.
const PROGRAMS: [&str; 4] = [
    "procscope",
    "procscope-agent",
    "procscope-collector",
    "procscope-engine",
];
/// Shells, and the name that each gives to a file of completions.
const SHELLS: [(&str, &str); 3] = [
    ("bash", "procscope.bash"),
    ("zsh", "_procscope"),
    ("fish", "procscope.fish"),
];

/// Builds, and writes `man1/` and `completions/` into a folder.
///
/// # Errors
/// What could not be built or written.
pub(crate) fn write(place: &Place, folder: &Path) -> Result<()> {
    run::build(place, false)?;
    let pages = folder.join("man1");
    for program in PROGRAMS {
        run_command(Command::new(place.programs.join(program)).arg("man").arg(&pages))?;
    }
    let completions = folder.join("completions");
    fs::create_dir_all(&completions).with_context(|| format!("create {}", completions.display()))?;
    for (shell, name) in SHELLS {
        let text = output(Command::new(place.programs.join("procscope")).args(["completions", shell]))?;
        let path = completions.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    println!("{}", folder.display());
    Ok(())
}

//! Where programs and libraries lie: those of the workspace, and what `cargo xtask setup` brought.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};

/// A program of the workspace, beside this program's own; tests lie in a folder below.
///
/// # Errors
/// When it was not built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folders = own.ancestors().skip(1).take(2);
    let mut binaries = folders.map(|folder| folder.join(name));
    binaries.find(|binary| binary.exists()).with_context(|| {
        format!(
            "{name} is missing beside {}: `cargo build --workspace` makes it",
            own.display()
        )
    })
}

/// Where `cargo xtask setup` puts what it installs.
///
/// # Errors
/// When nothing says where that is.
pub fn cache() -> Result<PathBuf> {
    Ok(
        match (
            std::env::var_os("PROCSCOPE_CACHE"),
            std::env::var_os("XDG_CACHE_HOME"),
            std::env::var_os("HOME"),
        ) {
            (Some(cache), _, _) => PathBuf::from(cache),
            (None, Some(cache), _) => PathBuf::from(cache).join("procscope"),
            (None, None, home) => PathBuf::from(home.context("HOME is set")?).join(".cache/procscope"),
        },
    )
}

/// The engine's library, where `cargo xtask setup` puts it.
///
/// # Errors
/// When it is not there.
pub fn library() -> Result<PathBuf> {
    if let Some(library) = std::env::var_os("PROCSCOPE_LIBCHDB") {
        return Ok(library.into());
    }
    let cache = cache()?;
    let mut found: Vec<PathBuf> = fs::read_dir(&cache)
        .with_context(|| format!("list {}: run `cargo xtask setup`", cache.display()))?
        .filter_map(|entry| Some(entry.ok()?.path().join("libchdb.so")))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found
        .pop()
        .with_context(|| format!("no libchdb.so in {}: run `cargo xtask setup`", cache.display()))
}

/// A program of the Python packages that `cargo xtask setup` installed.
///
/// # Errors
/// When it is not there.
pub fn python_program(name: &str) -> Result<PathBuf> {
    let program = cache()?.join("venv/bin").join(name);
    ensure!(
        program.exists(),
        "{} is missing: run `cargo xtask setup`",
        program.display()
    );
    Ok(program)
}

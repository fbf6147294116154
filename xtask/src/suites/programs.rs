//! The test programs that cargo has compiled: which there are, and to whose package each belongs.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::shell::{cargo, output};

/// One compiled test program.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// Folder of its package, below the workspace: `tests/kernel`.
    pub(super) package: PathBuf,
    /// Name of its target: the file in `tests/`, or the package's own program or library.
    pub(super) target: String,
    executable: PathBuf,
}

/// A line of what cargo says with `--message-format=json`.
#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// What compiles every test program. It is always the same selection of packages: with another one cargo would
/// choose other features for what they depend on, and compile half of it again. So a suite does not ask cargo to
/// run its package alone, but runs the programs itself.
pub(super) fn compile(root: &Path) -> Command {
    let mut test = cargo();
    test.args([
        "test",
        "--locked",
        "--workspace",
        "--exclude",
        "agent-ebpf",
        "--exclude",
        "bench-ebpf",
        "--no-run",
    ])
    .current_dir(root);
    test
}

/// All test programs; compiles what is not.
pub(super) fn list(root: &Path) -> Result<Vec<Program>> {
    let said = output(compile(root).arg("--message-format=json-render-diagnostics"))?;
    said.lines()
        .filter_map(|line| program(root, line).transpose())
        .collect()
}

/// The program that a line of cargo's tells of, if it does.
fn program(root: &Path, line: &str) -> Result<Option<Program>> {
    let message: Message =
        serde_json::from_str(line).with_context(|| format!("read cargo's line `{line}`"))?;
    let Message {
        reason,
        manifest_path: Some(manifest),
        target: Some(target),
        profile: Some(profile),
        executable,
    } = message
    else {
        return Ok(None);
    };
    let Some(executable) = executable.filter(|_| reason == "compiler-artifact" && profile.test) else {
        return Ok(None);
    };
    let package = manifest
        .parent()
        .and_then(|folder| folder.strip_prefix(root).ok());
    let package = package
        .with_context(|| format!("find {} in the workspace", manifest.display()))?
        .to_owned();
    Ok(Some(Program::new(package, target.name, executable)))
}

impl Program {
    /// From its three parts.
    pub(super) fn new(
        package: impl Into<PathBuf>,
        target: impl Into<String>,
        executable: impl Into<PathBuf>,
    ) -> Self {
        Self {
            package: package.into(),
            target: target.into(),
            executable: executable.into(),
        }
    }

    /// Whether it starts the guests of the suite of that name.
    pub(super) fn is_guests(&self) -> bool {
        self.package == Path::new("tests/guests") && self.target == "guests"
    }

    /// Runs it as cargo would.
    pub(super) fn command(&self, root: &Path) -> Command {
        let folder = root.join(&self.package);
        let mut command = Command::new(&self.executable);
        command.env("CARGO_MANIFEST_DIR", &folder).current_dir(&folder);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, program: Option<(&str, &str, &str)>) {
        let program = program.map(|(package, target, executable)| Program::new(package, target, executable));
        assert_eq!(super::program(Path::new("/w"), line).unwrap(), program, "{line}");
    }

    #[test]
    fn a_test_program_is_known_by_its_package_and_target() {
        check(
            r#"{"reason":"compiler-artifact","manifest_path":"/w/tests/kernel/Cargo.toml","target":{"name":"audit"},
                "profile":{"test":true},"executable":"/w/target/debug/deps/audit-1"}"#,
            Some(("tests/kernel", "audit", "/w/target/debug/deps/audit-1")),
        );
    }

    #[test]
    fn programs_and_libraries_that_are_no_tests_are_left_out() {
        check(
            r#"{"reason":"compiler-artifact","manifest_path":"/w/cli/Cargo.toml","target":{"name":"procscope"},
                "profile":{"test":false},"executable":"/w/target/debug/procscope"}"#,
            None,
        );
        check(
            r#"{"reason":"compiler-artifact","manifest_path":"/elsewhere/serde/Cargo.toml","target":{"name":"serde"},
                "profile":{"test":false},"executable":null}"#,
            None,
        );
        check(r#"{"reason":"build-finished","success":true}"#, None);
    }
}

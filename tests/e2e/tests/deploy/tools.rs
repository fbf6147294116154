//! Where tools, files and built programs are, how a command is run, and waiting for a condition.

use std::{
    collections::BTreeSet,
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

/// A folder of `deploy/`.
pub(crate) fn deploy(folder: &str) -> PathBuf {
    root().join("deploy").join(folder)
}

/// What set-up fills: `xtask/src/place.rs` has the same rule.
pub(crate) fn cache() -> PathBuf {
    let folder = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    folder("PROCSCOPE_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("procscope")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/procscope")))
        .expect("set HOME, XDG_CACHE_HOME or PROCSCOPE_CACHE to an absolute path")
}

/// A program that set-up installs; without it the test fails, and says so.
pub(crate) fn tool(name: &str) -> PathBuf {
    let mut folders = vec![cache().join("tools/bin"), cache().join("venv/bin")];
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: run `cargo xtask setup --tests`"))
}

/// Fails unless the test runs as root, which containers and capabilities need here.
pub(crate) fn need_root() {
    let uid = rustix::process::geteuid();
    assert!(
        uid.is_root(),
        "this test needs root: run `cargo xtask test e2e` as root"
    );
}

/// Runs a command to its end; what it said is part of the failure.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("could not run {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// What a command wrote to stdout.
pub(crate) fn stdout(command: &mut Command) -> String {
    String::from_utf8(run(command).stdout).expect("read its output as UTF-8")
}

/// Runs a command that reads `input` from stdin, and gives back its stdout.
pub(crate) fn pipe(command: &mut Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = input.as_bytes().to_owned();
    let writer = thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    // One that failed may have stopped reading; its status says more.
    let written = writer.join().unwrap();
    assert!(
        output.status.success(),
        "{command:?}\n{input}\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    written.expect("write its input");
    String::from_utf8(output.stdout).expect("read its output as UTF-8")
}

/// A program of the workspace, beside this test's own.
pub(crate) fn program(package: &str) -> PathBuf {
    procscope_tests_e2e::binary(package).unwrap()
}

/// Checks that a program knows every option and variable that a manifest or unit gives it.
pub(crate) fn check_words(package: &str, words: &[String]) {
    let program = program(package);
    let help = match words.first().filter(|word| !word.starts_with('-')) {
        Some(subcommand) => stdout(Command::new(&program).args([subcommand, "--help"])),
        None => stdout(Command::new(&program).arg("--help")),
    };
    let known: BTreeSet<&str> = help
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
        .collect();
    for word in words {
        let name = word.split('=').next().unwrap();
        if name.starts_with("--") || name.starts_with("PROCSCOPE_") {
            assert!(known.contains(name), "{package} does not know `{name}`:\n{help}");
        }
    }
}

/// Looks again until `look` gives something, at most `limit`.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} for {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A child that ends with the test, however the test ends.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(
            command
                .spawn()
                .unwrap_or_else(|error| panic!("could not start {command:?}: {error}")),
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody left to tell.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A YAML file of one or more documents, as JSON; the reader is the one of kubernetes-validate.
pub(crate) fn yaml(text: &str) -> Vec<serde_json::Value> {
    let script = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)";
    tool("kubernetes-validate");
    let json = pipe(
        Command::new(cache().join("venv/bin/python3")).args(["-c", script]),
        text,
    );
    serde_json::from_str(&json).unwrap()
}

/// Files of a folder whose names end so, sorted.
pub(crate) fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && path.to_string_lossy().ends_with(ending))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no {ending} in {}", folder.display());
    files
}

/// A secret in a file that its owner alone can read.
pub(crate) fn write_secret(file: &Path, secret: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .unwrap();
    file.write_all(secret.as_bytes()).unwrap();
}

//! What a query cannot reach even where no statement is refused, and that the engine ends with its parent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at once"
)]

mod support;

use std::{
    fs,
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use support::{Engine, command, signal, wait_until};

/// Whether this kernel has Landlock: ABI version by the system call itself.
fn has_landlock() -> bool {
    let log = Command::new("sh")
        .args(["-c", "grep -q landlock /proc/kallsyms"])
        .status()
        .unwrap();
    log.success()
}

#[test]
fn files_beyond_the_data_folder_are_out_of_reach() {
    if !has_landlock() {
        eprintln!("ignored: this kernel has no Landlock, and the engine says so when it starts");
        return;
    }
    let engine = Engine::start();
    let secret = engine.data_dir().join("password");
    fs::write(&secret, "s3cret\n").unwrap();
    // A template is a file that the list of refused statements does not know.
    for path in [
        "/etc/passwd",
        "/proc/self/environ",
        "/proc/1/environ",
        &secret.display().to_string(),
        "../password",
    ] {
        let statement = format!("SELECT 1 FORMAT Template SETTINGS format_template_resultset = '{path}'");
        let (status, text) = engine.post("", statement.as_bytes());
        assert_ne!(status, 200, "{path}: {text}");
        assert!(text.contains("Permission denied"), "{path}: {text}");
    }
    assert_eq!(engine.sql("SELECT 1"), "1\n");
}

#[test]
fn the_engine_ends_with_its_parent() {
    let dir = tempfile::tempdir().unwrap();
    let engine = command(dir.path(), &["--die-with-parent"]);
    let words: Vec<_> = std::iter::once(engine.get_program())
        .chain(engine.get_args())
        .collect();
    let words: Vec<_> = words
        .iter()
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    // `--die-with-parent=false` stands among the usual arguments; given twice, it would be refused.
    let line = words.join(" ").replace("'--die-with-parent=false'", "");
    let mut parent = Command::new("sh")
        .args(["-c", &format!("{line} & wait")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let listen = dir.path().join("data/listen");
    wait_until("the engine listens", Duration::from_mins(1), || listen.exists());
    let address = fs::read_to_string(&listen).unwrap();
    assert!(TcpStream::connect(address.trim()).is_ok());
    signal(parent.id(), "KILL");
    parent.wait().unwrap();
    wait_until("the engine has ended", Duration::from_secs(20), || {
        TcpStream::connect(address.trim()).is_err()
    });
}

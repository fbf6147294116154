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
    path::{Path, PathBuf},
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
    engine.sql("CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a");
    engine.sql("INSERT INTO t VALUES (7)");
    assert_eq!(engine.sql("SELECT a FROM t"), "7\n");
    // No statement names a file elsewhere: a link within the folder does.
    let rows = find(&engine.data_dir(), "data.bin").expect("the rows of a part");
    let elsewhere = tempfile::tempdir().unwrap();
    let moved = elsewhere.path().join("data.bin");
    fs::copy(&rows, &moved).unwrap();
    fs::remove_file(&rows).unwrap();
    std::os::unix::fs::symlink(&moved, &rows).unwrap();
    let (status, text) = engine.post("", b"SELECT a FROM t");
    assert_ne!(status, 200, "{text}");
    assert!(text.contains("Permission denied"), "{text}");
    assert_eq!(engine.sql("SELECT 1"), "1\n");
}

/// A file of this name in a folder or below.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&path, name)
        } else {
            (entry.file_name() == name).then_some(path)
        }
    })
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

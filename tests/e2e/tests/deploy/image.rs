//! The agent's image: built from the static program alone, run by podman and runc with two capabilities, it samples
//! the processes of the host, and finds its collector.

use std::{
    env, fs,
    io::Read as _,
    net::TcpListener,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::Value;

use crate::tools::{Running, deploy, need_root, root, run, stdout, tool, wait_for, write_secret};

/// The image, for as long as a test holds it.
#[derive(Debug)]
struct Image(String);

impl Drop for Image {
    fn drop(&mut self) {
        // What cannot be removed stays behind; the test has its answer already.
        drop(
            Command::new(tool("podman"))
                .args(["rmi", "--force", &self.0])
                .output(),
        );
    }
}

/// Builds the static agent into its own target folder, and the image from it; tests at one time share it.
fn image() -> Arc<Image> {
    static SHARED: Mutex<Weak<Image>> = Mutex::new(Weak::new());
    need_root();
    let mut shared = SHARED.lock().unwrap();
    if let Some(image) = shared.upgrade() {
        return image;
    }
    let image = Arc::new(Image(format!("localhost/procscope-agent-test:{}", process::id())));
    run(Command::new(tool("buildah"))
        .args([
            "bud",
            "--isolation",
            "chroot",
            "--quiet",
            "--tag",
            &image.0,
            "--file",
        ])
        .arg(deploy("container/Containerfile.agent"))
        .arg(static_build()));
    *shared = Arc::downgrade(&image);
    image
}

/// The folder of the static agent, compiled as the suite `guests` does.
fn static_build() -> PathBuf {
    let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let folder = root().join("target/static");
    run(Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["build", "--quiet", "--package", "procscope-agent"])
        .args(["--config", "tests/static.toml"])
        .args(["--target", &target, "--target-dir"])
        .arg(&folder)
        .env("RUSTFLAGS", "-C target-feature=+crt-static"));
    folder.join(target).join("debug")
}

/// `podman run` with what every start of the agent needs and nothing more.
fn podman() -> Command {
    let mut podman = Command::new(tool("podman"));
    podman
        .args(["--runtime", tool("runc").to_str().unwrap()])
        .args([
            "run",
            "--rm",
            "--ulimit",
            "nofile=20000:20000",
            "--ulimit",
            "nproc=32768:32768",
        ])
        .args([
            "--cap-drop=all",
            "--cap-add=BPF",
            "--cap-add=PERFMON",
            "--security-opt",
            "no-new-privileges",
        ])
        .arg("--security-opt")
        .arg(format!(
            "seccomp={}",
            deploy("container/agent-seccomp.json").display()
        ))
        .args([
            "--read-only",
            "--read-only-tmpfs=false",
            "--pid=host",
            "--memory",
            "64m",
        ]);
    podman
}

/// A shell that does nothing but burn one CPU, under a name of its own.
fn start_hog(folder: &Path) -> (String, Running) {
    let name = format!("hog{}", process::id());
    symlink("/bin/sh", folder.join(&name)).unwrap();
    let hog = Running::start(Command::new(folder.join(&name)).args(["-c", "while :; do :; done"]));
    (name, hog)
}

#[test]
fn the_image_samples_the_host_with_two_capabilities() {
    let image = image();
    let folder = tempfile::tempdir().unwrap();
    let before = Timestamp::now();
    let (name, hog) = start_hog(folder.path());
    let after = Timestamp::now();

    let lines = stdout(
        podman()
            .arg("--net=none")
            .arg("--volume")
            .arg(format!(
                "{}:/etc/procscope/agent.toml:ro",
                deploy("kubernetes/agent.toml").display()
            ))
            .args([
                &image.0,
                "sample",
                "--config=/etc/procscope/agent.toml",
                "--count=2",
                "--format=json",
            ]),
    );
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let hogs: Vec<&Value> = lines.iter().filter(|line| line["name"] == *name).collect();
    assert_eq!(hogs.len(), 2, "one line in each of two intervals: {hogs:?}");
    for line in &hogs {
        assert_eq!(line["pid"], hog.0.id());
        assert_eq!(line["process_id"], hogs[0]["process_id"]);
        assert_eq!(line["start_time"], hogs[0]["start_time"]);
        // Two CPUs that other suites use as well: a fifth of one is what it surely got.
        assert!(
            line["cpu_time_ns_delta"].as_u64().unwrap() > 200_000_000,
            "{line}"
        );
        assert!(line["rss_bytes"].as_u64().unwrap() > 0, "{line}");
    }
    let start: Timestamp = hogs[0]["start_time"].as_str().unwrap().parse().unwrap();
    let slack = Duration::from_millis(100);
    assert!(
        before - slack <= start && start <= after + slack,
        "{before} <= {start} <= {after}"
    );
    let audits = lines
        .iter()
        .filter(|line| line["audit"]["wall_ns"].as_u64().is_some_and(|ns| ns > 0))
        .count();
    assert_eq!(audits, 2, "each interval ends with its audit");
}

#[test]
fn the_image_finds_its_collector_by_name() {
    let image = image();
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("ingest-token");
    write_secret(&token, "0123456789abcdef");
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    collector.set_nonblocking(true).unwrap();
    let port = collector.local_addr().unwrap().port();
    let name = format!("procscope-agent-test-{}", process::id());

    let mut agent = Running::start(
        podman()
            .args([
                "--net=host",
                "--add-host",
                "procscope-collector:127.0.0.1",
                "--name",
                &name,
            ])
            .arg("--volume")
            .arg(format!(
                "{}:/run/secrets/procscope/ingest-token:ro",
                token.display()
            ))
            .arg("--volume")
            .arg(format!("{}:/var/lib/procscope-agent", state.display()))
            .args([
                &image.0,
                "run",
                "--token-file=/run/secrets/procscope/ingest-token",
            ])
            .arg("--state-dir=/var/lib/procscope-agent")
            .arg(format!("--collector=http://procscope-collector:{port}"))
            .arg("--insecure")
            .stdout(Stdio::null()),
    );
    let (mut stream, _) = wait_for("the agent to call", Duration::from_mins(1), || {
        let ended = agent.0.try_wait().unwrap();
        assert!(ended.is_none(), "the agent ended: {ended:?}");
        collector.accept().ok()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut preface = [0; 14];
    stream.read_exact(&mut preface).unwrap();
    assert_eq!(&preface, b"PRI * HTTP/2.0");

    // SIGTERM, as a node's shutdown sends it: it stops by itself, long before anybody kills it.
    run(Command::new(tool("podman")).args(["stop", "--time", "20", &name]));
    let ended = wait_for("the agent to end", Duration::from_secs(20), || {
        agent.0.try_wait().unwrap()
    });
    assert!(ended.success(), "the agent ended with {ended}");
}

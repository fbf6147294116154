//! What the client says when it cannot answer: one line that names what was tried, why it failed and what to do.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use crate::{
    collector::{Collector, client},
    commands::{ALL, failure},
};

#[test]
fn a_host_that_is_not_there_is_exit_code_1() {
    let line = failure(&Collector::start().run(&["hosts", "--host", "nosuch"]), 1);
    assert!(line.contains("nosuch"), "{line}");
}

#[test]
fn a_collector_that_cannot_be_reached_is_named_with_the_reason_and_the_remedy() {
    // Bound and closed again: nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for command in ALL {
        let output = client()
            .args(["--server", &format!("http://{address}")])
            .args(command)
            .output()
            .unwrap();
        let line = failure(&output, 1);
        for part in [
            &format!("http://{address}"),
            "Connection refused",
            "procscope-collector",
            "--server",
        ] {
            assert!(line.contains(part), "{line}");
        }
    }
}

#[test]
fn in_the_clear_to_a_port_that_speaks_tls_it_says_https() {
    // How much of the request such a server hears before it hangs up depends on chance; each way says the same.
    for heard in [0, 24, 1_024] {
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        // A client that was hung up on before it asked calls once more.
        std::thread::spawn(move || {
            for mut socket in port.incoming().flatten() {
                let mut head = vec![0; heard];
                // As a server of TLS answers what is none: an alert, and the end.
                let _gone = socket
                    .read(&mut head)
                    .and_then(|_heard| socket.write_all(b"\x15\x03\x03\0\x02\x02\x32"));
            }
        });
        let output = client()
            .args(["--server", &format!("http://{address}"), "hosts"])
            .output()
            .unwrap();
        let line = failure(&output, 1);
        assert!(line.contains("broke off") && line.contains("https://"), "{line}");
    }
}

#[test]
fn a_refusal_of_the_collector_says_what_to_do() {
    let collector = Collector::start();
    let line = failure(&collector.run(&["top", "--once", "--filter", "refuse"]), 2);
    assert!(line.contains("name_contains: not\\x1b this one"), "{line}");
    assert!(failure(&collector.run(&["top", "--once", "--filter", "secret"]), 1).contains("--token-file"));
    assert!(
        failure(&collector.run(&["top", "--once", "--filter", "break"]), 1).contains("the store is broken")
    );
}

#[test]
fn a_load_without_a_good_token_ends_at_once() {
    let collector = Collector::start();
    let began = std::time::Instant::now();
    let line = failure(&collector.run(&["loadgen", "--agents", "3", "--for", "10m"]), 1);
    assert!(
        line.contains("an agent shows a token") && line.contains("--token-file"),
        "{line}"
    );
    assert!(
        began.elapsed() < std::time::Duration::from_mins(1),
        "it was tried again"
    );
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{nobody}");
    let arguments = ["loadgen", "--agents", "1", "--for", "1s", "--settle", "0s"];
    let output = client()
        .args(["--server", &nobody])
        .args(arguments)
        .output()
        .unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(
        line.contains("no snapshot was made") && line.contains(&nobody),
        "{line}"
    );
}

#[test]
fn wrong_usage_is_exit_code_2_before_anything_is_asked() {
    let collector = Collector::start();
    for arguments in [
        &["top", "--limit", "1001", "--once"][..],
        &["top", "--until", "tomorrow"],
        &["audit", "--since", "1h", "--until", "2h"],
        &["exits", "--limit", "100001"],
        &["hosts", "--server", "localhost:7400"],
        &["hosts", "--config", "/nonexistent"],
        &["hosts", "--log", "=="],
        &["nosuch"],
        &[],
        &["top", "--limt", "1"],
        &["top", "--by", "nosuch"],
        &["history"],
    ] {
        failure(&collector.run(arguments), 2);
    }
    assert!(collector.asked.lock().unwrap().tokens.is_empty());
}

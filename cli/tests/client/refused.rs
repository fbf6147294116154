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
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    let answering = std::thread::spawn(move || {
        let (mut socket, _) = port.accept().unwrap();
        // As a server of TLS answers what is none: an alert, and the end.
        let mut heard = [0; 1_024];
        assert!(socket.read(&mut heard).unwrap() > 0);
        socket.write_all(b"\x15\x03\x03\0\x02\x02\x32").unwrap();
    });
    let output = client()
        .args(["--server", &format!("http://{address}"), "hosts"])
        .output()
        .unwrap();
    assert!(failure(&output, 1).contains("https://"));
    answering.join().unwrap();
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

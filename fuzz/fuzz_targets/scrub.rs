//! The scrubber: any arguments, with a secret among them that must not come out.

#![no_main]

use libfuzzer_sys::fuzz_target;
use procscope_agent::scrub::{Cmdline, command_line};

/// No dictionary word and nothing that an input has by chance.
const SECRET: &[u8] = b"xY7-canary-9Qz";

/// Every way of giving a secret that the documentation promises to hide.
const WAYS: [(&[u8], &[u8]); 9] = [
    (b"--password=", b""),
    (b"--api-key\0", b""),
    (b"PGPASSWORD=", b""),
    (b"https://user:", b"@example.org/x"),
    (b"--header=Authorization: Bearer ", b""),
    (b"--db-secret=", b""),
    (b"--proxy-user=u:", b""),
    (b"--password\n", b""),
    (b"curl --bearer ", b" http://example.org"),
];

fuzz_target!(|input: &[u8]| {
    for mode in [Cmdline::Off, Cmdline::Stripped, Cmdline::Scrubbed, Cmdline::Full] {
        let shown = command_line(input, mode);
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        assert!(
            shown.len() <= 4 * input.len() + 64 * 8 + 8 * input.len(),
            "it grows with what was given"
        );
    }
    if input.windows(SECRET.len()).any(|window| window == SECRET) {
        return;
    }
    let (before, after) = input.split_at(input.len() / 2);
    for (start, end) in WAYS {
        // A program's name is shown whatever it is; what stands before must be arguments that end.
        let arguments = [b"program\0", before, b"\0", start, SECRET, end, b"\0", after].concat();
        let shown = command_line(&arguments, Cmdline::Scrubbed);
        let secret = String::from_utf8_lossy(SECRET);
        assert!(!shown.contains(&*secret), "{shown:?}");
    }
});

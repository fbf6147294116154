//! Names are bytes: any process may call itself anything. Here they become text that no terminal, log or page
//! takes for more than text, without losing a byte.

use std::fmt::Write as _;

/// Characters that change how their neighbours are shown, or that end a line somewhere.
const SHOWN_AS_BYTES: [std::ops::RangeInclusive<char>; 6] = [
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{feff}'..='\u{feff}',
    '\u{fff9}'..='\u{fffb}',
    '\u{e0000}'..='\u{e007f}',
];

/// Valid and harmless UTF-8 stays as it is; a backslash is doubled; every byte of the rest stands as `\xNN`.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '\\' {
                text.push_str("\\\\");
            } else if character.is_control() || SHOWN_AS_BYTES.iter().any(|range| range.contains(&character))
            {
                push_bytes(&mut text, character.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(character);
            }
        }
        push_bytes(&mut text, chunk.invalid());
    }
    text
}

fn push_bytes(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string cannot fail.
        _ = write!(text, "\\x{byte:02x}");
    }
}

/// The name of a command: the executable's file name where the kernel's 15 bytes are only its beginning.
#[must_use]
pub fn command_name(comm: &[u8], exe: &[u8]) -> Vec<u8> {
    const COMM_BYTES_MAX: usize = 15;
    let exe = exe.strip_suffix(b" (deleted)").unwrap_or(exe);
    let file = exe.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    if comm.len() == COMM_BYTES_MAX && file.len() > COMM_BYTES_MAX && file.starts_with(comm) {
        file.to_vec()
    } else {
        comm.to_vec()
    }
}

/// The id of the container that a control group's path belongs to: 64 hexadecimal digits, alone or between a
/// runtime's prefix and `.scope`. Container managers' own helpers (`conmon`) are in no container.
#[must_use]
pub fn container_id(cgroup_path: &str) -> Option<&str> {
    cgroup_path.rsplit('/').find_map(|part| {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        let (prefix, id) = part.rsplit_once(['-', ':']).unwrap_or(("", part));
        let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_id && !prefix.ends_with("conmon")).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn harmless_names_stay_and_others_are_spelt_out() {
        assert_eq!(escape("kworker/0:1-größe".as_bytes()), "kworker/0:1-größe");
        assert_eq!(escape(b"a\nb\x1b[31m"), "a\\x0ab\\x1b[31m");
        assert_eq!(escape(b"\xff\\"), "\\xff\\\\");
        assert_eq!(escape("\u{202e}exe".as_bytes()), "\\xe2\\x80\\xaeexe");
    }

    #[test]
    fn a_name_cut_at_15_bytes_is_completed_from_the_executable() {
        assert_eq!(
            command_name(b"procscope-colle", b"/usr/bin/procscope-collector"),
            b"procscope-collector"
        );
        assert_eq!(command_name(b"python3", b"/usr/bin/python3.11"), b"python3");
        assert_eq!(
            command_name(b"worker-of-fifte", b"/usr/bin/other"),
            b"worker-of-fifte"
        );
    }

    #[test]
    fn container_ids_are_found_in_the_paths_of_each_runtime() {
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        for path in [
            format!("/system.slice/docker-{id}.scope"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-{id}.scope"
            ),
            format!("/kubepods/burstable/pod1/{id}"),
            format!("/machine.slice/libpod-{id}.scope/container/init.scope"),
            format!("/kubepods.slice/pod1.slice:cri-containerd:{id}"),
        ] {
            assert_eq!(container_id(&path), Some(id), "{path}");
        }
        for path in [
            "/",
            "/user.slice",
            "/system.slice/ssh.service",
            &format!("/libpod-conmon-{id}.scope"),
        ] {
            assert_eq!(container_id(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_come_out_as_control_characters(bytes: Vec<u8>) {
            prop_assert!(!escape(&bytes).chars().any(char::is_control));
        }

        #[test]
        fn different_names_stay_different(a: Vec<u8>, b: Vec<u8>) {
            prop_assert_eq!(a == b, escape(&a) == escape(&b));
        }
    }
}

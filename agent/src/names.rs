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

/// The UID of the pod of Kubernetes that a control group's path belongs to, as Kubernetes shows it: a UUID, or the 32
/// hexadecimal digits of a pod that a file on the node describes. The innermost pod counts.
#[must_use]
pub fn pod_uid(cgroup_path: &str) -> Option<String> {
    let mut parts = cgroup_path.rsplit('/').peekable();
    std::iter::from_fn(|| Some((parts.next()?, parts.peek().copied().unwrap_or_default())))
        .find_map(|(part, parent)| slice_uid(part).or_else(|| folder_uid(part, parent)))
}

/// What the kubelet's systemd driver makes: `kubepods-burstable-podUID.slice`, whose UID has `_` for `-`, alone or
/// before the names that a runtime with the other driver puts behind it.
fn slice_uid(part: &str) -> Option<String> {
    let (slice, rest) = part.split_once(".slice")?;
    let (outer, uid) = slice.rsplit_once("-pod")?;
    let uid = uid.replace('_', "-");
    let ours = outer.split('-').any(|name| name == "kubepods") && (rest.is_empty() || rest.starts_with(':'));
    (ours && is_pod_uid(&uid)).then_some(uid)
}

/// What the kubelet's other driver makes: `kubepods/burstable/podUID`, of which an agent in a control group namespace
/// may see the last part alone, after `..`.
fn folder_uid(part: &str, parent: &str) -> Option<String> {
    let uid = part.strip_prefix("pod")?;
    let ours = ["kubepods", "burstable", "besteffort", ".."].contains(&parent);
    (ours && is_pod_uid(uid)).then(|| uid.to_owned())
}

fn is_pod_uid(uid: &str) -> bool {
    let dashed = uid.len() == 36;
    (dashed || uid.len() == 32)
        && uid.bytes().enumerate().all(|(at, byte)| {
            if dashed && [8, 13, 18, 23].contains(&at) {
                byte == b'-'
            } else {
                byte.is_ascii_hexdigit()
            }
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

    #[test]
    fn pod_uids_are_found_in_the_paths_of_each_driver_and_runtime() {
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let uid = "5cf2a1b8-7d3e-4f60-9a1b-0c2d3e4f5a6b";
        let slice = "5cf2a1b8_7d3e_4f60_9a1b_0c2d3e4f5a6b";
        let outer = "11111111_2222_3333_4444_555555555555";
        for path in [
            // containerd, CRI-O and docker with the systemd driver, for each class of service.
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice}.slice/cri-containerd-{id}.scope"
            ),
            format!(
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{slice}.slice/crio-{id}.scope"
            ),
            format!("/kubepods.slice/kubepods-pod{slice}.slice/docker-{id}.scope"),
            // A runtime with the other driver than the kubelet.
            format!(
                "/system.slice/containerd.service/kubepods-burstable-pod{slice}.slice:cri-containerd:{id}"
            ),
            // The cgroupfs driver, whole and as an agent in a namespace of its own sees it.
            format!("/kubepods/burstable/pod{uid}/{id}"),
            format!("/kubepods/besteffort/pod{uid}/crio-{id}"),
            format!("/kubepods/pod{uid}/{id}"),
            format!("/../../pod{uid}/{id}"),
            format!("/../kubepods-burstable-pod{slice}.slice/cri-containerd-{id}.scope"),
            // kind: a kubelet's slice in front, within a container; within the pod of another cluster.
            format!(
                "/docker/{id}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/\
                 kubelet-kubepods-besteffort-pod{slice}.slice/cri-containerd-{id}.scope"
            ),
            format!("/docker/{id}/kubelet/kubepods/burstable/pod{uid}/{id}"),
            format!(
                "/kubepods.slice/kubepods-pod{outer}.slice/cri-containerd-{id}.scope/kubelet.slice/\
                 kubelet-kubepods-pod{slice}.slice/cri-containerd-{id}.scope"
            ),
            // systemd within the container.
            format!(
                "/kubepods.slice/kubepods-pod{slice}.slice/cri-containerd-{id}.scope/system.slice/a.service"
            ),
            // No container of its own yet.
            format!("/kubepods.slice/kubepods-pod{slice}.slice"),
        ] {
            assert_eq!(pod_uid(&path).as_deref(), Some(uid), "{path}");
        }
        let of_a_file = "0f9e8d7c6b5a49382716051423324150";
        for path in [
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{of_a_file}.slice/crio-{id}.scope"
            ),
            format!("/kubepods/burstable/pod{of_a_file}/{id}"),
        ] {
            assert_eq!(pod_uid(&path).as_deref(), Some(of_a_file), "{path}");
        }
        for path in [
            String::new(),
            "/".to_owned(),
            "/kubepods.slice/kubepods-burstable.slice".to_owned(),
            "/kubepods/burstable/pod".to_owned(),
            "/kubepods.slice/kubepods-pod.slice".to_owned(),
            format!("/system.slice/docker-{id}.scope"),
            // Too long, too short, no digits, dashes in other places.
            format!("/kubepods/burstable/pod{uid}0/{id}"),
            format!("/kubepods/burstable/pod{id}/{id}"),
            format!("/kubepods/burstable/pod{}/{id}", &uid[1..]),
            format!("/kubepods/burstable/pod{}/{id}", uid.replace('a', "g")),
            "/kubepods/burstable/pod5cf2a1b87-d3e-4f60-9a1b-0c2d3e4f5a6b".to_owned(),
            format!("/kubepods.slice/kubepods-pod{slice}_0.slice"),
            // As a pod's, elsewhere.
            format!("/user.slice/pod{uid}/{id}"),
            format!("/pod{uid}"),
            format!("/machine.slice/machine-libpod_pod_{id}.slice/libpod-{id}.scope"),
            format!("/user.slice/user-1000.slice/x-pod{slice}.slice"),
            format!("/kubepods.slice/kubepods-pod{slice}.slicer"),
            format!("/kubepods.slice/kubepods-pod{slice}.scope"),
        ] {
            assert_eq!(pod_uid(&path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_path_a_pod_uid_has_its_form(path in "[/.:_a-f0-9-]{0,60}(/kubepods-pod|/../pod)[_a-f0-9-]{30,40}(\\.slice)?") {
            if let Some(uid) = pod_uid(&path) {
                prop_assert!(is_pod_uid(&uid), "{uid}");
            }
        }

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

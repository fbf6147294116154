//! A file system for a kernel to start with: an archive in the format `newc` of cpio. Pure.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Mode bits of each kind of entry.
const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;
const CONSOLE: u32 = 0o020_600;

/// Device number of `/dev/console`.
const CONSOLE_DEVICE: (u32, u32) = (5, 1);

/// What an archive will hold, by path.
#[derive(Debug, Default)]
pub struct Archive {
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug)]
struct Entry {
    mode: u32,
    device: (u32, u32),
    data: Vec<u8>,
}

impl Archive {
    /// A folder, and those above it.
    pub fn folder(&mut self, path: &Path) {
        for folder in path.ancestors().filter(|folder| folder.parent().is_some()) {
            self.entries
                .entry(folder.to_owned())
                .or_insert_with(|| Entry::new(FOLDER, Vec::new()));
        }
    }

    /// A file that may be executed.
    pub fn program(&mut self, path: &Path, data: Vec<u8>) {
        self.insert(path, Entry::new(PROGRAM, data));
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &Path, to: &str) {
        self.insert(path, Entry::new(LINK, to.as_bytes().to_vec()));
    }

    /// `/dev/console`, which a kernel opens for its first program.
    pub fn console(&mut self) {
        let device = CONSOLE_DEVICE;
        self.insert(
            Path::new("/dev/console"),
            Entry {
                device,
                ..Entry::new(CONSOLE, Vec::new())
            },
        );
    }

    /// Whether there is an entry at this path.
    #[must_use]
    pub fn has(&self, path: &Path) -> bool {
        self.entries.contains_key(path)
    }

    fn insert(&mut self, path: &Path, entry: Entry) {
        if let Some(folder) = path.parent() {
            self.folder(folder);
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// The archive as bytes. Folders come before what is in them.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, (path, entry)) in (1..).zip(&self.entries) {
            let name = path.strip_prefix("/").unwrap_or(path);
            append(&mut bytes, number, name.as_os_str().as_encoded_bytes(), entry);
        }
        append(&mut bytes, 0, b"TRAILER!!!", &Entry::new(0, Vec::new()));
        bytes
    }
}

impl Entry {
    fn new(mode: u32, data: Vec<u8>) -> Self {
        Self {
            mode,
            device: (0, 0),
            data,
        }
    }
}

/// One entry: thirteen numbers of eight hexadecimal digits, its name, its data, each filled up to four bytes.
fn append(bytes: &mut Vec<u8>, number: u32, name: &[u8], entry: &Entry) {
    let len = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let (major, minor) = entry.device;
    let data_len = len(entry.data.len());
    let name_len = len(name.len() + 1);
    bytes.extend_from_slice(b"070701");
    // Number, mode, owner, group, links, time, length, device of the archive, own device, name, checksum.
    for field in [
        number, entry.mode, 0, 0, 1, 0, data_len, 0, 0, major, minor, name_len, 0,
    ] {
        bytes.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    bytes.extend_from_slice(name);
    bytes.push(0);
    fill(bytes);
    bytes.extend_from_slice(&entry.data);
    fill(bytes);
}

fn fill(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_holds_folders_before_what_is_in_them_and_ends_with_a_trailer() {
        let mut archive = Archive::default();
        archive.program(Path::new("/bin/tool"), b"abc".to_vec());
        archive.link(Path::new("/bin/sh"), "tool");
        archive.console();
        let bytes = archive.bytes();
        let text = String::from_utf8_lossy(&bytes);
        let place = |name: &str| text.find(name).unwrap();
        assert!(place("bin\0") < place("bin/sh\0") && place("bin/sh\0") < place("bin/tool\0"));
        assert!(place("dev\0") < place("dev/console\0") && place("dev/console\0") < place("TRAILER!!!\0"));
        assert_eq!(bytes.len() % 4, 0);
        assert!(archive.has(Path::new("/bin")) && !archive.has(Path::new("/")));
    }

    #[test]
    fn an_entry_is_laid_out_as_the_kernel_reads_it() {
        let mut bytes = Vec::new();
        append(&mut bytes, 7, b"a", &Entry::new(PROGRAM, b"12345".to_vec()));
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[6..14], b"00000007");
        assert_eq!(&bytes[14..22], b"000081ED");
        assert_eq!(&bytes[54..62], b"00000005");
        assert_eq!(&bytes[94..102], b"00000002");
        assert_eq!(&bytes[110..], b"a\x0012345\0\0\0");
    }
}

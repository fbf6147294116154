//! User ids into names, by the passwd file of this machine, and so only for processes of this machine.

use std::{collections::HashMap, fs::File, io::Read as _};

use crate::text;

/// A passwd file is some kilobytes; more is no list of this machine's users.
const PASSWD_BYTES_MAX: u64 = 1 << 20;

/// Names of this machine's users.
#[derive(Debug, Default)]
pub(crate) struct Users {
    host: String,
    names: HashMap<u32, String>,
}

impl Users {
    /// Reads them; without a readable passwd file all users keep their numbers.
    pub(crate) fn of_this_machine() -> Self {
        let mut passwd = Vec::new();
        let read =
            File::open("/etc/passwd").and_then(|file| file.take(PASSWD_BYTES_MAX).read_to_end(&mut passwd));
        if read.is_err() {
            passwd.clear();
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self::new(host, &String::from_utf8_lossy(&passwd))
    }

    fn new(host: String, passwd: &str) -> Self {
        let mut names = HashMap::new();
        for line in passwd.lines() {
            let mut fields = line.split(':');
            if let (Some(name), Some(Ok(uid))) = (fields.next(), fields.nth(1).map(str::parse)) {
                // The first name of an id is the one that counts, as for ls and ps.
                names.entry(uid).or_insert_with(|| text::safe(name));
            }
        }
        Self { host, names }
    }

    /// The name, when all of `hosts` are this machine, or the number.
    pub(crate) fn name(&self, uid: u32, hosts: &[String]) -> String {
        let here = !hosts.is_empty() && hosts.iter().all(|host| *host == self.host);
        match self.names.get(&uid) {
            Some(name) if here => name.clone(),
            _ => uid.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uid: u32, hosts: &[&str], shown: &str) {
        let users = Users::new(
            "here".to_owned(),
            "root:x:0:0::/:/bin/sh\ntoor:x:0:0::/:\nbroken\nbad:x:y\n",
        );
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        assert_eq!(users.name(uid, &hosts), shown);
    }

    #[test]
    fn only_users_of_this_machine_have_names() {
        check(0, &["here"], "root");
        check(0, &["there"], "0");
        check(0, &["here", "there"], "0");
        check(0, &[], "0");
        check(7, &["here"], "7");
    }
}

//! Command lines without their secrets, argument by argument, before anything leaves the agent.

use serde::Deserialize;

use crate::names::escape;

/// How much of a command line is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Cmdline {
    /// Nothing.
    Off,
    /// The first argument only.
    Stripped,
    /// Every argument, secrets replaced.
    #[default]
    Scrubbed,
    /// As it is.
    Full,
}

/// Stands where a secret stood.
const HIDDEN: &str = "********";

/// A name with one of these words in it has a secret as its value.
const SECRET_WORDS: [&str; 17] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "access_key",
    "access-key",
    "private_key",
    "private-key",
    "credential",
    "auth",
    "signature",
    "cookie",
];

/// A run of base64 or hexadecimal digits this long is taken for a secret.
const BLOB_LEN_MIN: usize = 32;

/// Makes one text of arguments that end with zero each.
#[must_use]
pub fn command_line(arguments: &[u8], mode: Cmdline) -> String {
    let arguments = arguments.strip_suffix(b"\0").unwrap_or(arguments);
    if arguments.is_empty() || mode == Cmdline::Off {
        return String::new();
    }
    let mut arguments = arguments.split(|byte| *byte == 0).map(escape);
    match mode {
        Cmdline::Off => String::new(),
        Cmdline::Stripped => arguments.next().unwrap_or_default(),
        Cmdline::Full => arguments.collect::<Vec<_>>().join(" "),
        Cmdline::Scrubbed => {
            let mut shown = Vec::new();
            let mut value_is_secret = false;
            for (n, argument) in arguments.enumerate() {
                let scrubbed = if n == 0 {
                    argument
                } else if std::mem::take(&mut value_is_secret) && !argument.starts_with("--") {
                    HIDDEN.to_owned()
                } else {
                    value_is_secret = announces_secret(&argument);
                    scrub(&argument)
                };
                shown.push(scrubbed);
            }
            shown.join(" ")
        }
    }
}

/// `--password` and `-p`: the next argument is the secret.
fn announces_secret(argument: &str) -> bool {
    let Some(name) = argument.strip_prefix('-') else {
        return argument.eq_ignore_ascii_case("bearer");
    };
    !argument.contains('=') && (name == "p" || is_secret_name(name))
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// One argument without its secrets.
fn scrub(argument: &str) -> String {
    // A header or a sentence in one argument: each word may hold one.
    if argument.contains(char::is_whitespace) {
        let mut hide_rest = false;
        return argument
            .split(char::is_whitespace)
            .map(|word| {
                if hide_rest && !word.is_empty() {
                    return HIDDEN.to_owned();
                }
                let name = word.trim_end_matches([':', '=']);
                hide_rest = word.eq_ignore_ascii_case("bearer")
                    || word.eq_ignore_ascii_case("basic")
                    || (name.len() < word.len() && is_secret_name(name));
                scrub(word)
            })
            .collect::<Vec<_>>()
            .join(" ");
    }
    if let Some((name, value)) = argument.split_once(['=', ':'])
        && !value.is_empty()
        && !value.starts_with("//")
        && is_secret_name(name)
    {
        let separator = &argument[name.len()..=name.len()];
        return format!("{name}{separator}{HIDDEN}");
    }
    // mysql's -pSECRET.
    if argument.len() > 2
        && argument.starts_with("-p")
        && !argument[2..].starts_with(|c: char| c.is_ascii_digit())
    {
        return format!("-p{HIDDEN}");
    }
    hide_blobs(&hide_userinfo(argument))
}

/// `scheme://user:password@host` keeps the user only.
fn hide_userinfo(argument: &str) -> String {
    let Some((scheme, rest)) = argument.split_once("://") else {
        return argument.to_owned();
    };
    let authority_len = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some(at) = rest[..authority_len].rfind('@') else {
        return argument.to_owned();
    };
    match rest[..at].find(':') {
        Some(colon) => format!("{scheme}://{}:{HIDDEN}{}", &rest[..colon], &rest[at..]),
        None => argument.to_owned(),
    }
}

/// Long runs of base64 or hexadecimal digits. Paths and dashed identifiers have shorter ones.
fn hide_blobs(argument: &str) -> String {
    let is_blob_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '_');
    let mut shown = String::with_capacity(argument.len());
    let mut rest = argument;
    while let Some(start) = rest.find(is_blob_char) {
        let run_len = rest[start..]
            .find(|c: char| !is_blob_char(c))
            .unwrap_or(rest.len() - start);
        let run = &rest[start..start + run_len];
        shown.push_str(&rest[..start]);
        let digits = run.bytes().filter(u8::is_ascii_digit).count();
        shown.push_str(if run_len >= BLOB_LEN_MIN && digits >= 3 {
            HIDDEN
        } else {
            run
        });
        rest = &rest[start + run_len..];
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(arguments: &[&str], shown: &str) {
        let bytes: Vec<u8> = arguments
            .iter()
            .flat_map(|argument| [argument.as_bytes(), b"\0"].concat())
            .collect();
        assert_eq!(command_line(&bytes, Cmdline::Scrubbed), shown);
    }

    #[test]
    fn secrets_are_hidden_wherever_people_put_them() {
        check(
            &["x", "--password=hunter2", "--port=80"],
            "x --password=******** --port=80",
        );
        check(
            &["x", "--db-password", "hunter2", "-v"],
            "x --db-password ******** -v",
        );
        check(&["mysql", "-p", "hunter2"], "mysql -p ********");
        check(&["mysql", "-phunter2"], "mysql -p********");
        check(&["ssh", "-p2222", "host"], "ssh -p2222 host");
        check(&["env", "API_TOKEN=abc", "run"], "env API_TOKEN=******** run");
        check(
            &["c", "https://u:pw@host/p?q=1"],
            "c https://u:********@host/p?q=1",
        );
        check(
            &["curl", "-H", "Authorization: Bearer abc.def"],
            "curl -H Authorization: ******** ********",
        );
        check(&["x", "0123456789abcdef0123456789abcdef"], "x ********");
    }

    #[test]
    fn ordinary_arguments_stay_as_they_are() {
        check(
            &["ls", "-la", "/usr/lib/x86_64-linux-gnu/systemd"],
            "ls -la /usr/lib/x86_64-linux-gnu/systemd",
        );
        check(
            &["java", "-Xmx512m", "-jar", "app.jar"],
            "java -Xmx512m -jar app.jar",
        );
    }

    #[test]
    fn modes_keep_as_much_as_they_say() {
        let bytes = b"x\0--password=hunter2\0";
        assert_eq!(command_line(bytes, Cmdline::Off), "");
        assert_eq!(command_line(bytes, Cmdline::Stripped), "x");
        assert_eq!(command_line(bytes, Cmdline::Full), "x --password=hunter2");
    }

    proptest! {
        #[test]
        fn the_value_of_a_secret_option_never_shows(
            word in proptest::sample::select(&SECRET_WORDS[..]),
            secret in "[A-Z]{8}[0-9]{4}",
            before in "[a-z]{0,5}",
        ) {
            let forms = [
                format!("x\0--{before}{word}={secret}\0"),
                format!("x\0--{before}{word}\0{secret}\0"),
                format!("x\0{before}_{word}={secret}\0"),
                format!("x\0https://{before}:{secret}@host/\0"),
            ];
            for form in forms {
                prop_assert!(!command_line(form.as_bytes(), Cmdline::Scrubbed).contains(&secret), "{}", form);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            prop_assert!(!command_line(&bytes, Cmdline::Scrubbed).chars().any(char::is_control));
        }
    }
}

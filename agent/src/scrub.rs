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
            let mut next = Next::Ordinary;
            for (n, argument) in arguments.enumerate() {
                let scrubbed = match std::mem::take(&mut next) {
                    _ if n == 0 => argument,
                    Next::Secret if !argument.starts_with("--") => HIDDEN.to_owned(),
                    Next::UserAndSecret if argument.contains(':') => {
                        let user = argument.split(':').next().unwrap_or_default();
                        format!("{user}:{HIDDEN}")
                    }
                    _ => {
                        next = announces(&argument);
                        scrub(&argument)
                    }
                };
                shown.push(scrubbed);
            }
            shown.join(" ")
        }
    }
}

/// What an argument says of the next one.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Next {
    #[default]
    Ordinary,
    /// `--password` and `-p`.
    Secret,
    /// `-u USER:SECRET`, and `-u USER` of others.
    UserAndSecret,
}

fn announces(argument: &str) -> Next {
    let Some(name) = argument.strip_prefix('-') else {
        return if argument.eq_ignore_ascii_case("bearer") {
            Next::Secret
        } else {
            Next::Ordinary
        };
    };
    match name {
        "u" | "-user" => Next::UserAndSecret,
        "p" | "P" | "passin" | "passout" => Next::Secret,
        _ if !name.contains('=') && is_secret_name(name) => Next::Secret,
        _ => Next::Ordinary,
    }
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with("pass") || SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// One argument without its secrets.
fn scrub(argument: &str) -> String {
    // A header, a query, a connection string: each part may hold one. What divides them stays.
    if argument.contains(DIVIDERS) {
        let mut hide_rest = false;
        let mut shown = String::with_capacity(argument.len());
        for part in argument.split_inclusive(DIVIDERS) {
            let word = part.trim_end_matches(DIVIDERS);
            let divider = &part[word.len()..];
            if hide_rest && !word.is_empty() {
                shown.push_str(HIDDEN);
            } else {
                let name = word.trim_end_matches([':', '=']);
                // `Authorization: Bearer X` goes on to the end of its line; other parts stand alone.
                hide_rest = divider.contains(char::is_whitespace)
                    && (word.eq_ignore_ascii_case("bearer")
                        || word.eq_ignore_ascii_case("basic")
                        || (name.len() < word.len() && is_secret_name(name)));
                shown.push_str(&scrub_word(word));
            }
            shown.push_str(divider);
        }
        return shown;
    }
    scrub_word(argument)
}

/// What divides parts of one argument that each may be `name=value`.
const DIVIDERS: [char; 7] = [' ', '\t', '\n', '?', '&', ';', ','];

/// One part without its secret.
fn scrub_word(word: &str) -> String {
    let word = &hide_userinfo(word);
    for separator in ['=', ':'] {
        if let Some((name, value)) = word.split_once(separator)
            && !value.is_empty()
            && !value.starts_with("//")
            && is_secret_name(name)
        {
            return format!("{name}{separator}{HIDDEN}");
        }
    }
    // mysql's -pSECRET, but not -passin and its like, which are options of their own.
    if let Some(rest) = word.strip_prefix("-p")
        && !rest.is_empty()
        && !rest.starts_with(|c: char| c.is_ascii_digit())
        && !rest.starts_with("ass")
    {
        return format!("-p{HIDDEN}");
    }
    // curl's -uUSER:SECRET.
    if let Some((user, _secret)) = word.strip_prefix("-u").and_then(|rest| rest.split_once(':')) {
        return format!("-u{user}:{HIDDEN}");
    }
    let value_start = word.find('=').map_or(0, |equals| equals + 1);
    if KEY_PREFIXES
        .iter()
        .any(|prefix| word[value_start..].starts_with(prefix))
    {
        return format!("{}{HIDDEN}", &word[..value_start]);
    }
    hide_blobs(word)
}

/// How well-known services begin their keys.
const KEY_PREFIXES: [&str; 8] = [
    "eyJ",
    "AKIA",
    "ghp_",
    "gho_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
];

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
        check(
            &["curl", "https://h/?access_token=S&x=1"],
            "curl https://h/?access_token=********&x=1",
        );
        check(&["curl", "-u", "user:S"], "curl -u user:********");
        check(&["curl", "-uroot:S"], "curl -uroot:********");
        check(&["keytool", "-storepass", "S"], "keytool -storepass ********");
        check(&["redis", "--requirepass", "S"], "redis --requirepass ********");
        check(
            &["openssl", "-passin", "pass:S", "-in", "f"],
            "openssl -passin ******** -in f",
        );
        check(
            &["x", "--connection-string", "Server=x;Pwd=S;"],
            "x --connection-string Server=x;Pwd=********;",
        );
        check(&["x", "AKIAIOSFODNN7EXAMPLE"], "x ********");
        check(&["x", "--jwt=eyJhbGciOi.eyJzdWIi.c2ln"], "x --jwt=********");
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

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
                if n == 0 {
                    shown.push(argument);
                    continue;
                }
                let argument = hide_keys(&argument);
                let scrubbed = match std::mem::take(&mut next) {
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
    hide_blobs(word)
}

/// How well-known services begin their keys, and how many letters and digits follow at least: some begin like a word.
const KEYS: [(&str, usize); 23] = [
    ("eyJ", 0),
    ("AKIA", 0),
    ("ASIA", 16),
    ("ghp_", 0),
    ("gho_", 0),
    ("ghu_", 0),
    ("ghs_", 0),
    ("ghr_", 0),
    ("github_pat_", 0),
    ("glpat-", 0),
    ("xoxa-", 0),
    ("xoxb-", 0),
    ("xoxp-", 0),
    ("xoxr-", 0),
    ("xoxs-", 0),
    ("sk-live-", 0),
    ("sk_live_", 0),
    ("sk-test-", 0),
    ("sk_test_", 0),
    ("rk_live_", 0),
    ("rk_test_", 0),
    ("sk-proj-", 0),
    ("sk-ant-", 0),
];

/// What no key has in it, beside `DIVIDERS`.
const KEY_ENDS: &str = "@\"'`()[]{}<>|\\";

/// Keys of well-known services, wherever in an argument a word begins like one.
fn hide_keys(argument: &str) -> String {
    let mut shown = String::with_capacity(argument.len());
    let mut rest = argument;
    while let Some(start) = key_start(rest) {
        shown.push_str(&rest[..start]);
        shown.push_str(HIDDEN);
        let key = &rest[start..];
        let key_len = key.find(|c| DIVIDERS.contains(&c) || KEY_ENDS.contains(c));
        rest = &key[key_len.unwrap_or(key.len())..];
    }
    shown.push_str(rest);
    shown
}

fn key_start(text: &str) -> Option<usize> {
    let begins_key = |word: &str| {
        KEYS.iter().any(|(prefix, least)| {
            let rest = word.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.bytes().take_while(u8::is_ascii_alphanumeric).count() >= *least)
        })
    };
    text.char_indices()
        .map(|(start, _)| start)
        .find(|start| ends_word(&text[..*start]) && begins_key(&text[*start..]))
}

/// Whether a word may begin after this text: not amid letters and digits, but after an escaped control character, and
/// where a value follows its option of one letter without a blank.
fn ends_word(text: &str) -> bool {
    let escape = text.len().checked_sub(4).and_then(|start| text.get(start..));
    !text.ends_with(|c: char| c.is_ascii_alphanumeric())
        || escape.is_some_and(|text| text.starts_with("\\x"))
        || (text.len() == 2 && text.starts_with('-'))
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
        check(&["x", "--jwt=eyJhbGciOi.eyJzdWIi.c2ln"], "x --jwt=********");
    }

    #[test]
    fn keys_of_well_known_services_are_hidden_where_nothing_announces_them() {
        for key in [
            "sk-live-51H8xYz",
            "sk_live_51H8xYz",
            "sk_test_51H8xYz",
            "sk-proj-a1-b2_c3",
            "sk-ant-api03-x_y-z",
            "ghp_16C7e42F292c6912E7",
            "gho_16C7e42F292c6912E7",
            "ghs_16C7e42F292c6912E7",
            "github_pat_11ABCDE_x7Yz",
            "xoxb-17653672481-x7Yz",
            "xoxp-17653672481-x7Yz",
            "AKIAIOSFODNN7EXAMPLE",
            "ASIAIOSFODNN7EXAMPLE",
            "glpat-x7Yz-12_ab",
            "eyJhbGciOi.eyJzdWIi.c2ln-x_Y",
        ] {
            let shown = |before: &str, after: &str| {
                check(
                    &["x", &format!("{before}{key}{after}"), "-v"],
                    &format!("x {}********{after} -v", before.replace('\n', "\\x0a")),
                );
            };
            for (before, after) in [
                ("", ""),
                ("--key=", ""),
                ("a,b;", ";c"),
                ("{\"k\":\"", "\"}"),
                ("cd /\nget '", "' 2>&1"),
                ("https://", "@host/p"),
            ] {
                shown(before, after);
            }
        }
        // Where a user's name is expected, as some services want it.
        check(&["curl", "-u", "sk_live_51H8xYz:"], "curl -u ********");
        check(&["curl", "-usk_live_51H8xYz:"], "curl -u********");
        check(
            &["git", "clone", "https://ghp_16C7e42F:x-oauth-basic@host/p"],
            "git clone https://********@host/p",
        );
    }

    #[test]
    fn ordinary_arguments_stay_as_they_are() {
        check(
            &["ls", "-la", "/usr/lib/x86_64-linux-gnu/systemd"],
            "ls -la /usr/lib/x86_64-linux-gnu/systemd",
        );
        check(
            &[
                "x",
                "risk_live_1",
                "ASIA",
                "--region=ASIA_PACIFIC",
                "asia-east1",
                "heyJude",
                "é",
            ],
            "x risk_live_1 ASIA --region=ASIA_PACIFIC asia-east1 heyJude é",
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

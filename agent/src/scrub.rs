//! Command lines without their secrets, argument by argument, before anything leaves the agent.

mod looks;
#[cfg(test)]
mod tests;

use serde::Deserialize;

use self::looks::{hide_blobs, hide_keys, hide_userinfo};
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
const SECRET_WORDS: [&str; 18] = [
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
    "bearer",
];

/// What divides parts of one word that each may be `name=value`, and words.
const DIVIDERS: [char; 7] = [' ', '\t', '\n', '?', '&', ';', ','];

/// Between a name and its value.
const CONNECTORS: [&str; 7] = ["=", ":", ":=", "=>", "to", "is", "by"];

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
            let mut shown = vec![arguments.next().unwrap_or_default()];
            let mut next = Next::Ordinary;
            let mut is_script = false;
            for argument in arguments {
                shown.push(scrub(&hide_keys(&argument), &mut next, is_script));
                // `sh -c SCRIPT`, `bash -lc SCRIPT`.
                is_script =
                    argument.starts_with('-') && !argument.starts_with("--") && argument.ends_with('c');
            }
            shown.join(" ")
        }
    }
}

/// What a word says of the next one.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Next {
    #[default]
    Ordinary,
    /// `--password` and `-p`.
    Secret,
    /// `password` as a word of its own: a secret, unless it is an option or a file.
    Word,
    /// `--key`: a secret, unless it is an option, a file or a column to sort by.
    Key,
    /// `-u USER:SECRET`, and `-u USER` of others.
    UserAndSecret,
}

impl Next {
    /// How a word is shown of which this was said; `None`: as it is.
    fn hides(self, word: &str) -> Option<String> {
        let is_hidden = match self {
            Self::Ordinary => false,
            Self::Secret => !word.starts_with("--"),
            Self::Word => !is_option_or_file(word),
            Self::Key => !is_option_or_file(word) && !is_column(word),
            Self::UserAndSecret => {
                // A script with a colon somewhere is no user.
                let (user, _secret) = word
                    .split_once(':')
                    .filter(|(user, _secret)| word_and_blank(user).0 == user.len())?;
                return Some(format!("{user}:{HIDDEN}"));
            }
        };
        is_hidden.then(|| HIDDEN.to_owned())
    }
}

/// What a word says of the next one; `within` an argument of several words.
fn announces(word: &str, within: bool) -> Next {
    let word = word.trim_matches(['"', '\'', '`', '(', '[', ',']);
    let Some(name) = word.strip_prefix('-') else {
        let is = |name: &&str| word.eq_ignore_ascii_case(name);
        return if is(&"bearer") {
            Next::Secret
        } else if word == "PASS" || ["password", "passwd", "passphrase", "identified"].iter().any(is) {
            Next::Word
        } else {
            Next::Ordinary
        };
    };
    match name {
        "u" | "U" | "-user" | "-proxy-user" => Next::UserAndSecret,
        // Of a script, `mkdir -p` and `ps -p` are the most of it.
        "p" | "P" if within => Next::Key,
        "p" | "P" | "pw" | "passin" | "passout" => Next::Secret,
        "-key" => Next::Key,
        _ if !name.contains('=') && is_secret_name(name) => Next::Secret,
        _ => Next::Ordinary,
    }
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with("pass") || SECRET_WORDS.iter().any(|word| name.contains(word))
}

fn connects(word: &str) -> bool {
    CONNECTORS.iter().any(|known| word.eq_ignore_ascii_case(known))
}

fn is_option_or_file(word: &str) -> bool {
    ["-", "/", "./", "../", "~/"]
        .iter()
        .any(|start| word.starts_with(start))
        || [".pem", ".key", ".crt", ".der", ".p12", "/"]
            .iter()
            .any(|end| word.ends_with(end))
}

/// `2`, `2,3`, `1.2nr`, as `sort` takes them.
fn is_column(word: &str) -> bool {
    word.len() <= 7
        && word.starts_with(|c: char| c.is_ascii_digit())
        && word
            .chars()
            .all(|c| c.is_ascii_digit() || ".,bdfghinrMRV".contains(c))
}

/// What is hidden of the words to come.
enum Hide {
    Nothing,
    /// Up to the quotation mark that closes.
    Quoted(char),
    Rest,
}

/// One argument without its secrets. Control characters and blanks divide it into words, for it may be a script.
fn scrub(argument: &str, next: &mut Next, is_script: bool) -> String {
    let (first_len, _) = word_and_blank(argument);
    let within = first_len < argument.len();
    // Where an argument begins, what is announced or set is all of it, with whatever is in it.
    if let Some(shown) = next.hides(argument).filter(|_| !connects(argument)) {
        *next = match argument.strip_prefix('-') {
            Some(_) => announces(argument, false),
            None => Next::Ordinary,
        };
        return shown;
    }
    let first = &argument[..first_len];
    if let Some((name, value)) = argument.split_once('=')
        && name.len() < first_len
        && !value.is_empty()
        && is_secret_name(name)
        && (name.starts_with('-') || (within && !is_script && !first.contains(DIVIDERS)))
    {
        *next = Next::Ordinary;
        return format!("{name}={HIDDEN}");
    }
    let mut hide = Hide::Nothing;
    let mut shown = String::with_capacity(argument.len());
    let mut rest = argument;
    while !rest.is_empty() {
        let (word_len, blank_len) = word_and_blank(rest);
        let (word, blank) = (&rest[..word_len], &rest[word_len..word_len + blank_len]);
        rest = &rest[word_len + blank_len..];
        match hide {
            _ if word.is_empty() => {}
            Hide::Rest => shown.push_str(HIDDEN),
            Hide::Quoted(mark) => {
                if word.contains(mark) {
                    hide = Hide::Nothing;
                }
                shown.push_str(HIDDEN);
            }
            Hide::Nothing if *next != Next::Ordinary && connects(word) => {
                shown.push_str(word);
            }
            Hide::Nothing => {
                if let Some(hidden) = next.hides(word) {
                    shown.push_str(&hidden);
                    *next = Next::Ordinary;
                    hide = opened(word);
                } else {
                    *next = announces(word, within);
                    shown.push_str(&scrub_parts(word));
                    let (_name, value) =
                        secret_of(word.rsplit(DIVIDERS).next().unwrap_or(word)).unwrap_or_default();
                    hide = opened(value);
                    if !blank.is_empty() && begins_header(word) {
                        hide = Hide::Rest;
                        *next = Next::Ordinary;
                    }
                }
            }
        }
        shown.push_str(blank);
    }
    shown
}

/// Lengths of the word at the start of a text and of the blank behind it: white space, or a control character as
/// `escape` writes it.
fn word_and_blank(text: &str) -> (usize, usize) {
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let left = &text[at..];
        if c.is_whitespace() {
            return (at, c.len_utf8());
        }
        let length = |characters| left.chars().take(characters).map(char::len_utf8).sum::<usize>();
        let begins = |escaped: &[&str]| escaped.iter().any(|escaped| left.starts_with(escaped));
        if begins(&["\\x0", "\\x1", "\\x7f"]) {
            return (at, length(4));
        } else if begins(&["\\xc2\\x8", "\\xc2\\x9"]) {
            return (at, length(8));
        }
        // A doubled backslash, or a byte, of which the rest is as any letter.
        at += length(if c == '\\' { 2 } else { 1 });
    }
    (at, 0)
}

/// A secret that begins with a quotation mark and does not end with it goes on behind the blank.
fn opened(secret: &str) -> Hide {
    let mut characters = secret.chars();
    match characters.next() {
        Some(mark @ ('"' | '\'')) if !characters.as_str().contains(mark) => Hide::Quoted(mark),
        _ => Hide::Nothing,
    }
}

/// `Authorization: Bearer X` goes on to the end.
fn begins_header(word: &str) -> bool {
    let name = word.trim_end_matches([':', '=']);
    let scheme = secret_of(word).map_or(word, |(_name, value)| value);
    (name.len() < word.len() && is_secret_name(name))
        || ["bearer", "basic"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
}

/// One word without its secrets: a header, a query, a connection string, of which each part may hold one.
fn scrub_parts(word: &str) -> String {
    word.split_inclusive(DIVIDERS)
        .map(|part| {
            let bare = part.trim_end_matches(DIVIDERS);
            scrub_word(bare) + &part[bare.len()..]
        })
        .collect()
}

/// Name with separator, and value, of `name=value` or `name:value` whose name says that it is secret.
fn secret_of(word: &str) -> Option<(&str, &str)> {
    ['=', ':'].into_iter().find_map(|separator| {
        let (name, value) = word.split_once(separator)?;
        let is_secret = match name {
            "-key" | "--key" => !is_option_or_file(value) && !is_column(value),
            name => is_secret_name(name),
        };
        (!value.is_empty() && !value.starts_with("//") && is_secret).then(|| word.split_at(name.len() + 1))
    })
}

/// One part without its secret.
fn scrub_word(word: &str) -> String {
    let word = &hide_userinfo(word);
    if let Some((name, _secret)) = secret_of(word) {
        return format!("{name}{HIDDEN}");
    }
    // mysql's -pSECRET, but not -passin and its like, nor PuTTY's -pw, which are options of their own.
    if let Some(rest) = word.strip_prefix("-p")
        && !rest.is_empty()
        && rest != "w"
        && !rest.starts_with(|c: char| c.is_ascii_digit())
        && !rest.starts_with("ass")
    {
        return format!("-p{HIDDEN}");
    }
    // curl's -uUSER:SECRET, -UUSER:SECRET and --user=USER:SECRET.
    for option in ["-u", "-U", "--user=", "--proxy-user="] {
        if let Some((user, _secret)) = word.strip_prefix(option).and_then(|rest| rest.split_once(':')) {
            return format!("{option}{user}:{HIDDEN}");
        }
    }
    hide_blobs(word)
}

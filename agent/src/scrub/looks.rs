//! Secrets that show by their looks, whatever stands before them: keys of well-known services, the password of an
//! address, long runs of digits.

use super::{DIVIDERS, HIDDEN};

/// A run of base64 or hexadecimal digits this long is taken for a secret.
const BLOB_LEN_MIN: usize = 32;

/// How well-known services begin their keys, and how many letters and digits follow at least: some begin like a word.
const KEYS: [(&str, usize); 24] = [
    ("eyJ", 0),
    ("AIza", 30),
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
pub(super) fn hide_keys(argument: &str) -> String {
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
pub(super) fn hide_userinfo(argument: &str) -> String {
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
pub(super) fn hide_blobs(argument: &str) -> String {
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

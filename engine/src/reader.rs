//! What a question of the reader may cost. Pure.

use crate::{lexer::Lexer, settings};

/// What a question of the reader may take, unless its own settings say less: a minute, 1 GiB and a million rows. A
/// dashboard that forgot its range must not keep the machine from writing.
const READER_LIMITS: [(&str, u64); 3] = [
    ("max_execution_time", 60),
    ("max_memory_usage", 1 << 30),
    ("max_result_rows", 1_000_000),
];

/// Puts the bounds in; what was asked for and is lower stays.
pub fn bound(settings: &mut Vec<(String, String)>) {
    for (name, most) in READER_LIMITS {
        let within = |value: &str| {
            value
                .parse::<u64>()
                .is_ok_and(|value| (1..=most).contains(&value))
        };
        if !settings
            .iter()
            .any(|(asked, value)| asked == name && within(value))
        {
            settings.retain(|(asked, _)| asked != name);
            settings.push((name.to_owned(), most.to_string()));
        }
    }
}

/// The first of these settings that a statement itself sets: behind the bounds of the request it would win.
#[must_use]
pub fn lifts(statement: &[u8]) -> Option<String> {
    let tokens: Vec<_> = Lexer::new(statement).collect();
    if !settings::sets(statement, &tokens) {
        return None;
    }
    settings::named(statement, &tokens, |name| {
        READER_LIMITS
            .iter()
            .any(|(limit, _)| name.eq_ignore_ascii_case(limit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_bound_stays_and_none_is_lifted() {
        let mut settings = vec![
            ("max_execution_time".to_owned(), "5".to_owned()),
            ("max_memory_usage".to_owned(), "0".to_owned()),
            ("max_threads".to_owned(), "1".to_owned()),
        ];
        bound(&mut settings);
        settings.sort();
        let text: Vec<String> = settings
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            text,
            [
                "max_execution_time=5",
                "max_memory_usage=1073741824",
                "max_result_rows=1000000",
                "max_threads=1"
            ]
        );
    }

    #[test]
    fn a_statement_that_sets_a_bound_is_seen() {
        for text in [
            "SELECT 1 SETTINGS max_memory_usage = 0",
            "SELECT * FROM (SELECT 1 SETTINGS Max_Execution_Time=0)",
            "SET max_result_rows = 0",
        ] {
            assert!(lifts(text.as_bytes()).is_some(), "{text}");
        }
        for text in [
            "SELECT getSetting('max_memory_usage')",
            "SELECT 1 SETTINGS max_threads = 1",
            "SELECT max_memory_usage FROM t",
        ] {
            assert_eq!(lifts(text.as_bytes()), None, "{text}");
        }
    }
}

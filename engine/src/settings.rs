//! Settings that name a file or an address: reading one shows it in errors, writing one writes it. Pure.

use crate::lexer::{Kind, Token};

const REACHING: &[&str] = &[
    "format_avro_schema_registry_url",
    "format_schema",
    "format_schema_path",
    "format_schema_source",
    "format_template_resultset",
    "format_template_row",
    "input_format_record_errors_file_path",
    "output_format_schema",
    "rename_files_after_processing",
];

/// Whether a setting of this name reaches outside of the engine.
#[must_use]
pub fn reaches_outside(name: &str) -> bool {
    REACHING
        .iter()
        .any(|reaching| name.eq_ignore_ascii_case(reaching))
}

/// The first name of such a setting in a statement, wherever it stands: nothing else is called so. A quoted name with
/// an escape in it could be any, where settings are set.
#[must_use]
pub fn reaching(text: &[u8], tokens: &[Token]) -> Option<String> {
    named(text, tokens, reaches_outside)
}

/// Whether a statement sets settings.
#[must_use]
pub fn sets(text: &[u8], tokens: &[Token]) -> bool {
    tokens.iter().any(|token| {
        token.is_word(text, "SETTINGS") || token.is_word(text, "SET") || token.is_word(text, "SETTING")
    })
}

/// The first name in a statement that is meant, or that could be.
pub fn named(text: &[u8], tokens: &[Token], is_meant: impl Fn(&str) -> bool) -> Option<String> {
    let sets = sets(text, tokens);
    tokens
        .iter()
        .filter(|token| matches!(token.kind, Kind::Word | Kind::QuotedName))
        .map(|token| {
            (
                token.kind == Kind::QuotedName,
                String::from_utf8_lossy(token.content(text)),
            )
        })
        .find(|(is_quoted, name)| is_meant(name) || (sets && *is_quoted && name.contains('\\')))
        .map(|(_is_quoted, name)| name.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexer::Lexer;

    fn check(text: &str) -> bool {
        let tokens: Vec<_> = Lexer::new(text.as_bytes()).collect();
        reaching(text.as_bytes(), &tokens).is_some()
    }

    #[test]
    fn settings_that_name_a_file_are_found_however_they_are_written() {
        for text in [
            "SELECT 1 SETTINGS format_template_resultset='/proc/self/maps'",
            "SELECT 1 FORMAT Template SETTINGS max_threads = 1, /* x */ Format_Template_Row = '/x'",
            "SET `format_schema` = '/x'",
            "SELECT 1 SETTINGS `format\\x5fschema` = '/x'",
            "SELECT 1 SETTINGS \"output_format_schema\" = 'x'",
            "CREATE VIEW v AS SELECT 1 SETTINGS input_format_record_errors_file_path = 'x'",
        ] {
            assert!(check(text), "{text}");
        }
        for text in [
            "SELECT value FROM system.settings WHERE name = 'format_schema'",
            "SELECT 1 FORMAT Template SETTINGS format_template_row_format = '${0:CSV}'",
            "SELECT `a\\nb` FROM t",
        ] {
            assert!(!check(text), "{text}");
        }
    }
}

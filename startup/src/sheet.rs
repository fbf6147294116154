//! Text for people who open what our programs write in a spreadsheet.

/// Text that no spreadsheet takes for a formula: what would begin one has an apostrophe in front.
#[must_use]
pub fn no_formula(text: String) -> String {
    // Blanks in front do not hinder a spreadsheet, and wide forms are read as the narrow ones.
    let first = text.trim_start().chars().next();
    if matches!(
        first,
        Some('=' | '+' | '-' | '@' | '|' | '%' | '＝' | '＋' | '－' | '＠')
    ) {
        format!("'{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_a_formula_is_text() {
        for formula in ["=1", "+1", "-1", "@x", "|x", "%x", " \t=1", "＝1", "＠x"] {
            assert_eq!(no_formula(formula.to_owned()), format!("'{formula}"));
        }
        for text in ["", "a=1", "1-1", "'=1"] {
            assert_eq!(no_formula(text.to_owned()), text);
        }
    }
}

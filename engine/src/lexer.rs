//! ClickHouse SQL cut into tokens: just enough to know what is text, what is a name and what is a comment. Pure.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A bare word: keyword, name or number.
    Word,
    /// A name in backticks or double quotes.
    QuotedName,
    /// A string literal, in quotes or as a heredoc.
    Text,
    /// One byte of punctuation.
    Symbol(u8),
}

/// One token; its bytes are `start..end` of the text that was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Its first byte.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
}

impl Token {
    /// Whether this is the bare word `word`, whatever its case.
    #[must_use]
    pub fn is_word(&self, text: &[u8], word: &str) -> bool {
        self.kind == Kind::Word && self.bytes(text).eq_ignore_ascii_case(word.as_bytes())
    }

    /// Whether this is the punctuation `symbol`.
    #[must_use]
    pub fn is_symbol(&self, symbol: u8) -> bool {
        self.kind == Kind::Symbol(symbol)
    }

    /// The token's bytes in the text it was cut from.
    #[must_use]
    pub fn bytes<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(self.start..self.end).unwrap_or_default()
    }

    /// The name that a word or a quoted name stands for, or the content of a literal: quotes taken off.
    #[must_use]
    pub fn content<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        let bytes = self.bytes(text);
        match self.kind {
            Kind::QuotedName | Kind::Text if bytes.len() >= 2 => &bytes[1..bytes.len() - 1],
            _ => bytes,
        }
    }
}

/// Walks over the tokens of a text, comments and blanks left out.
#[derive(Debug, Clone)]
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    open_ended: bool,
}

impl<'a> Lexer<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            at: 0,
            open_ended: false,
        }
    }

    /// Whether the last token or comment touches the end of the text, so that more text could change it.
    #[must_use]
    pub fn touched_end(&self) -> bool {
        self.open_ended || self.at >= self.text.len()
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    /// Moves to just after the next `needle`, or to the end.
    fn skip_past(&mut self, needle: &[u8]) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if let Some(found) = rest.windows(needle.len()).position(|window| window == needle) {
            self.at += found + needle.len();
        } else {
            self.at = self.text.len();
            self.open_ended = true;
        }
    }

    fn skip_blanks_and_comments(&mut self) {
        while let Some(byte) = self.peek(0) {
            match (byte, self.peek(1)) {
                (b'-', Some(b'-')) | (b'#', Some(b' ' | b'!')) => self.skip_past(b"\n"),
                (b'/', Some(b'*')) => {
                    self.at += 2;
                    self.skip_past(b"*/");
                }
                _ if byte.is_ascii_whitespace() || byte == 0x0b || byte == 0 => self.at += 1,
                _ => match self.beyond_ascii() {
                    Some((wide, length)) if is_wide_blank(wide) => self.at += length,
                    _ => return,
                },
            }
        }
    }

    /// Moves behind the closing quote; a doubled quote and a backslash do not close.
    fn skip_quoted(&mut self, quote: u8) {
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            if byte == b'\\' || (byte == quote && self.peek(1) == Some(quote)) {
                self.at += 2;
            } else if byte == quote {
                self.at += 1;
                return;
            } else {
                self.at += 1;
            }
        }
        self.at = self.text.len();
        self.open_ended = true;
    }

    /// The character here and its length in bytes, if it is one beyond ASCII.
    fn beyond_ascii(&self) -> Option<(char, usize)> {
        let length = match self.peek(0)? {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return None,
        };
        let bytes = self.text.get(self.at..self.at + length)?;
        Some((std::str::from_utf8(bytes).ok()?.chars().next()?, length))
    }

    /// Moves behind a bare word. Blanks and quotes beyond ASCII end it, as they do for the engine.
    fn skip_word(&mut self) {
        while self.peek(0).is_some_and(is_word_byte) {
            match self.beyond_ascii() {
                Some((wide, _)) if is_wide_blank(wide) || matches!(wide, '\u{2018}' | '\u{201c}') => return,
                Some((_, length)) => self.at += length,
                None => self.at += 1,
            }
        }
    }

    /// The length of a heredoc's opening tag (`$$`, `$tag$`), if one stands here.
    fn heredoc_tag(&self) -> Option<usize> {
        let rest = self.text.get(self.at + 1..)?;
        let name = rest
            .iter()
            .take_while(|byte| is_word_byte(**byte) && **byte != b'$')
            .count();
        (rest.get(name) == Some(&b'$')).then_some(name + 2)
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.skip_blanks_and_comments();
        let start = self.at;
        let kind = match self.peek(0)? {
            b'\'' => {
                self.skip_quoted(b'\'');
                Kind::Text
            }
            quote @ (b'`' | b'"') => {
                self.skip_quoted(quote);
                Kind::QuotedName
            }
            b'$' if self.heredoc_tag().is_some() => {
                let length = self.heredoc_tag().unwrap_or(0);
                let tag = self.text.get(start..start + length).unwrap_or_default();
                self.at += length;
                self.skip_past(tag);
                Kind::Text
            }
            _ if self
                .text
                .get(start..)
                .is_some_and(|rest| rest.starts_with("\u{2018}".as_bytes())) =>
            {
                self.skip_past("\u{2019}".as_bytes());
                Kind::Text
            }
            _ if self
                .text
                .get(start..)
                .is_some_and(|rest| rest.starts_with("\u{201c}".as_bytes())) =>
            {
                self.skip_past("\u{201d}".as_bytes());
                Kind::QuotedName
            }
            byte if is_word_byte(byte) => {
                self.skip_word();
                Kind::Word
            }
            byte => {
                self.at += 1;
                Kind::Symbol(byte)
            }
        };
        Some(Token {
            kind,
            start,
            end: self.at,
        })
    }
}

/// Letters, digits, `_`, `$`, and every byte of a character beyond ASCII.
fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Blanks beyond ASCII, as the engine knows them.
fn is_wide_blank(wide: char) -> bool {
    matches!(
        wide,
        '\u{85}' | '\u{a0}' | '\u{1680}' | '\u{180e}' | '\u{2000}'..='\u{200d}' | '\u{2028}' | '\u{2029}'
    ) || matches!(
        wide,
        '\u{202f}' | '\u{205f}' | '\u{2060}' | '\u{3000}' | '\u{feff}'
    )
}

/// How parentheses, brackets and braces nest: feed it every token; `depth` is what encloses the token.
#[derive(Debug, Default, Clone, Copy)]
pub struct Nesting {
    open: usize,
}

impl Nesting {
    /// The depth at which `token` stands; an opening or closing one belongs to the outside.
    pub fn depth(&mut self, token: &Token) -> usize {
        match token.kind {
            Kind::Symbol(b'(' | b'[' | b'{') => {
                self.open += 1;
                self.open - 1
            }
            Kind::Symbol(b')' | b']' | b'}') => {
                self.open = self.open.saturating_sub(1);
                self.open
            }
            _ => self.open,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found: Vec<_> = Lexer::new(text.as_bytes())
            .map(|token| String::from_utf8_lossy(token.bytes(text.as_bytes())).into_owned())
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn comments_are_left_out_and_quotes_hold_together() {
        check(
            "a -- b\n/* c ' */ 'd''e\\'f' `g``h` \"i j\"",
            &["a", "'d''e\\'f'", "`g``h`", "\"i j\""],
        );
    }

    #[test]
    fn a_heredoc_is_one_token() {
        check("$x$ it's $ $x$ y $$ z $$", &["$x$ it's $ $x$", "y", "$$ z $$"]);
    }

    #[test]
    fn blanks_and_quotes_beyond_ascii_are_what_they_are_for_the_engine() {
        check(
            "file\u{a0}(\u{2003}\u{2018}it's\u{2019})",
            &["file", "(", "\u{2018}it's\u{2019}", ")"],
        );
        check(
            "a \u{201c}b ' c\u{201d} gr\u{fc}n\u{1f980}",
            &["a", "\u{201c}b ' c\u{201d}", "gr\u{fc}n\u{1f980}"],
        );
    }

    #[test]
    fn punctuation_stands_alone() {
        check("f(a,1.5);", &["f", "(", "a", ",", "1", ".", "5", ")", ";"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_to_their_end(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut end = 0;
            for token in Lexer::new(&text) {
                prop_assert!(token.start >= end && token.end > token.start);
                end = token.end;
            }
            prop_assert!(end <= text.len() + 1);
        }
    }
}

//! Errors in ClickHouse's words: code, text, and the HTTP status that belongs to each code.

use std::fmt;

use hyper::StatusCode;

/// A ClickHouse error code and its name, for the errors that this front raises itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32, pub &'static str);

impl Code {
    /// A parameter or header that makes no sense.
    pub const BAD_ARGUMENTS: Self = Self(36, "BAD_ARGUMENTS");
    /// A compressed frame whose checksum is not that of its bytes.
    pub const CHECKSUM_DOESNT_MATCH: Self = Self(40, "CHECKSUM_DOESNT_MATCH");
    /// Something that a ClickHouse server can do and this front cannot.
    pub const NOT_IMPLEMENTED: Self = Self(48, "NOT_IMPLEMENTED");
    /// A mistake in this program.
    pub const LOGICAL_ERROR: Self = Self(49, "LOGICAL_ERROR");
    /// Text that is no statement, or more than one.
    pub const SYNTAX_ERROR: Self = Self(62, "SYNTAX_ERROR");
    /// A content encoding or frame method that is not known.
    pub const UNKNOWN_COMPRESSION_METHOD: Self = Self(89, "UNKNOWN_COMPRESSION_METHOD");
    /// A parameter that is no setting.
    pub const UNKNOWN_SETTING: Self = Self(115, "UNKNOWN_SETTING");
    /// A statement that writes, sent where only reading is allowed.
    pub const READONLY: Self = Self(164, "READONLY");
    /// The pool and its queue are full.
    pub const TOO_MANY_SIMULTANEOUS_QUERIES: Self = Self(202, "TOO_MANY_SIMULTANEOUS_QUERIES");
    /// The request's body ended early or could not be read.
    pub const CANNOT_READ_ALL_DATA: Self = Self(33, "CANNOT_READ_ALL_DATA");
    /// A query id that is in use.
    pub const QUERY_WITH_SAME_ID: Self = Self(216, "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING");
    /// A statement longer than is read.
    pub const QUERY_IS_TOO_LARGE: Self = Self(229, "QUERY_IS_TOO_LARGE");
    /// Compressed bytes that cannot be decompressed.
    pub const CANNOT_DECOMPRESS: Self = Self(271, "CANNOT_DECOMPRESS");
    /// A disk without room.
    pub const NOT_ENOUGH_SPACE: Self = Self(243, "NOT_ENOUGH_SPACE");
    /// A session that has to exist and does not.
    pub const SESSION_NOT_FOUND: Self = Self(372, "SESSION_NOT_FOUND");
    /// A session in which another query runs.
    pub const SESSION_IS_LOCKED: Self = Self(373, "SESSION_IS_LOCKED");
    /// A query that was killed or whose client has gone.
    pub const QUERY_WAS_CANCELLED: Self = Self(394, "QUERY_WAS_CANCELLED");
    /// A statement that this front refuses.
    pub const ACCESS_DENIED: Self = Self(497, "ACCESS_DENIED");
    /// A wrong user or password.
    pub const AUTHENTICATION_FAILED: Self = Self(516, "AUTHENTICATION_FAILED");
}

/// An error as ClickHouse words it: `Code: N. DB::Exception: … (NAME)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    code: u32,
    text: String,
}

impl Exception {
    /// An error of this front.
    pub fn new(code: Code, message: impl fmt::Display) -> Self {
        Self {
            code: code.0,
            text: format!("Code: {}. DB::Exception: {message}. ({})", code.0, code.1),
        }
    }

    /// An error that the engine worded; text without a code counts as `UNKNOWN_EXCEPTION`, 1002.
    #[must_use]
    pub fn from_engine(text: &str) -> Self {
        let text = text.trim_end();
        let number = text
            .strip_prefix("Code: ")
            .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect());
        match number.and_then(|digits: String| digits.parse().ok()) {
            Some(code) => Self {
                code,
                text: without_version(text).to_owned(),
            },
            None => Self {
                code: 1002,
                text: format!("Code: 1002. DB::Exception: {text}. (UNKNOWN_EXCEPTION)"),
            },
        }
    }

    /// ClickHouse's number for this error.
    #[must_use]
    pub fn code(&self) -> u32 {
        self.code
    }

    /// The line a client gets: the error and the engine's version.
    #[must_use]
    pub fn line(&self, version: &str) -> String {
        format!("{} (version {version})\n", self.text)
    }

    /// The HTTP status a ClickHouse server answers with for this code.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.code {
            6 | 8 | 15 | 25 | 26 | 27 | 36 | 37 | 38 | 41 | 44 | 53 | 62 | 72 | 117 | 123 | 167 | 168
            | 223 | 321 | 376 | 427 | 441 | 675 | 676 => StatusCode::BAD_REQUEST,
            194 => StatusCode::UNAUTHORIZED,
            192 | 193 | 497 | 512 | 516 => StatusCode::FORBIDDEN,
            46 | 47 | 50 | 56 | 60 | 63 | 73 | 78 | 81 | 115 | 152 | 336 | 511 => StatusCode::NOT_FOUND,
            159 => StatusCode::REQUEST_TIMEOUT,
            381 => StatusCode::LENGTH_REQUIRED,
            229 => StatusCode::PAYLOAD_TOO_LARGE,
            779 => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            48 => StatusCode::NOT_IMPLEMENTED,
            76 | 209 | 439 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Exception {}

/// Some engine errors end in the version and most do not; it is added once, at the end.
fn without_version(text: &str) -> &str {
    match text.rfind(" (version ") {
        Some(at) if text.ends_with(')') => &text[..at],
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_error_keeps_its_code_and_gets_the_version_once() {
        for text in [
            "Code: 60. DB::Exception: no. (UNKNOWN_TABLE)",
            "Code: 60. DB::Exception: no. (UNKNOWN_TABLE) (version 1.2)",
        ] {
            let error = Exception::from_engine(text);
            assert_eq!((error.code(), error.status()), (60, StatusCode::NOT_FOUND));
            assert_eq!(
                error.line("1.2"),
                "Code: 60. DB::Exception: no. (UNKNOWN_TABLE) (version 1.2)\n"
            );
        }
    }

    #[test]
    fn text_without_a_code_is_an_unknown_exception() {
        let error = Exception::from_engine("send_insert does not support this");
        assert_eq!(
            (error.code(), error.status()),
            (1002, StatusCode::INTERNAL_SERVER_ERROR)
        );
    }

    #[test]
    fn statuses_are_those_of_a_clickhouse_server() {
        for (code, status) in [
            (62, 400),
            (60, 404),
            (115, 404),
            (159, 408),
            (516, 403),
            (241, 500),
            (48, 501),
            (164, 500),
        ] {
            assert_eq!(
                Exception {
                    code,
                    text: String::new()
                }
                .status()
                .as_u16(),
                status,
                "{code}"
            );
        }
    }
}

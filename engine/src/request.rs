//! What a request asks for: text, parameters, settings, format, session, compression. Pure.

use std::time::Duration;

use base64::Engine as _;
use hyper::{HeaderMap, Method, header};

use crate::{
    chdb::Param,
    compression::Encoding,
    exception::{Code, Exception},
    sessions::{TIMEOUT_DEFAULT, TIMEOUT_MAX},
};

/// No request may carry more parameters.
const PARAMETERS_MAX: usize = 1000;

/// Who says that they ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: String,
}

/// A session that a request belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its name, chosen by the client.
    pub id: String,
    /// Whether it has to exist.
    pub must_exist: bool,
    /// How long it waits for the next request.
    pub timeout: Duration,
    /// Whether it ends with this request.
    pub close: bool,
}

/// What one request asks for, its body left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The parameter `query`: the first part of the text.
    pub query: String,
    /// Values for `{name:Type}`.
    pub params: Vec<Param>,
    /// Settings for this query.
    pub settings: Vec<(String, String)>,
    /// The current database.
    pub database: Option<String>,
    /// The format where the statement names none.
    pub format: Option<String>,
    /// The query's id.
    pub query_id: Option<String>,
    /// The session.
    pub session: Option<Session>,
    /// Who asks.
    pub credentials: Option<Credentials>,
    /// Whether only reading is allowed: the method is GET.
    pub readonly: bool,
    /// Whether the answer is held back until it is complete.
    pub buffered: bool,
    /// How body and answer are compressed.
    pub wire: Wire,
}

/// How body and answer are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wire {
    /// The answer's content encoding.
    pub accept: Encoding,
    /// Whether the answer is written in native frames.
    pub compress: bool,
    /// The body's content encoding.
    pub content: Encoding,
    /// Whether the body is written in native frames.
    pub decompress: bool,
}

impl Ask {
    /// Reads method, headers and the URL's query.
    ///
    /// # Errors
    /// `BAD_ARGUMENTS` for a value that makes no sense.
    pub fn new(method: &Method, headers: &HeaderMap, url_query: &str) -> Result<Self, Exception> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let mut ask = Self {
            query: String::new(),
            params: Vec::new(),
            settings: Vec::new(),
            database: text("x-clickhouse-database").map(str::to_owned),
            format: text("x-clickhouse-format").map(str::to_owned),
            query_id: text("x-clickhouse-query-id").map(str::to_owned),
            session: None,
            credentials: None,
            readonly: method != Method::POST && method != Method::PUT,
            buffered: false,
            wire: Wire {
                accept: Encoding::of_accept(text("accept-encoding").unwrap_or_default()),
                compress: false,
                content: Encoding::of_content(text("content-encoding").unwrap_or_default())?,
                decompress: false,
            },
        };
        let mut session = SessionParts::default();
        let mut url_credentials = PartialCredentials::default();
        for (at, (name, value)) in form_urlencoded::parse(url_query.as_bytes()).enumerate() {
            if at >= PARAMETERS_MAX {
                return Err(bad(format_args!(
                    "Too many parameters: more than {PARAMETERS_MAX}"
                )));
            }
            ask.parameter(&name, value.into_owned(), &mut session, &mut url_credentials)?;
        }
        ask.session = session.finish()?;
        ask.credentials = credentials(headers)?.or_else(|| url_credentials.finish());
        Ok(ask)
    }

    /// Takes one parameter of the URL.
    fn parameter(
        &mut self,
        name: &str,
        value: String,
        session: &mut SessionParts,
        credentials: &mut PartialCredentials,
    ) -> Result<(), Exception> {
        match name {
            "query" => self.query = value,
            "database" => self.database = Some(value),
            "default_format" => self.format = Some(value),
            "query_id" => self.query_id = Some(value),
            "user" => credentials.user = Some(value),
            "password" => credentials.password = Some(value),
            "session_id" => session.id = Some(value),
            "session_check" => session.must_exist = flag(name, &value)?,
            "session_timeout" => session.timeout = Some(value),
            "close_session" => session.close = flag(name, &value)?,
            "compress" => self.wire.compress = flag(name, &value)?,
            "decompress" => self.wire.decompress = flag(name, &value)?,
            "wait_end_of_query" => self.buffered = flag(name, &value)?,
            "enable_http_compression" => {
                if !flag(name, &value)? {
                    self.wire.accept = Encoding::Identity;
                }
            }
            // About how a server answers, not about the query.
            "buffer_size" | "stacktrace" | "quota_key" | "client_protocol_version" | "role" | "" => {}
            _ => match name.strip_prefix("param_") {
                Some(param) => self.params.push((param.to_owned(), value)),
                None => self.settings.push((name.to_owned(), value)),
            },
        }
        Ok(())
    }

    /// Takes one field of a `multipart/form-data` body.
    ///
    /// # Errors
    /// For a field that is neither `query` nor a parameter: data of external tables is not read.
    pub fn field(&mut self, name: &str, value: String) -> Result<(), Exception> {
        match name.strip_prefix("param_") {
            Some(param) => self.params.push((param.to_owned(), value)),
            None if name == "query" => self.query.push_str(&value),
            None if matches!(name, "database") => self.database = Some(value),
            None => {
                let text = format_args!("External tables are not read here: form field `{name}`");
                return Err(Exception::new(Code::NOT_IMPLEMENTED, text));
            }
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct SessionParts {
    id: Option<String>,
    must_exist: bool,
    timeout: Option<String>,
    close: bool,
}

impl SessionParts {
    fn finish(self) -> Result<Option<Session>, Exception> {
        let Some(id) = self.id.filter(|id| !id.is_empty()) else {
            return Ok(None);
        };
        let timeout = match self.timeout {
            None => TIMEOUT_DEFAULT,
            Some(text) => {
                let seconds = text
                    .parse()
                    .map_err(|_error| bad(format_args!("Invalid session timeout: '{text}'")))?;
                Duration::from_secs(seconds)
            }
        };
        if timeout > TIMEOUT_MAX {
            return Err(bad(format_args!(
                "Session timeout is larger than {} s",
                TIMEOUT_MAX.as_secs()
            )));
        }
        Ok(Some(Session {
            id,
            must_exist: self.must_exist,
            timeout,
            close: self.close,
        }))
    }
}

#[derive(Debug, Default)]
struct PartialCredentials {
    user: Option<String>,
    password: Option<String>,
}

impl PartialCredentials {
    fn finish(self) -> Option<Credentials> {
        if self.user.is_none() && self.password.is_none() {
            return None;
        }
        Some(Credentials {
            user: self.user.unwrap_or_default(),
            password: self.password.unwrap_or_default(),
        })
    }
}

/// `X-ClickHouse-User` and `-Key`, or Basic.
fn credentials(headers: &HeaderMap) -> Result<Option<Credentials>, Exception> {
    let text = |name: &str| {
        headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let (user, key) = (text("x-clickhouse-user"), text("x-clickhouse-key"));
    if user.is_some() || key.is_some() {
        return Ok(Some(Credentials {
            user: user.unwrap_or_default(),
            password: key.unwrap_or_default(),
        }));
    }
    let Some(authorization) = text(header::AUTHORIZATION.as_str()) else {
        return Ok(None);
    };
    let Some((scheme, encoded)) = authorization.split_once(' ') else {
        return Ok(None);
    };
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(Exception::new(
            Code::AUTHENTICATION_FAILED,
            "Authentication failed: only Basic is known here",
        ));
    }
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(encoded.trim())
        .map_err(|_error| {
            Exception::new(
                Code::AUTHENTICATION_FAILED,
                "Authentication failed: the Basic header is no base64",
            )
        })?;
    let decoded = String::from_utf8_lossy(&decoded);
    let (user, password) = decoded.split_once(':').unwrap_or((&decoded, ""));
    Ok(Some(Credentials {
        user: user.to_owned(),
        password: password.to_owned(),
    }))
}

fn flag(name: &str, value: &str) -> Result<bool, Exception> {
    match value {
        "1" | "true" => Ok(true),
        "0" | "false" | "" => Ok(false),
        _ => Err(bad(format_args!("The parameter {name} is 0 or 1, not '{value}'"))),
    }
}

fn bad(text: impl std::fmt::Display) -> Exception {
    Exception::new(Code::BAD_ARGUMENTS, text)
}

/// Whether a `Host` header names this machine's loopback: a page elsewhere cannot rebind its name to us then.
#[must_use]
pub fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Whether an `Origin` header names a page of this machine.
#[must_use]
pub fn is_loopback_origin(origin: &str) -> bool {
    origin.split_once("://").is_some_and(|(scheme, rest)| {
        matches!(scheme, "http" | "https") && is_loopback_host(rest.split('/').next().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(method: &Method, headers: &[(&'static str, &'static str)], query: &str) -> Result<Ask, Exception> {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (
                    name.parse::<hyper::header::HeaderName>().unwrap(),
                    value.parse().unwrap(),
                )
            })
            .collect();
        Ask::new(method, &headers, query)
    }

    #[test]
    fn parameters_settings_and_the_rest_are_told_apart() {
        let ask = ask(
            &Method::POST,
            &[],
            "query=SELECT+{x:String}&param_x=a%27b&database=d&max_threads=1&compress=1&query_id=q",
        )
        .unwrap();
        assert_eq!(ask.query, "SELECT {x:String}");
        assert_eq!(ask.params, [("x".to_owned(), "a'b".to_owned())]);
        assert_eq!(ask.settings, [("max_threads".to_owned(), "1".to_owned())]);
        assert_eq!(
            (
                ask.database.as_deref(),
                ask.query_id.as_deref(),
                ask.wire.compress,
                ask.readonly
            ),
            (Some("d"), Some("q"), true, false)
        );
    }

    #[test]
    fn get_reads_only() {
        assert!(ask(&Method::GET, &[], "").unwrap().readonly);
    }

    #[test]
    fn every_way_to_say_who_asks_is_read() {
        let expected = Some(Credentials {
            user: "u".to_owned(),
            password: "p:q".to_owned(),
        });
        let basic: &[_] = &[("authorization", "Basic dTpwOnE=")];
        let headers: &[_] = &[("x-clickhouse-user", "u"), ("x-clickhouse-key", "p:q")];
        for (headers, query) in [(basic, ""), (headers, ""), (&[], "user=u&password=p:q")] {
            assert_eq!(
                ask(&Method::GET, headers, query).unwrap().credentials,
                expected,
                "{query}"
            );
        }
        assert_eq!(
            ask(&Method::GET, &[("authorization", "Bearer x")], "")
                .unwrap_err()
                .code(),
            516
        );
    }

    #[test]
    fn a_session_has_bounds() {
        let session = ask(
            &Method::POST,
            &[],
            "session_id=s&session_timeout=5&session_check=1",
        )
        .unwrap()
        .session
        .unwrap();
        assert_eq!(
            (session.timeout, session.must_exist),
            (Duration::from_secs(5), true)
        );
        assert!(ask(&Method::POST, &[], "session_id=s&session_timeout=9999").is_err());
        assert!(ask(&Method::POST, &[], "session_id=s&session_timeout=x").is_err());
    }

    #[test]
    fn loopback_names_are_known() {
        for host in [
            "localhost",
            "localhost:8123",
            "127.0.0.1:8123",
            "127.9.9.9",
            "[::1]:8123",
            "LOCALHOST.",
            "a.localhost:1",
        ] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in [
            "example.com",
            "localhost.example.com",
            "10.0.0.1:8123",
            "127.0.0.1.example.com",
            "[::2]",
            "",
            "0.0.0.0",
        ] {
            assert!(!is_loopback_host(host), "{host}");
        }
        assert!(
            is_loopback_origin("http://localhost:3000")
                && !is_loopback_origin("http://evil.example")
                && !is_loopback_origin("null")
        );
    }

    proptest! {
        #[test]
        fn any_query_is_read_or_refused(query in "[ -~]{0,200}") {
            drop(Ask::new(&Method::POST, &HeaderMap::new(), &query));
        }
    }
}

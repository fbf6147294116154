//! Who may ask: users and passwords, and the names under which this interface may be reached.

use hyper::{HeaderMap, header};
use subtle::ConstantTimeEq as _;

use crate::{
    exception::{Code, Exception},
    request::{Credentials, is_loopback_host, is_loopback_origin},
};

/// One user.
#[derive(Clone)]
pub struct Account {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
    /// Whether it may only read.
    pub reader: bool,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("user", &self.user)
            .field("reader", &self.reader)
            .finish_non_exhaustive()
    }
}

/// Everybody who may ask, and from where.
#[derive(Debug, Clone)]
pub struct Access {
    accounts: Vec<Account>,
    any_host: bool,
}

impl Access {
    /// `any_host` lifts the rule that `Host` and `Origin` are loopback names.
    #[must_use]
    pub fn new(accounts: Vec<Account>, any_host: bool) -> Self {
        Self { accounts, any_host }
    }

    /// Refuses requests that a page from elsewhere makes this machine's browser send.
    ///
    /// # Errors
    /// `ACCESS_DENIED`.
    pub fn check_host(&self, headers: &HeaderMap, uri_host: Option<&str>) -> Result<(), Exception> {
        if self.any_host {
            return Ok(());
        }
        let refuse = |name: &str, value: &str| {
            let text = format_args!(
                "{name} `{value}` is no loopback name; --insecure of procscope-engine allows others"
            );
            Err(Exception::new(Code::ACCESS_DENIED, text))
        };
        let text = |name| {
            headers
                .get(name)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        for host in text(header::HOST).iter().map(String::as_str).chain(uri_host) {
            if !is_loopback_host(host) {
                return refuse("Host", host);
            }
        }
        match text(header::ORIGIN) {
            Some(origin) if !is_loopback_origin(&origin) => refuse("Origin", &origin),
            _ => Ok(()),
        }
    }

    /// Finds the user; `true`: may only read.
    ///
    /// # Errors
    /// `AUTHENTICATION_FAILED`, the same for a wrong user and a wrong password.
    pub fn check_user(&self, credentials: Option<&Credentials>) -> Result<bool, Exception> {
        let none = Credentials::default();
        let asked = credentials.unwrap_or(&none);
        let mut found = None;
        // Every account is compared in full, so that time tells nothing.
        for account in &self.accounts {
            let user = account.user.as_bytes().ct_eq(asked.user.as_bytes());
            let password = account.password.as_bytes().ct_eq(asked.password.as_bytes());
            if bool::from(user & password) {
                found = Some(account.reader);
            }
        }
        found.ok_or_else(|| {
            let user = if asked.user.is_empty() {
                "default"
            } else {
                &asked.user
            };
            let text = format_args!(
                "{user}: Authentication failed: password is incorrect, or there is no user with such name"
            );
            Exception::new(Code::AUTHENTICATION_FAILED, text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        let account = |user: &str, password: &str, reader| Account {
            user: user.to_owned(),
            password: password.to_owned(),
            reader,
        };
        Access::new(
            vec![account("writer", "w", false), account("reader", "r", true)],
            false,
        )
    }

    #[test]
    fn only_the_right_password_opens() {
        let check = |user: &str, password: &str| {
            access().check_user(Some(&Credentials {
                user: user.to_owned(),
                password: password.to_owned(),
            }))
        };
        assert_eq!(
            (check("writer", "w"), check("reader", "r")),
            (Ok(false), Ok(true))
        );
        for (user, password) in [
            ("writer", "r"),
            ("writer", ""),
            ("", "w"),
            ("nobody", "w"),
            ("writer", "ww"),
        ] {
            assert_eq!(check(user, password).unwrap_err().code(), 516, "{user}");
        }
        assert_eq!(access().check_user(None).unwrap_err().code(), 516);
    }

    #[test]
    fn a_page_from_elsewhere_is_refused() {
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            pairs
                .iter()
                .map(|(name, value)| {
                    (
                        name.parse::<header::HeaderName>().unwrap(),
                        value.parse().unwrap(),
                    )
                })
                .collect()
        };
        assert!(
            access()
                .check_host(&headers(&[("host", "127.0.0.1:8123")]), None)
                .is_ok()
        );
        for pairs in [
            &[("host", "evil.example")][..],
            &[("host", "localhost"), ("origin", "http://evil.example")],
        ] {
            assert_eq!(
                access()
                    .check_host(&headers(pairs), None)
                    .unwrap_err()
                    .status()
                    .as_u16(),
                403
            );
        }
        assert!(access().check_host(&headers(&[]), Some("evil.example")).is_err());
        assert!(
            Access::new(Vec::new(), true)
                .check_host(&headers(&[("host", "evil.example")]), None)
                .is_ok()
        );
    }
}

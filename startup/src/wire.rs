//! The way to a collector: its address, the certificates on both sides, the token, and what may go in the clear.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tonic::{
    Code, Status, TimeoutExpired,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Uri},
};

use crate::{Failure, Result, is_loopback_host, read_private, read_public, read_secret};

/// Files of one who calls a collector. All are read again for each connection, so that they can be replaced.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// Certificates of the authorities that the collector's certificate may come from; none: those of this system.
    pub tls_ca: Option<PathBuf>,
    /// The caller's own certificate and those that lead to its authority.
    pub tls_cert: Option<PathBuf>,
    /// The key of that certificate.
    pub tls_key: Option<PathBuf>,
    /// The token.
    pub token: Option<PathBuf>,
}

/// A checked way to a collector.
#[derive(Debug)]
pub struct Way {
    uri: Uri,
    files: Files,
    tune: fn(Endpoint) -> Endpoint,
    /// What was read last: a file that is wrong later does not end what works.
    good: Mutex<Call>,
}

/// What one connection needs.
#[derive(Debug, Clone)]
pub struct Call {
    /// Where to, with TLS where the address asks for it.
    pub endpoint: Endpoint,
    /// `Bearer TOKEN`.
    pub token: Option<MetadataValue<Ascii>>,
}

impl Way {
    /// Checks an address, named by `option` in errors, and reads all files once.
    ///
    /// # Errors
    /// Exit code 2 with the option, what is wrong and what to do.
    pub fn new(
        option: &str,
        url: &str,
        files: Files,
        insecure: bool,
        tune: fn(Endpoint) -> Endpoint,
    ) -> Result<Self> {
        let shown: String = url
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        let fail = |why: &str| {
            Failure::usage(format_args!(
                "{option} `{shown}` {why}: write http://HOST:PORT on this machine and https://HOST:PORT for others"
            ))
        };
        let uri: Uri = url.parse().map_err(|_not_a_uri| fail("is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(fail("is no http:// or https:// URL")),
        };
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| fail("names no host"))?;
        if uri.path() != "/"
            || uri.query().is_some()
            || uri
                .authority()
                .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(fail("has more in it than host and port"));
        }
        if !tls && (files.tls_ca.is_some() || files.tls_cert.is_some() || files.tls_key.is_some()) {
            return Err(fail("is in the clear and certificates were named"));
        }
        if files.tls_cert.is_some() != files.tls_key.is_some() {
            return Err(Failure::usage(
                "--tls-cert and --tls-key go together: name both, or none",
            ));
        }
        if files.token.is_some() && !tls && !insecure && !is_loopback_host(host) {
            return Err(Failure::usage(format_args!(
                "{option} {uri} is on another machine and the token would go there in the clear: write https:// with \
                 --tls-ca, or allow it with --insecure"
            )));
        }
        let good = Mutex::new(read(&uri, &files, tune)?);
        Ok(Self {
            uri,
            files,
            tune,
            good,
        })
    }

    /// Where to.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// What the next connection needs, as the files are now; and what is wrong with them, when what they held
    /// before has to do.
    pub fn call(&self) -> (Call, Option<Failure>) {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        match read(&self.uri, &self.files, self.tune) {
            Ok(call) => {
                *good = call.clone();
                (call, None)
            }
            Err(failure) => (good.clone(), Some(failure)),
        }
    }
}

/// Whether a conversation ended without a word of the collector: the connection closed under it. Which code that has
/// depends on how far the request had come: Unknown, Internal or Cancelled.
#[must_use]
pub fn broke_off(status: &Status) -> bool {
    // What the collector said itself has no cause on this side, and time that ran out is a cause of its own.
    let mut causes =
        std::iter::successors(std::error::Error::source(status), |cause| cause.source()).peekable();
    matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled)
        && causes.peek().is_some()
        && !causes.any(<dyn std::error::Error>::is::<TimeoutExpired>)
}

/// What to try where a conversation in the clear broke off, if that is what happened: a port that speaks TLS ends it
/// so. Empty otherwise.
#[must_use]
pub fn hint_of_tls(uri: &str, status: &Status) -> &'static str {
    if broke_off(status) && uri.starts_with("http://") {
        "; if that port speaks TLS, write https://"
    } else {
        ""
    }
}

fn read(uri: &Uri, files: &Files, tune: fn(Endpoint) -> Endpoint) -> Result<Call> {
    let token = files.token.as_deref().map(bearer).transpose()?;
    let mut endpoint = tune(Endpoint::from(uri.clone()));
    if uri.scheme_str() == Some("https") {
        let mut tls = ClientTlsConfig::new();
        tls = match &files.tls_ca {
            Some(file) => tls.ca_certificate(Certificate::from_pem(read_public(file)?)),
            None => tls.with_native_roots(),
        };
        if let (Some(cert), Some(key)) = (&files.tls_cert, &files.tls_key) {
            tls = tls.identity(Identity::from_pem(read_public(cert)?, read_private(key)?));
        }
        endpoint = endpoint.tls_config(tls).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            Failure::usage(format_args!(
                "could not use the certificates of --tls-ca, --tls-cert and --tls-key: {error}: {cause}; name PEM \
                 files that belong together"
            ))
        })?;
    }
    Ok(Call { endpoint, token })
}

fn bearer(file: &Path) -> Result<MetadataValue<Ascii>> {
    let token = read_secret(file)?;
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_not_ascii| {
        Failure::usage(format_args!(
            "could not use the secret file {}: it holds more than ASCII; write the token alone into it",
            file.display()
        ))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn token(dir: &Path, text: &str) -> PathBuf {
        let file = dir.join("token");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        file
    }

    fn way(url: &str, token: Option<PathBuf>, insecure: bool) -> Result<Way> {
        let files = Files {
            token,
            ..Files::default()
        };
        Way::new("--server", url, files, insecure, |endpoint| endpoint)
    }

    #[test]
    fn a_token_goes_in_the_clear_to_this_machine_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = token(dir.path(), "s3cret\n");
        for (url, allowed) in [
            ("http://127.0.0.1:7400", true),
            ("http://[::1]:7400", true),
            ("http://localhost:7400", true),
            ("http://10.1.1.1:7400", false),
            ("http://localhost.example:7400", false),
            ("https://10.1.1.1:7400", true),
        ] {
            let checked = way(url, Some(file.clone()), false);
            assert_eq!(checked.is_ok(), allowed, "{url}");
            if let Err(failure) = checked {
                assert!(
                    failure.code() == 2 && failure.to_string().contains("--insecure"),
                    "{failure}"
                );
            }
            assert!(way(url, Some(file.clone()), true).is_ok(), "{url}");
            assert!(way(url, None, false).is_ok(), "{url}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in [
            "localhost:7400",
            "ftp://h:1",
            "http://h:1/api",
            "http://me:pw@h:1",
            "http://",
            "https://h/?x",
        ] {
            assert_eq!(way(url, None, true).unwrap_err().code(), 2, "{url}");
        }
        let files = Files {
            tls_ca: Some("/nonexistent".into()),
            ..Files::default()
        };
        let clear = Way::new("--server", "http://localhost:1", files, false, |e| e).unwrap_err();
        assert!(clear.to_string().contains("in the clear"), "{clear}");
        let files = Files {
            tls_cert: Some("/nonexistent".into()),
            ..Files::default()
        };
        let half = Way::new("--server", "https://localhost:1", files, false, |e| e).unwrap_err();
        assert!(half.to_string().contains("--tls-key"), "{half}");
    }

    #[test]
    fn a_conversation_that_broke_off_in_the_clear_may_have_met_tls() {
        let cut = || Status::from_error(Box::new(std::io::Error::other("cut")));
        assert!(hint_of_tls("http://h:1/", &cut()).contains("https://"));
        let late = Status::from_error(Box::new(TimeoutExpired(())));
        assert_eq!(hint_of_tls("http://h:1/", &late), "");
        assert_eq!(hint_of_tls("https://h:1/", &cut()), "");
        assert_eq!(
            hint_of_tls("http://h:1/", &Status::unknown("said by the collector")),
            ""
        );
    }

    #[test]
    fn files_are_read_again_and_a_bad_one_keeps_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let file = token(dir.path(), "one");
        let way = way("http://127.0.0.1:1", Some(file.clone()), false).unwrap();
        let shown = |call: &Call| call.token.as_ref().unwrap().to_str().unwrap().to_owned();
        token(dir.path(), "two");
        let (call, wrong) = way.call();
        assert!(shown(&call) == "Bearer two" && wrong.is_none());
        fs::remove_file(&file).unwrap();
        let (call, wrong) = way.call();
        assert!(shown(&call) == "Bearer two" && wrong.is_some());
        assert!(!format!("{way:?}").contains("two"), "a token is never printed");
    }
}

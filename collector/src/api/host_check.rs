//! Only names of this machine may be asked for: a page that a browser took from elsewhere and that makes its own
//! host name point here (DNS rebinding) still carries that name.

use std::{
    future::Future,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll},
};

use axum::http::{HeaderMap, Request, Response, Uri, header};
use tonic::Status;
use tower::{Layer, Service};

/// Checks `:authority` or `Host`, and `Origin` where there is one.
#[derive(Debug, Clone, Copy)]
pub struct HostCheck {
    any: bool,
}

impl HostCheck {
    /// With `any`, every name passes: for a collector that serves a network.
    #[must_use]
    pub fn new(any: bool) -> Self {
        Self { any }
    }

    /// Whether a request may go on.
    #[must_use]
    pub fn allows(self, uri: &Uri, headers: &HeaderMap) -> bool {
        if self.any {
            return true;
        }
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or(""));
        let host = uri
            .authority()
            .map(axum::http::uri::Authority::as_str)
            .or_else(|| text(header::HOST));
        let origin = text(header::ORIGIN).map(|origin| origin.split_once("://").map_or("", |(_, host)| host));
        host.is_some_and(is_loopback) && origin.is_none_or(is_loopback)
    }
}

/// Whether `HOST` or `HOST:PORT` names this machine by loopback.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(host, _)| host),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl<S> Layer<S> for HostCheck {
    type Service = HostChecked<S>;

    fn layer(&self, inner: S) -> Self::Service {
        HostChecked { check: *self, inner }
    }
}

/// A gRPC service behind the check.
#[derive(Debug, Clone)]
pub struct HostChecked<S> {
    check: HostCheck,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for HostChecked<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Default + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if self.check.allows(request.uri(), request.headers()) {
            return Box::pin(self.inner.call(request));
        }
        let status = Status::permission_denied(
            "only loopback names (localhost, 127.0.0.1, [::1]) are served; --insecure allows others",
        );
        Box::pin(std::future::ready(Ok(status.into_http())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: Option<&str>, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(header::HOST, host.parse().unwrap());
        }
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        HostCheck::new(false).allows(&Uri::from_static("/"), &headers)
    }

    #[test]
    fn loopback_names_pass() {
        for host in [
            "localhost",
            "localhost:7401",
            "LOCALHOST:1",
            "127.0.0.1:7401",
            "127.8.8.8",
            "[::1]:7401",
            "[::1]",
        ] {
            assert!(check(Some(host), None), "{host}");
        }
    }

    #[test]
    fn other_names_do_not() {
        for host in [
            "evil.example",
            "127.0.0.1.evil.example:7401",
            "localhost.evil",
            "10.0.0.1",
            "",
            "[::1",
            "0.0.0.0",
        ] {
            assert!(!check(Some(host), None), "{host}");
        }
        assert!(!check(None, None));
    }

    #[test]
    fn a_page_from_elsewhere_does_not_ask() {
        assert!(check(Some("localhost:7401"), Some("http://localhost:7401")));
        for origin in ["http://evil.example", "null", "https://127.0.0.1.evil.example"] {
            assert!(!check(Some("localhost:7401"), Some(origin)), "{origin}");
        }
    }

    #[test]
    fn the_authority_of_http2_counts() {
        let allows = |uri| HostCheck::new(false).allows(&Uri::from_static(uri), &HeaderMap::new());
        assert!(allows("http://127.0.0.1:7400/x"));
        assert!(!allows("http://evil.example/x"));
        assert!(HostCheck::new(true).allows(&Uri::from_static("http://evil.example/x"), &HeaderMap::new()));
    }
}

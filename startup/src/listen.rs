//! Which addresses are this machine alone, and may be listened on without TLS.

use std::net::SocketAddr;

use crate::{Failure, Result};

/// Allows loopback addresses, and others only with TLS or `--insecure`; `remedy` says how a program gets TLS, if it can.
///
/// # Errors
/// Exit code 2, naming the option, the address and the remedy.
pub fn check_listen(option: &str, address: SocketAddr, open: bool, remedy: &str) -> Result<()> {
    if address.ip().is_loopback() || open {
        return Ok(());
    }
    Err(Failure::usage(format_args!(
        "{option} {address} is not a loopback address and would carry secrets in the clear: \
         listen on 127.0.0.1, {remedy}or allow it with --insecure"
    )))
}

/// Whether a host of a URL is this machine, whatever a name server says.
#[must_use]
pub fn is_loopback_host(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_open_without_a_word() {
        assert!(check_listen("--listen", "127.0.0.1:1".parse().unwrap(), false, "").is_ok());
        assert!(check_listen("--listen", "[::1]:1".parse().unwrap(), false, "").is_ok());
        assert_eq!(
            check_listen("--listen", "0.0.0.0:1".parse().unwrap(), false, "")
                .unwrap_err()
                .code(),
            2
        );
        assert!(check_listen("--listen", "0.0.0.0:1".parse().unwrap(), true, "").is_ok());
    }
}

//! Which addresses may be listened on without TLS.

use std::net::SocketAddr;

use crate::{Failure, Result};

/// Allows loopback addresses, and others only with `--insecure`.
///
/// # Errors
/// Exit code 2, naming the option, the address and the remedy.
pub fn check_listen(option: &str, address: SocketAddr, insecure: bool) -> Result<()> {
    if address.ip().is_loopback() || insecure {
        return Ok(());
    }
    Err(Failure::usage(format_args!(
        "{option} {address} is not a loopback address and would carry secrets in the clear: \
         listen on 127.0.0.1, or allow it with --insecure"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_open_without_a_word() {
        assert!(check_listen("--listen", "127.0.0.1:1".parse().unwrap(), false).is_ok());
        assert!(check_listen("--listen", "[::1]:1".parse().unwrap(), false).is_ok());
        assert_eq!(
            check_listen("--listen", "0.0.0.0:1".parse().unwrap(), false)
                .unwrap_err()
                .code(),
            2
        );
        assert!(check_listen("--listen", "0.0.0.0:1".parse().unwrap(), true).is_ok());
    }
}

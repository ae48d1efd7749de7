//! Addresses as people type them: `HOST:PORT`, `[V6]:PORT`, or a bare `PORT` on this machine.

use thiserror::Error;

/// Something that is not an address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("\"{text}\" is not an address: {reason}; give HOST:PORT, or a bare PORT for this machine")]
pub struct AddrError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// `text` as `HOST:PORT`; a bare port means `127.0.0.1`. Names are not looked up. Port 0 stands for "any free port".
pub fn parse(text: &str) -> Result<String, AddrError> {
    let bad = |reason| AddrError { text: text.to_string(), reason };
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(bad("it is empty"));
    }
    let (host, port) = trimmed.rsplit_once(':').unwrap_or(("127.0.0.1", trimmed));
    let port = parse_port(port).ok_or_else(|| bad("the port is not a number from 0 to 65535"))?;
    check_host(host).map_err(bad)?;
    Ok(format!("{host}:{port}"))
}

/// Digits only: `u16::from_str` would take "+80" as well.
fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The longest a host name may be, in bytes (RFC 1035, 2.3.4).
const HOST_MAX: usize = 253;

fn check_host(host: &str) -> Result<(), &'static str> {
    if host.len() > HOST_MAX {
        return Err("the host is longer than any name");
    }
    if host.is_empty() {
        return Err("the host is missing");
    }
    if let Some(v6) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return v6
            .parse::<std::net::Ipv6Addr>()
            .map(drop)
            .map_err(|_| "what is in brackets is no IPv6 address");
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if host.contains(':') {
        Err("an IPv6 address needs brackets")
    } else if host.bytes().all(plain) {
        Ok(())
    } else {
        Err("the host has a character no host name has")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_normalised() {
        for (given, wanted) in [
            ("7001", "127.0.0.1:7001"),
            (" 7001 ", "127.0.0.1:7001"),
            ("0", "127.0.0.1:0"),
            ("localhost:80", "localhost:80"),
            ("10.0.0.1:0080", "10.0.0.1:80"),
            ("[::1]:9", "[::1]:9"),
        ] {
            assert_eq!(parse(given).as_deref(), Ok(wanted), "{given}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        for given in [
            "",
            "host",
            "host:",
            ":80",
            "host:65536",
            "host:-1",
            "a b:80",
            "::1:80",
            "[zz]:80",
            "1:+2",
            "+80",
        ] {
            let error = parse(given).expect_err(given).to_string();
            assert!(error.contains("give HOST:PORT") && error.contains(given), "{error}");
        }
    }
}

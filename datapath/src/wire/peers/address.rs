//! Where a server listens: a host and a port.
//!
//! In: text from a command line, a token or `peers.json`. Out: an [`Address`].
//! Invariants: the host is a name or a literal address of at most 247
//! characters that need no quoting anywhere; the port is not zero. Never:
//! resolves a name.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Remediable, Remedy};

/// Names may have 253 characters; six fewer, so that the length of the text form
/// (with brackets, colon and port) fits one byte.
const HOST_BYTES_MAX: usize = 247;

/// A host (name, IPv4 or IPv6) and a TCP port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    host: String,
    port: u16,
}

/// A text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address: write HOST:PORT, and IPv6 as [ADDRESS]:PORT")]
pub struct InvalidAddress {
    /// The text given, cut to 80 characters.
    pub text: String,
}

impl Remediable for InvalidAddress {
    fn remedy(&self) -> Remedy {
        Remedy::Refused
    }
}

impl Address {
    /// Longest text form: the longest host, two brackets, a colon, five digits.
    pub const TEXT_BYTES_MAX: usize = HOST_BYTES_MAX + 8;

    /// The host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let host = match host.strip_prefix('[') {
            Some(bracketed) => {
                let literal = bracketed.strip_suffix(']')?;
                let bare = literal.split_once('%').map_or(literal, |(bare, _)| bare);
                bare.parse::<std::net::Ipv6Addr>().ok()?;
                literal
            }
            None if host.contains(':') => return None,
            None => host,
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
        let fits = !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.bytes().all(plain);
        (fits && !host.starts_with('-')).then(|| Self { host: host.to_ascii_lowercase(), port })
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).ok_or_else(|| InvalidAddress { text: text.chars().take(80).collect() })
    }
}

impl From<SocketAddr> for Address {
    fn from(socket: SocketAddr) -> Self {
        let host = match socket.ip() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => address.to_string(),
        };
        Self { host, port: socket.port() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl TryFrom<String> for Address {
    type Error = InvalidAddress;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_they_are_written() {
        for text in ["db1.example:7000", "10.0.0.1:1", "[::1]:65535", "[fe80::1%eth0]:9"] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("{}:1", "a".repeat(248));
        for text in [
            "",
            ":",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "::1:7000",
            "[::1]",
            "[x]:1",
            "a b:1",
            "-o:1",
            &long,
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }
}

//! Where a disk is, as a user writes it: a path, or a URL of another host.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::peers::Address;
use crate::limits;

/// A disk on this host or on another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A path on this host.
    Local(PathBuf),
    /// An export of `failback serve`.
    Served {
        /// Where it listens.
        address: Address,
        /// The export's name.
        export: String,
    },
    /// A path on a host that is reached by ssh.
    Ssh(SshLocation),
}

/// A path on a host that is reached by ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshLocation {
    /// The account there.
    pub user: Option<String>,
    /// The host, without brackets.
    pub host: String,
    /// The port.
    pub port: Option<u16>,
    /// The path there.
    pub path: String,
}

/// A text that is no location.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLocation {
    /// Not of the form of its scheme.
    #[error("{text:?} is no location: write {form}")]
    Form {
        /// The text.
        text: String,
        /// What was due.
        form: &'static str,
    },
    /// A part that ssh could take for something else.
    #[error(
        "{text:?}: {part} {value:?} has characters that no {part} has here (letters, digits, '.', '_', '-', not first)"
    )]
    Part {
        /// The text.
        text: String,
        /// `user` or `host`.
        part: &'static str,
        /// The part.
        value: String,
    },
    /// A scheme of another program.
    #[error(
        "{text:?}: unknown scheme; locations are paths, failback://HOST:PORT/EXPORT and ssh://[USER@]HOST[:PORT]/PATH"
    )]
    Scheme {
        /// The text.
        text: String,
    },
}

const SERVED_FORM: &str = "failback://HOST:PORT/EXPORT";
const SSH_FORM: &str = "ssh://[USER@]HOST[:PORT]/PATH";

impl FromStr for Location {
    type Err = InvalidLocation;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(rest) = text.strip_prefix("failback://") {
            return served(text, rest);
        }
        if let Some(rest) = text.strip_prefix("ssh://") {
            return ssh(text, rest).map(Self::Ssh);
        }
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        if scheme
            .is_some_and(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        {
            return Err(InvalidLocation::Scheme { text: text.to_owned() });
        }
        if text.is_empty() {
            return Err(InvalidLocation::Form { text: String::new(), form: "a path or a URL" });
        }
        Ok(Self::Local(PathBuf::from(text)))
    }
}

fn served(text: &str, rest: &str) -> Result<Location, InvalidLocation> {
    let wrong = || InvalidLocation::Form { text: text.to_owned(), form: SERVED_FORM };
    let (address, export) = rest.split_once('/').ok_or_else(wrong)?;
    let address = address.parse().map_err(|_| wrong())?;
    if export.is_empty() || export.len() > limits::EXPORT_NAME_MAX || export.contains(char::is_control) {
        return Err(wrong());
    }
    Ok(Location::Served { address, export: export.to_owned() })
}

fn ssh(text: &str, rest: &str) -> Result<SshLocation, InvalidLocation> {
    let wrong = || InvalidLocation::Form { text: text.to_owned(), form: SSH_FORM };
    let slash = rest.find('/').ok_or_else(wrong)?;
    let (authority, path) = rest.split_at(slash);
    if path.len() < 2 || path.len() > limits::EXPORT_NAME_MAX || path.contains('\0') {
        return Err(wrong());
    }
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let (host, port) = split_port(host).ok_or_else(wrong)?;
    let port =
        port.map(|port| port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(wrong)).transpose()?;
    let part =
        |part, value: &str| InvalidLocation::Part { text: text.to_owned(), part, value: value.to_owned() };
    if let Some(user) = user
        && !is_plain(user, "._-")
    {
        return Err(part("user", user));
    }
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    if !is_address && !is_plain(host, "._-") {
        return Err(part("host", host));
    }
    Ok(SshLocation { user: user.map(str::to_owned), host: host.to_owned(), port, path: path.to_owned() })
}

/// Splits `HOST:PORT`, `[ADDRESS]:PORT` and either without a port.
fn split_port(host: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = host.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        return match after {
            "" => Some((address, None)),
            _ => Some((address, Some(after.strip_prefix(':')?))),
        };
    }
    Some(host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))))
}

/// Letters, digits, and `others` except at the beginning: nothing that a shell
/// or an option parser would look at twice.
fn is_plain(text: &str, others: &str) -> bool {
    let allowed = |character: char| character.is_ascii_alphanumeric() || others.contains(character);
    text.chars().all(allowed) && text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::Served { address, export } => write!(f, "failback://{address}/{export}"),
            Self::Ssh(ssh) => write!(f, "{ssh}"),
        }
    }
}

impl fmt::Display for SshLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?
        } else {
            f.write_str(&self.host)?
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_comes_back_as_it_was_written() {
        for text in [
            "/dev/loop0",
            "disk.img",
            "./a:b/c",
            "failback://127.0.0.1:9444/root",
            "failback://[::1]:9444/a b",
            "ssh://host/dev/sda",
            "ssh://me@host:2222/srv/x y.img",
            "ssh://[::1]:22/dev/sda",
        ] {
            assert_eq!(text.parse::<Location>().map(|location| location.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn nothing_of_a_url_can_become_an_option_or_a_command() {
        for text in [
            "ssh://-oProxyCommand=x/p",
            "ssh://a@-oProxyCommand=x/p",
            "ssh://-l@host/p",
            "ssh://$(x)/p",
            "ssh://a;b@host/p",
            "ssh://ho st/p",
            "ssh://host:-1/p",
            "ssh://host:0/p",
            "ssh://host:x/p",
            "ssh://host",
            "ssh://host/",
            "ssh:///p",
            "failback://host/x",
            "failback://host:1/",
            "nbd://host/x",
            "",
        ] {
            assert!(text.parse::<Location>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<Location>();
            let _ = format!("ssh://{text}").parse::<Location>();
            let _ = format!("failback://{text}").parse::<Location>();
        }
    }
}

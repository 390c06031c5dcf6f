//! Whether a running master target has a disk, whatever its state folder.
//!
//! The marks of owners lie in a state folder, and another one knows nothing of them.
//! So whoever has a target while it runs holds a socket that has no file (abstract,
//! `unix(7)`), named after the disk's identity: it is gone with its process.
//! Processes in other network namespaces do not see it.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use xxhash_rust::xxh3::xxh3_128;

/// The right to be the only one that has a disk for its target, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    _socket: UnixDatagram,
}

impl Claim {
    /// Takes the disk of this identity; `None` where somebody has it.
    ///
    /// # Errors
    /// Those of `bind(2)`.
    pub fn take(identity: &str) -> io::Result<Option<Self>> {
        match UnixDatagram::bind_addr(&address(identity)?) {
            Ok(socket) => Ok(Some(Self { _socket: socket })),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether somebody has the disk of this identity.
    ///
    /// # Errors
    /// Those of `connect(2)`.
    pub fn is_taken(identity: &str) -> io::Result<bool> {
        match UnixDatagram::unbound()?.connect_addr(&address(identity)?) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Identities may be longer than a socket's name.
fn address(identity: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("failback-target-{:032x}", xxh3_128(identity.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_had_by_one_until_it_lets_go() {
        let identity = format!("a test of process {}", std::process::id());
        assert!(!Claim::is_taken(&identity).unwrap());
        let claim = Claim::take(&identity).unwrap().unwrap();
        assert!(Claim::is_taken(&identity).unwrap() && Claim::take(&identity).unwrap().is_none());
        assert!(!Claim::is_taken(&format!("{identity}+512")).unwrap());
        drop(claim);
    }
}

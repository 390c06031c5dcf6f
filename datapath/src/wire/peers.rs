//! The peers this machine knows, by the fingerprints of their certificates.
//!
//! In: `peers.json` in the private directory, and what pairing learned. Out:
//! whether a fingerprint may connect here, or serve at an address. Invariants:
//! one entry per fingerprint; the file changes at one stroke, durably, under a
//! lock between processes, so no pairing overwrites another. Never: caches; a
//! server reads the file anew for each handshake, so that a removed peer is out
//! at once. Limits: [`PEERS_MAX`] entries of [`ADDRESSES_MAX`] addresses.
//!
//! ```json
//! {"version":1,"peers":[{"name":"db1","fingerprint":"SHA256:…","added_unix_seconds":1790000000,
//!   "may_connect":true,"may_serve":false,"addresses":[]}]}
//! ```

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::error::{Remediable, Remedy};
use crate::wire::identity::{Fingerprint, PrivateDirectory, StateError};

mod address;
#[cfg(test)]
mod tests;
mod verify;

pub use address::{Address, InvalidAddress};
pub(crate) use verify::{Admission, AdmittedClients, PinnedServer, Shown};

const FILE: &str = "peers.json";
const LOCK: &str = "peers.lock";
const VERSION: u32 = 1;
/// Entries in the file: far more machines than one host copies from or to.
pub const PEERS_MAX: usize = 1024;
/// Addresses of one server; the oldest goes when one more is learned.
pub const ADDRESSES_MAX: usize = 8;
/// A peer's name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Every peer with all its addresses, and the white space of the file.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Why the known peers cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory or the file cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The file is not what this program wrote.
    #[error(
        "{path} is damaged or of another version of failback ({source}): repair it, or move it away and pair again"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where it went wrong.
        source: serde_json::Error,
    },
    /// A newer program wrote the file.
    #[error("{path} has version {version}, this failback knows version 1: use a newer failback")]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it says.
        version: u32,
    },
    /// The file is full.
    #[error("{path} already holds {PEERS_MAX} peers: remove those that are gone")]
    Full {
        /// The file.
        path: PathBuf,
    },
}

impl Remediable for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::State(error) => error.remedy(),
            Self::Malformed { .. } | Self::Version { .. } => Remedy::Stop,
            Self::Full { .. } => Remedy::Refused,
        }
    }
}

/// One known peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// What people call it: letters, digits, dots, hyphens and underscores; unique in the file.
    pub name: String,
    /// SHA-256 of its certificate.
    pub fingerprint: Fingerprint,
    /// When it was first paired, in seconds since 1970.
    pub added_unix_seconds: u64,
    /// It may open sessions to this machine.
    pub may_connect: bool,
    /// It may be connected to from this machine.
    pub may_serve: bool,
    /// Where it serves, the latest first; empty for one that only connects.
    #[serde(default)]
    pub addresses: Vec<Address>,
}

impl Peer {
    /// A peer that may connect here.
    #[must_use]
    pub fn client(name: &str, fingerprint: Fingerprint, now: SystemTime) -> Self {
        Self {
            name: clean_name(name),
            fingerprint,
            added_unix_seconds: unix_seconds(now),
            may_connect: true,
            may_serve: false,
            addresses: Vec::new(),
        }
    }

    /// A peer that serves at `address`.
    #[must_use]
    pub fn server(name: &str, fingerprint: Fingerprint, address: Address, now: SystemTime) -> Self {
        let client = Self::client(name, fingerprint, now);
        Self { may_connect: false, may_serve: true, addresses: vec![address], ..client }
    }

    /// Adds the rights and addresses of `other`, which has the same fingerprint.
    fn absorb(&mut self, other: &Self) {
        self.may_connect |= other.may_connect;
        self.may_serve |= other.may_serve;
        for address in &other.addresses {
            self.addresses.retain(|known| known != address);
            self.addresses.insert(0, address.clone());
        }
        self.addresses.truncate(ADDRESSES_MAX);
    }
}

/// The peers of one private directory, as they were when read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownPeers {
    peers: Vec<Peer>,
}

/// What every version of the file has.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    peers: Vec<Peer>,
}

impl KnownPeers {
    /// The peers known in `directory`; none where there is no file yet.
    ///
    /// # Errors
    /// The directory or file is not accessible, open to other users, or damaged.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        Self::read(&PrivateDirectory::open_or_create(directory)?)
    }

    /// Adds `peer` durably. One that is known already keeps its name and gains
    /// the rights and addresses of `peer`. The entry as it now stands.
    ///
    /// # Errors
    /// As for [`Self::load`]; the file cannot be written, or is full.
    pub fn remember(directory: &Path, peer: &Peer) -> Result<Peer, Error> {
        let directory = PrivateDirectory::open_or_create(directory)?;
        let _lock = directory.lock(LOCK)?;
        let mut known = Self::read(&directory)?;
        let entry = known.merge(peer).ok_or_else(|| Error::Full { path: directory.path().join(FILE) })?;
        known.write(&directory)?;
        Ok(entry)
    }

    /// Removes the peer with `fingerprint` durably; says whether there was one.
    ///
    /// # Errors
    /// As for [`Self::load`]; the file cannot be written.
    pub fn forget(directory: &Path, fingerprint: &Fingerprint) -> Result<bool, Error> {
        let directory = PrivateDirectory::open_or_create(directory)?;
        let _lock = directory.lock(LOCK)?;
        let mut known = Self::read(&directory)?;
        let before = known.peers.len();
        known.peers.retain(|peer| peer.fingerprint != *fingerprint);
        let removed = known.peers.len() < before;
        if removed {
            known.write(&directory)?;
        }
        Ok(removed)
    }

    /// All of them, in the order in which they were paired.
    #[must_use]
    pub fn all(&self) -> &[Peer] {
        &self.peers
    }

    /// The peer with `fingerprint`, where it may connect here.
    #[must_use]
    pub fn client(&self, fingerprint: &Fingerprint) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.may_connect && peer.fingerprint == *fingerprint)
    }

    /// The peer that serves at `address`; the one paired last where there are several.
    #[must_use]
    pub fn server_at(&self, address: &Address) -> Option<&Peer> {
        self.peers.iter().rev().find(|peer| peer.may_serve && peer.addresses.contains(address))
    }

    fn merge(&mut self, peer: &Peer) -> Option<Peer> {
        // An address belongs to the peer that was paired there last.
        for other in self.peers.iter_mut().filter(|other| other.fingerprint != peer.fingerprint) {
            other.addresses.retain(|address| !peer.addresses.contains(address));
        }
        if let Some(known) = self.peers.iter_mut().find(|known| known.fingerprint == peer.fingerprint) {
            known.absorb(peer);
            return Some(known.clone());
        }
        if self.peers.len() >= PEERS_MAX {
            return None;
        }
        let entry = Peer { name: self.free_name(&peer.name), ..peer.clone() };
        self.peers.push(entry.clone());
        Some(entry)
    }

    /// `wanted`, or with the lowest number behind it that makes it unique.
    fn free_name(&self, wanted: &str) -> String {
        let taken = |name: &str| self.peers.iter().any(|peer| peer.name == name);
        if !taken(wanted) {
            return wanted.to_owned();
        }
        let stem: String = wanted.chars().take(NAME_BYTES_MAX - 5).collect();
        (2..=PEERS_MAX + 1).map(|number| format!("{stem}-{number}")).find(|name| !taken(name)).unwrap_or(stem)
    }

    fn read(directory: &PrivateDirectory) -> Result<Self, Error> {
        let Some(bytes) = directory.read(FILE, FILE_BYTES_MAX)? else {
            return Ok(Self::default());
        };
        let path = || directory.path().join(FILE);
        let malformed = |source| Error::Malformed { path: path(), source };
        let head: Head = serde_json::from_slice(&bytes).map_err(malformed)?;
        if head.version != VERSION {
            return Err(Error::Version { path: path(), version: head.version });
        }
        let document: Document = serde_json::from_slice(&bytes).map_err(malformed)?;
        Ok(Self { peers: document.peers })
    }

    fn write(&self, directory: &PrivateDirectory) -> Result<(), Error> {
        let document = Document { version: VERSION, peers: self.peers.clone() };
        let bytes = serde_json::to_vec_pretty(&document)
            .map_err(|source| Error::Malformed { path: directory.path().join(FILE), source })?;
        Ok(directory.replace(FILE, &bytes)?)
    }
}

/// A name from the network as it may stand in files and messages.
pub(crate) fn clean_name(name: &str) -> String {
    let plain = |character: &char| character.is_ascii_alphanumeric() || ".-_".contains(*character);
    let clean: String = name.chars().filter(plain).take(NAME_BYTES_MAX).collect();
    if clean.is_empty() { "unnamed".to_owned() } else { clean }
}

/// Seconds since 1970; 0 for a clock before that.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

//! What an epoch consists of, as one hash, and the chain of all epochs.

use super::header::{COVERED, HEADER_BYTES};
use super::{Codec, Head, Header};
use crate::unit::{Chain, Epoch, Generation};

/// The manifest of an epoch up to one of its deltas: a hash over all entries so
/// far, and over the manifest before the last delta. 32 bytes that can be written
/// down with the delta they include and continued from there; so an epoch that
/// outlives its session, its agent or its target still has its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Manifest(pub [u8; Self::BYTES]);

impl Manifest {
    /// Size in records and on the wire.
    pub const BYTES: usize = 32;
    /// The manifest of an epoch without deltas.
    pub const EMPTY: Self = Self([0; Self::BYTES]);

    /// With the next delta of the epoch: BLAKE3 over the manifest before, the
    /// header as it would be were the delta not packed, and the entries.
    #[must_use]
    pub fn with(self, delta: &Head) -> Self {
        let unpacked =
            Header { codec: Codec::Raw, packed_bytes: delta.header().plain_bytes, ..*delta.header() };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(&unpacked.encode()[..COVERED]);
        hasher.update(&delta.encode()[HEADER_BYTES..]);
        Self(*hasher.finalize().as_bytes())
    }
}

impl Chain {
    /// The head of the chain once `epoch` with its `manifest` is a point: BLAKE3
    /// over the head before, incarnation, generation number and epoch (u64 each,
    /// little-endian), and the manifest.
    #[must_use]
    pub fn next(previous: Self, generation: Generation, epoch: Epoch, manifest: Manifest) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&previous.0);
        for number in [generation.incarnation, generation.number, epoch.0] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(&manifest.0);
        Self(*hasher.finalize().as_bytes())
    }
}

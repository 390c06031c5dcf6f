//! One entry of a delta: a chunk with its digest, or a range of zeroes.

use super::header::long;
use crate::unit::{Digest, Extent};

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 40;

const DATA: u8 = 1;
const ZERO: u8 = 2;

/// Where something changed, and to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// One chunk for data, one or more for zeroes; the disk's last may be short.
    pub extent: Extent,
    /// What it holds now.
    pub content: Content,
}

/// What an extent holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Bytes that came with the delta.
    Data {
        /// Their digest, made at the source right after reading.
        digest: Digest,
        /// Where they begin among the plain bytes.
        position: usize,
    },
    /// Zeroes.
    Zero,
}

impl Entry {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.extent.offset().to_le_bytes());
        bytes[8..16].copy_from_slice(&self.extent.length().to_le_bytes());
        match self.content {
            Content::Data { digest, .. } => {
                bytes[16] = DATA;
                bytes[24..].copy_from_slice(&digest.0);
            }
            Content::Zero => bytes[16] = ZERO,
        }
        bytes
    }

    /// Reads an entry whose data begins at `position`; says which rule it breaks.
    pub(super) fn decode(bytes: &[u8; ENTRY_BYTES], position: usize) -> Result<Self, &'static str> {
        let extent = Extent::new(long(bytes, 0), long(bytes, 8)).ok_or("it ends past the end of numbers")?;
        if bytes[17..24].iter().any(|byte| *byte != 0) {
            return Err("a reserved byte is not zero");
        }
        let mut digest = Digest([0; Digest::BYTES]);
        digest.0.copy_from_slice(&bytes[24..]);
        let content = match bytes[16] {
            DATA => Content::Data { digest, position },
            ZERO if digest.0 == [0; Digest::BYTES] => Content::Zero,
            ZERO => return Err("zeroes have no digest"),
            _ => return Err("its kind is unknown"),
        };
        Ok(Self { extent, content })
    }
}

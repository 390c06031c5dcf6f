//! The fixed part of a delta.

use std::fmt;

use super::{Codec, DigestAlgorithm, ENTRY_BYTES, Error};
use crate::limits;
use crate::unit::{ChunkSize, DeltaNumber, Epoch, Generation, to_u64};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 80;

/// Bytes of it that the checksum covers.
pub(super) const COVERED: usize = 64;

const MAGIC: &[u8; 8] = b"FBDELTA\x01";

/// What all deltas of a disk have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Size of the disk.
    pub disk_bytes: u64,
    /// Its chunk.
    pub chunk: ChunkSize,
    /// How its chunks are digested.
    pub algorithm: DigestAlgorithm,
}

/// Which delta it is: of which state of the disk, and the how manieth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The state that it applies to.
    pub generation: Generation,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its number there.
    pub number: DeltaNumber,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of epoch {} (generation {})", self.number, self.epoch, self.generation)
    }
}

/// The header of a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which delta it is.
    pub place: Place,
    /// What disk it is for.
    pub shape: Shape,
    /// How its bytes are packed.
    pub codec: Codec,
    /// Entries that follow.
    pub entries: u32,
    /// Bytes of all data entries.
    pub plain_bytes: u32,
    /// Bytes of them as packed.
    pub packed_bytes: u32,
    /// Over the header up to here and the entries.
    pub(super) checksum: [u8; 16],
}

impl Header {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let Place { generation, epoch, number } = self.place;
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = self.codec as u8;
        bytes[9] = self.shape.algorithm as u8;
        bytes[10] = chunk_shift(self.shape.chunk);
        bytes[12..16].copy_from_slice(&self.entries.to_le_bytes());
        bytes[16..24].copy_from_slice(&generation.incarnation.to_le_bytes());
        bytes[24..32].copy_from_slice(&generation.number.to_le_bytes());
        bytes[32..40].copy_from_slice(&epoch.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&number.0.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.plain_bytes.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.packed_bytes.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.shape.disk_bytes.to_le_bytes());
        bytes[COVERED..].copy_from_slice(&self.checksum);
        bytes
    }

    /// Reads a header and checks every bound, so that memory may be taken for
    /// what it announces.
    ///
    /// # Errors
    /// [`Error::Header`] names the rule.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Error> {
        let refuse = |what| Err(Error::Header { what });
        if !bytes.starts_with(&MAGIC[..7]) {
            return refuse("it does not begin as one");
        }
        if bytes[7] != MAGIC[7] {
            return refuse("it has a version that this failback does not know");
        }
        let Some(codec) = Codec::from_number(bytes[8]) else { return refuse("its codec is unknown") };
        let Some(algorithm) = DigestAlgorithm::from_number(bytes[9]) else {
            return refuse("its digest algorithm is unknown");
        };
        let Some(chunk) = 1_u32.checked_shl(u32::from(bytes[10])).and_then(ChunkSize::new) else {
            return refuse("its chunk size is none");
        };
        if bytes[11] != 0 {
            return refuse("a reserved byte is not zero");
        }
        let mut checksum = [0; 16];
        checksum.copy_from_slice(&bytes[COVERED..]);
        let generation = Generation { incarnation: long(bytes, 16), number: long(bytes, 24) };
        let header = Self {
            place: Place { generation, epoch: Epoch(long(bytes, 32)), number: DeltaNumber(long(bytes, 40)) },
            shape: Shape { disk_bytes: long(bytes, 56), chunk, algorithm },
            codec,
            entries: short(bytes, 12),
            plain_bytes: short(bytes, 48),
            packed_bytes: short(bytes, 52),
            checksum,
        };
        header.check().map_or_else(|what| Err(Error::Header { what }), |()| Ok(header))
    }

    /// Bytes of the whole delta as it travels.
    #[must_use]
    pub fn encoded_bytes(&self) -> u64 {
        to_u64(HEADER_BYTES) + u64::from(self.entries) * to_u64(ENTRY_BYTES) + u64::from(self.packed_bytes)
    }

    fn check(&self) -> Result<(), &'static str> {
        let raw = self.codec == Codec::Raw;
        if self.place.epoch < Epoch::FIRST || self.place.number < DeltaNumber(1) {
            return Err("epochs and deltas are counted from 1");
        }
        if self.shape.disk_bytes == 0 || self.shape.disk_bytes > limits::DISK_BYTES_MAX {
            return Err("no disk has its size");
        }
        if self.entries == 0 || self.entries > limits::DELTA_ENTRIES_MAX {
            return Err("it has no entries, or more than a delta holds");
        }
        if self.plain_bytes > limits::DELTA_BYTES_MAX {
            return Err("it has more bytes than a delta holds");
        }
        if self.packed_bytes > self.plain_bytes || (raw && self.packed_bytes != self.plain_bytes) {
            return Err("its packed length does not fit its codec");
        }
        Ok(())
    }
}

/// The logarithm of a chunk size, 12 to 20.
fn chunk_shift(chunk: ChunkSize) -> u8 {
    u8::try_from(chunk.bytes().trailing_zeros()).unwrap_or(u8::MAX)
}

pub(super) fn long(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn short(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

//! What a journal belongs to: a protected disk and its target, and their state.
//!
//! The file `pair`, replaced as a whole (written beside, flushed, renamed):
//!
//! ```text
//!  0  8  "FBPAIR\0\0"
//!  8  2  version 1
//! 10  2  zero
//! 12  4  bytes of the text
//! 16  8  xxh3-64 of the text
//! 24  …  the pair as JSON; zeroes up to the next 4 KiB
//! ```
//!
//! JSON, because it is read by people in trouble; the checksum finds rot, not malice.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::field::{Fields, Room};
use super::{Error, PointKind, PointRecord};
use crate::disk::WriteMark;
use crate::limits;
use crate::pipeline::{DigestAlgorithm, Digester};
use crate::unit::{ChunkSize, Epoch, Generation, to_u64, to_usize};

/// Its name.
pub(super) const FILE: &str = "pair";
const MAGIC: [u8; 8] = *b"FBPAIR\0\0";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 24;

/// What may be done with a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PairState {
    /// The first synchronization is not finished: no point, no before-images,
    /// never offered as a disk.
    Initial,
    /// The first synchronization was given up: what is on the target is no disk.
    Corrupted,
    /// Deltas land; points are made.
    Protected,
    /// As protected, while the two disks are brought together by digests.
    Resyncing,
    /// On its way back to its newest point: a resynchronization was given up.
    RollingBack,
    /// The source has stopped for good: nothing lands any more.
    Fenced,
    /// The target is on its way to this point.
    Rewinding {
        /// The point.
        to: Epoch,
    },
    /// The target is at this point.
    Rewound {
        /// The point.
        at: Epoch,
    },
    /// A point was chosen; the target is free to be run.
    Committed,
}

impl PairState {
    /// Whether deltas of a source land.
    #[must_use]
    pub const fn lands(self) -> bool {
        matches!(self, Self::Initial | Self::Protected | Self::Resyncing)
    }

    /// Whether the target may be taken to a point.
    #[must_use]
    pub const fn can_rewind(self) -> bool {
        matches!(self, Self::Fenced | Self::Rewinding { .. } | Self::Rewound { .. })
    }

    /// Whether a point may be chosen or be on its way: then none is given up.
    #[must_use]
    pub const fn keeps_all_points(self) -> bool {
        self.can_rewind() || matches!(self, Self::RollingBack)
    }
}

impl fmt::Display for PairState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Initial => f.write_str("in its first synchronization"),
            Self::Corrupted => f.write_str("corrupted: its first synchronization was given up"),
            Self::Protected => f.write_str("protected"),
            Self::Resyncing => f.write_str("resynchronizing"),
            Self::RollingBack => f.write_str("going back to its newest point"),
            Self::Fenced => f.write_str("fenced"),
            Self::Rewinding { to } => write!(f, "being rewound to point {to}"),
            Self::Rewound { at } => write!(f, "rewound to point {at}"),
            Self::Committed => f.write_str("committed"),
        }
    }
}

/// The key of a pair's digests, and of the checksums of its records.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(pub [u8; 32]);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

impl Serialize for SecretKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for SecretKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok();
        let key = bytes.and_then(|bytes| bytes.try_into().ok());
        key.map(Self).ok_or_else(|| serde::de::Error::custom("a key is 64 hexadecimal digits"))
    }
}

/// A protected disk and its target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The state that the target holds.
    pub generation: Generation,
    /// The machine's name.
    pub machine: String,
    /// What that machine's agent is bound to, from its first visit on: another
    /// machine with the same name is none of ours.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub machine_identity: String,
    /// The fingerprint of its agent's certificate, from its first visit on: who
    /// comes with another one is not it, whatever it says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub machine_key: String,
    /// The disk's name on its machine.
    pub disk: String,
    /// The target's identity (serial, filesystem and inode, …), which outlives its path.
    pub target_identity: String,
    /// The target's path when it was last opened.
    pub target_path: String,
    /// Size of the disk.
    pub size_bytes: u64,
    /// Its chunks.
    pub chunk_size: ChunkSize,
    /// How chunks are digested.
    pub digest_algorithm: DigestAlgorithm,
    /// With which key. Keep the file from others.
    pub key: SecretKey,
    /// What may be done.
    pub state: PairState,
    /// Points that expiry leaves alone.
    #[serde(default)]
    pub pins: BTreeSet<Epoch>,
    /// Size of the journal's segments.
    pub segment_bytes: u32,
    /// What the target showed of its writes when it was last left to itself:
    /// somebody else may write it then. Empty while it is in use.
    #[serde(default, skip_serializing_if = "WriteMark::is_empty")]
    pub target_writes: WriteMark,
    /// Somebody else wrote to the target while this epoch was open: what points
    /// before it hold may be theirs. `None` where nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact_from: Option<Epoch>,
    /// A comparison of the two disks was not finished when the pair was fenced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub awaits_comparison: bool,
}

impl Pair {
    /// The name of its file, which is what makes a directory a journal.
    pub const FILE: &str = FILE;

    /// Segments where nobody asks for others.
    pub const SEGMENT_BYTES: u32 = limits::JOURNAL_SEGMENT_BYTES;

    /// Makes digests of this pair's chunks.
    #[must_use]
    pub const fn digester(&self) -> Digester {
        Digester::new(self.digest_algorithm, self.key.0)
    }

    /// Reads the pair of the journal in `folder`, whoever writes there; `None`
    /// where there is no journal.
    ///
    /// # Errors
    /// As [`Self::decode`], and those of the file.
    pub fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let mut bytes = Vec::new();
        let read = File::open(folder.join(FILE))
            .and_then(|file| file.take(limits::PAIR_BYTES_MAX).read_to_end(&mut bytes));
        match read {
            Ok(_) => Self::decode(&bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::file(FILE, "read", source)),
        }
    }

    /// Whether `point` reads back as it was cut, as far as is known. A rewind is as
    /// exact as the point that it went to, which `find` knows.
    #[must_use]
    pub fn is_exact<'a>(
        &self,
        mut point: &'a PointRecord,
        find: impl Fn(Epoch) -> Option<&'a PointRecord>,
    ) -> bool {
        let Some(from) = self.exact_from else { return true };
        while point.epoch >= from {
            let PointKind::Rewind { to } = point.kind else { return true };
            match find(to) {
                Some(earlier) if earlier.epoch < point.epoch => point = earlier,
                _ => return to >= from,
            }
        }
        false
    }

    /// Chunks of the disk.
    #[must_use]
    pub const fn chunks(&self) -> u64 {
        self.chunk_size.count(self.size_bytes)
    }

    /// Bytes of chunk `chunk`: the last one may be short.
    #[must_use]
    pub const fn chunk_bytes(&self, chunk: u64) -> usize {
        to_usize(self.chunk_size.extent(chunk, self.size_bytes).length())
    }

    /// Seeds the checksums of this journal's records: nobody who chooses the
    /// blocks of the disk can make one that looks like a record.
    pub(super) fn seed(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64_with_seed(&self.key.0, self.generation.incarnation)
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let unfit = |reason: String| Error::Unfit { what: "this pair", reason };
        if self.size_bytes == 0 || self.size_bytes > limits::DISK_BYTES_MAX {
            return Err(unfit(format!("its disk has {} bytes", self.size_bytes)));
        }
        if self.chunks() > limits::PROTECTED_CHUNKS_MAX {
            let most = limits::PROTECTED_CHUNKS_MAX;
            return Err(unfit(format!("{} chunks, at most {most}: choose a larger chunk", self.chunks())));
        }
        let segment = self.segment_bytes;
        if segment == 0 || !segment.is_multiple_of(4096) || segment > limits::JOURNAL_SEGMENT_BYTES_MAX {
            return Err(unfit(format!("segments of {segment} bytes: whole 4 KiB, up to 1 GiB")));
        }
        if self.pins.len() > limits::PINS_MAX {
            return Err(Error::TooManyPins { pinned: self.pins.len() });
        }
        Ok(())
    }

    /// The bytes of the file.
    pub(super) fn encode(&self) -> Result<Vec<u8>, Error> {
        let unfit = |reason: String| Error::Unfit { what: "this pair", reason };
        let text = serde_json::to_vec_pretty(self).map_err(|error| unfit(error.to_string()))?;
        let length = (HEADER_BYTES + text.len()).next_multiple_of(4096);
        if to_u64(length) > limits::PAIR_BYTES_MAX {
            return Err(unfit(format!("its description has {} bytes", text.len())));
        }
        let mut bytes = vec![0; length];
        let mut room = Room::new(&mut bytes);
        room.put(&MAGIC);
        room.u16(VERSION);
        room.u16(0);
        room.u32(u32::try_from(text.len()).map_err(|error| unfit(error.to_string()))?);
        room.u64(xxh3_64(&text));
        room.put(&text);
        Ok(bytes)
    }

    /// Reads the bytes of the file.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Version`], [`Error::Unfit`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = |reason: &str| Error::damaged(FILE, 0, reason);
        let mut fields = Fields::new(bytes);
        if fields.array() != Some(MAGIC) {
            return Err(damaged("it does not begin as one"));
        }
        let short = || damaged("it is too short");
        let version = fields.u16().ok_or_else(short)?;
        if version != VERSION {
            return Err(Error::Version { file: FILE.to_owned(), found: version, known: VERSION });
        }
        let (_zero, length) = (fields.u16().ok_or_else(short)?, fields.u32().ok_or_else(short)?);
        let checksum = fields.u64().ok_or_else(short)?;
        let text = fields.bytes(to_usize(u64::from(length))).ok_or_else(short)?;
        if xxh3_64(text) != checksum {
            return Err(damaged("its checksum does not fit"));
        }
        let pair: Self = serde_json::from_slice(text).map_err(|error| damaged(&error.to_string()))?;
        pair.check()?;
        Ok(pair)
    }
}

//! Frames: a fixed header of 24 bytes, little-endian, and a bounded payload.
//!
//! ```text
//!  0       1       2       4           8               16              24
//!  ├───────┼───────┼───────┼───────────┼───────────────┼───────────────┤
//!  │ kind  │detail │ zero  │payload    │offset         │length         │ payload …
//!  │ u8    │ u8    │ u16   │bytes, u32 │u64            │u64            │
//!  └───────┴───────┴───────┴───────────┴───────────────┴───────────────┘
//! ```
//!
//! | kind | name | from | offset, length | detail | payload |
//! | --- | --- | --- | --- | --- | --- |
//! | 1 | `Hello` | both | 0, 0 | 0 | `FAILBACK`, lowest and highest version (u16 each) |
//! | 2–9 | control, see [`Kind`] | | 0, 0 | 0 | JSON, at most 64 KiB |
//! | 16 | `Digests` | target | the window | 0 | 16 bytes for each chunk |
//! | 17 | `Hole` | target | windows that read as zero | 0 | none |
//! | 18 | `Data` | source | the extent | [`Codec`](crate::pipeline::Codec) | 16 bytes for each chunk, then the packed bytes |
//! | 19 | `Zero` | source | the extent | 0 | none |
//! | 20 | `SegmentDone` | source | the segment | 1 with digest | the segment's digest, or none |
//! | 21 | `Credit` | source | 0, windows | 0 | none |
//! | 22 | `Alive` | both | 0, 0 | 0 | none |
//! | 32–40 | protection, see [`Kind`] | | 0, 0 | 0 | JSON, at most 64 KiB |
//! | 48 | `Delta` | agent | 0, 0 | 0 | a delta, see [`crate::delta`] |
//! | 49 | `Offer` | agent | whole chunks of the disk, at most a window | 0 | 16 bytes for each chunk |
//! | 50 | `Want` | target | that of the offer | 0 | a bit for each chunk, the first the lowest |
//! | 51 | `Received` | target | the open epoch, a number | 0 | none: deltas up to this one have left memory |
//! | 52 | `Durable` | target | the open epoch, a number | 0 | none: deltas up to this one survive a power cut |
//!
//! Kinds 16 to 21 belong to a run of `sync`, 48 to 52 to a protected disk.
//!
//! A header that breaks a rule of this table is refused before a byte of its
//! payload is read or memory for it taken.

use crate::delta;
use crate::error::{Remediable, Remedy};
use crate::limits;
use crate::pipeline::chunk_count;
use crate::unit::{ChunkSize, Digest, Extent};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 24;

/// What a frame is. Numbers are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Versions of the protocol.
    Hello = 1,
    /// Open an export.
    Open = 2,
    /// What was opened.
    Opened = 3,
    /// Begin a run.
    Start = 4,
    /// The run has begun.
    Started = 5,
    /// This connection is one more lane of a run.
    Join = 6,
    /// The end of a lane, with what it counted.
    End = 7,
    /// The end of a run, with what it did.
    Finished = 8,
    /// The end, with the reason.
    Refused = 9,
    /// Digests of a window of the target.
    Digests = 16,
    /// Windows of the target that read as zero.
    Hole = 17,
    /// Bytes of an extent.
    Data = 18,
    /// An extent that is all zero.
    Zero = 19,
    /// Everything of a segment was sent.
    SegmentDone = 20,
    /// Digests that the source has used up: so many more may come.
    Credit = 21,
    /// Nothing but a sign of life.
    Alive = 22,
    /// This connection protects a disk.
    Protect = 32,
    /// Where the target stands.
    Protecting = 33,
    /// The end of an epoch.
    Cut = 34,
    /// The epoch is a point.
    Point = 35,
    /// A delta is damaged; nothing of it was written, and the target hangs up.
    Remark = 36,
    /// The source has stopped for good: nothing may land any more.
    Fence = 37,
    /// Nothing will.
    Fenced = 38,
    /// How far a synchronization is.
    Progress = 39,
    /// The target takes nothing in at present: it says why.
    Waiting = 40,
    /// Changed chunks.
    Delta = 48,
    /// Digests of chunks that the source holds.
    Offer = 49,
    /// Which of them the target wants.
    Want = 50,
    /// Credit: deltas that no longer take the target's memory.
    Received = 51,
    /// Deltas that survive a power cut of the target.
    Durable = 52,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 30] = [
        Self::Hello,
        Self::Open,
        Self::Opened,
        Self::Start,
        Self::Started,
        Self::Join,
        Self::End,
        Self::Finished,
        Self::Refused,
        Self::Digests,
        Self::Hole,
        Self::Data,
        Self::Zero,
        Self::SegmentDone,
        Self::Credit,
        Self::Alive,
        Self::Protect,
        Self::Protecting,
        Self::Cut,
        Self::Point,
        Self::Remark,
        Self::Fence,
        Self::Fenced,
        Self::Progress,
        Self::Waiting,
        Self::Delta,
        Self::Offer,
        Self::Want,
        Self::Received,
        Self::Durable,
    ];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// The largest payload of this kind in bytes.
    const fn payload_max(self) -> u32 {
        match self {
            Self::Hello => 12,
            Self::Open
            | Self::Opened
            | Self::Start
            | Self::Started
            | Self::Join
            | Self::End
            | Self::Finished
            | Self::Refused
            | Self::Protect
            | Self::Protecting
            | Self::Cut
            | Self::Point
            | Self::Remark
            | Self::Fence
            | Self::Fenced
            | Self::Progress
            | Self::Waiting => limits::CONTROL_PAYLOAD_MAX,
            Self::Digests => DIGESTS_PAYLOAD_MAX,
            Self::Data => limits::FRAME_PAYLOAD_MAX,
            Self::SegmentDone => 16,
            Self::Delta => DELTA_PAYLOAD_MAX,
            Self::Offer => OFFER_CHUNKS_MAX * 16,
            Self::Want => OFFER_CHUNKS_MAX / 8,
            Self::Hole | Self::Zero | Self::Credit | Self::Alive | Self::Received | Self::Durable => 0,
        }
    }
}

const DIGESTS_PAYLOAD_MAX: u32 = (limits::WINDOW_BYTES / limits::CHUNK_BYTES) * 16;

/// Chunks of a window of the smallest chunks.
const OFFER_CHUNKS_MAX: u32 = limits::WINDOW_BYTES / ChunkSize::MIN.bytes();

/// The header of a delta, its entries, its bytes.
const DELTA_PAYLOAD_MAX: u32 = 80 + limits::DELTA_ENTRIES_MAX * 40 + limits::DELTA_BYTES_MAX;
const _: () = assert!(delta::HEADER_BYTES == 80 && delta::ENTRY_BYTES == 40);

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub kind: Kind,
    /// Of the kind's own meaning.
    pub detail: u8,
    /// Bytes that follow.
    pub payload_bytes: u32,
    /// The extent it is about; for `Credit` its length is a number of windows.
    pub extent: Extent,
}

/// A header that breaks a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A kind of no known frame.
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    /// Bytes that must be zero are not.
    #[error("a {0:?} frame whose reserved bytes are not zero")]
    Reserved(Kind),
    /// More payload than the kind may have, or not the size that it must have.
    #[error("a {kind:?} frame of {payload_bytes} bytes, which no such frame has here")]
    Payload {
        /// The kind.
        kind: Kind,
        /// Its announced payload.
        payload_bytes: u32,
    },
    /// An extent that ends past the largest number.
    #[error("a {0:?} frame whose extent ends past the end of numbers")]
    Overflow(Kind),
    /// A detail that the kind does not have.
    #[error("a {kind:?} frame with detail {detail}, which it does not have")]
    Detail {
        /// The kind.
        kind: Kind,
        /// The detail.
        detail: u8,
    },
    /// An extent that is not one of chunks within one window.
    #[error("a {kind:?} frame for {extent}, which is not whole chunks of this disk and this lane")]
    Extent {
        /// The kind.
        kind: Kind,
        /// The extent.
        extent: Extent,
    },
}

impl Remediable for FrameError {
    fn remedy(&self) -> Remedy {
        Remedy::Stop
    }
}

impl Header {
    /// A header without a payload.
    #[must_use]
    pub const fn bare(kind: Kind, extent: Extent) -> Self {
        Self { kind, detail: 0, payload_bytes: 0, extent }
    }

    /// A header for a payload of `payload_bytes`.
    #[must_use]
    pub const fn with_payload(kind: Kind, payload_bytes: u32) -> Self {
        Self { kind, detail: 0, payload_bytes, extent: Extent::between(0, 0) }
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = self.kind as u8;
        bytes[1] = self.detail;
        bytes[4..8].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.extent.offset().to_le_bytes());
        bytes[16..24].copy_from_slice(&self.extent.length().to_le_bytes());
        bytes
    }

    /// Reads a header and checks what can be checked without knowing the disk.
    ///
    /// # Errors
    /// [`FrameError`] names the rule.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let kind = Kind::from_number(bytes[0]).ok_or(FrameError::Kind(bytes[0]))?;
        let detail = bytes[1];
        if bytes[2..4] != [0, 0] {
            return Err(FrameError::Reserved(kind));
        }
        let payload_bytes = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        if payload_bytes > kind.payload_max() {
            return Err(FrameError::Payload { kind, payload_bytes });
        }
        let extent =
            Extent::new(number(&bytes[8..16]), number(&bytes[16..24])).ok_or(FrameError::Overflow(kind))?;
        let detail_max = match kind {
            Kind::Data => 2,
            Kind::SegmentDone => 1,
            _ => 0,
        };
        if detail > detail_max {
            return Err(FrameError::Detail { kind, detail });
        }
        Ok(Self { kind, detail, payload_bytes, extent })
    }

    /// Checks that the extent is whole chunks within one window of a disk of
    /// `size_bytes`, and that the payload fits it.
    ///
    /// # Errors
    /// [`FrameError::Extent`] and [`FrameError::Payload`].
    pub fn check_chunks(&self, size_bytes: u64) -> Result<(), FrameError> {
        let window = u64::from(limits::WINDOW_BYTES);
        let Header { kind, payload_bytes, extent, .. } = *self;
        let within_one =
            kind == Kind::Zero || extent.offset() / window == extent.end().saturating_sub(1) / window;
        if extent.is_empty() || !is_chunked(extent, size_bytes) || !within_one {
            return Err(FrameError::Extent { kind, extent });
        }
        let digests = chunk_count(extent).saturating_mul(Digest::BYTES as u64);
        let payload = u64::from(payload_bytes);
        let fits = match kind {
            Kind::Digests => payload == digests,
            Kind::Data => payload > digests && payload - digests <= extent.length(),
            _ => payload == 0,
        };
        if fits { Ok(()) } else { Err(FrameError::Payload { kind, payload_bytes }) }
    }
}

impl Header {
    /// Checks an offer, or the answer to one: whole chunks of `chunk` on a disk of
    /// `size_bytes`, no more than a window of them, with a payload that fits.
    ///
    /// # Errors
    /// [`FrameError::Extent`] and [`FrameError::Payload`].
    pub fn check_offer(&self, chunk: ChunkSize, size_bytes: u64) -> Result<(), FrameError> {
        let Header { kind, payload_bytes, extent, .. } = *self;
        if !chunk.fits(extent, size_bytes) || extent.length() > u64::from(limits::WINDOW_BYTES) {
            return Err(FrameError::Extent { kind, extent });
        }
        let chunks = chunk.count(extent.length());
        let expected = match kind {
            Kind::Want => chunks.div_ceil(8),
            _ => chunks * 16,
        };
        let fits = u64::from(payload_bytes) == expected;
        if fits { Ok(()) } else { Err(FrameError::Payload { kind, payload_bytes }) }
    }
}

/// Whether `extent` begins on a chunk and ends on one, or at the disk's end.
fn is_chunked(extent: Extent, size_bytes: u64) -> bool {
    let chunk = u64::from(limits::CHUNK_BYTES);
    let ends_well = extent.end().is_multiple_of(chunk) || extent.end() == size_bytes;
    extent.offset().is_multiple_of(chunk) && ends_well && extent.end() <= size_bytes
}

/// The digests in a payload; what is left over after the last whole one is ignored.
#[must_use]
pub fn digests(payload: &[u8]) -> Vec<Digest> {
    let whole = |bytes: &[u8]| <[u8; Digest::BYTES]>::try_from(bytes).ok().map(Digest);
    payload.chunks_exact(Digest::BYTES).filter_map(whole).collect()
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes on the wire: a change here breaks every peer.
    #[test]
    fn golden_bytes() {
        let header = Header {
            kind: Kind::Data,
            detail: 1,
            payload_bytes: 0x0001_0010,
            extent: Extent::between(0x0123_0000, 0x0124_0000),
        };
        let golden = [18, 1, 0, 0, 0x10, 0, 1, 0, 0, 0, 0x23, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0];
        assert_eq!(header.encode(), golden);
        assert_eq!(Header::decode(&golden), Ok(header));
        assert_eq!(header.check_chunks(1 << 30), Ok(()));
        let numbers: Vec<u8> = Kind::ALL.into_iter().map(|kind| kind as u8).collect();
        let runs = [1..=9, 16..=22, 32..=40, 48..=52];
        assert!(numbers.into_iter().eq(runs.into_iter().flatten()));
    }

    #[test]
    fn lengths_are_refused_before_memory_is_taken() {
        let mut bytes = Header::with_payload(Kind::Open, 0).encode();
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(Header::decode(&bytes), Err(FrameError::Payload { kind: Kind::Open, .. })));
    }

    #[test]
    fn extents_outside_the_disk_or_across_windows_are_refused() {
        let data =
            |extent: Extent, payload_bytes| Header { kind: Kind::Data, detail: 0, payload_bytes, extent };
        let size = (3 << 20) + 100;
        assert_eq!(data(Extent::between(3 << 20, size), 116).check_chunks(size), Ok(()));
        for (start, end, payload) in [
            (0, 0, 17),
            (100, 65_536, 17),
            (0, 65_535, 17),
            (983_040, 1_114_112, 100),
            (3 << 20, size + 1, 100),
            (0, 65_536, 16),
            (0, 65_536, 65_536 + 17),
        ] {
            assert!(
                data(Extent::between(start, end), payload).check_chunks(size).is_err(),
                "{start}..{end} {payload}"
            );
        }
    }

    #[test]
    fn offers_are_whole_chunks_of_one_window() {
        let chunk = ChunkSize::MIN;
        let size = (3 << 20) + 100;
        let check = |kind, start, end, payload_bytes| {
            Header { kind, detail: 0, payload_bytes, extent: Extent::between(start, end) }
                .check_offer(chunk, size)
        };
        assert_eq!(check(Kind::Offer, 4096, (1 << 20) + 4096, 4096), Ok(()));
        assert_eq!(check(Kind::Want, 4096, (1 << 20) + 4096, 32), Ok(()));
        assert_eq!(check(Kind::Want, 3 << 20, size, 1), Ok(()));
        assert!(check(Kind::Offer, 0, (1 << 20) + 4096, 4112).is_err());
        assert!(check(Kind::Offer, 0, 4096, 32).is_err());
        assert!(check(Kind::Offer, 100, 4096, 16).is_err());
        assert!(check(Kind::Want, 3 << 20, size + 1, 1).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::array::uniform24(any::<u8>()), size in any::<u64>()) {
            if let Ok(header) = Header::decode(&bytes) {
                prop_assert!(header.payload_bytes <= DELTA_PAYLOAD_MAX);
                prop_assert_eq!(header.encode(), bytes);
                let _ = header.check_chunks(size);
            }
        }
    }
}

//! The memory that the tracker's programs and the agent share, word by word.
//!
//! ```text
//! page 0                 header: words of 64 bits in the machine's order, below
//! page 1 ..              dirty: one bit per chunk, chunk 0 in the lowest bit of word 0
//! page 1 + pages ..      in transit, even epochs
//! page 1 + 2 × pages ..  in transit, odd epochs
//! page 1 + 3 × pages ..  coarse dirty marks: level 1, then level 2, then level 3
//! ```
//! Each bitmap is whole pages of 4096 bytes: 32,768 bits a page. It lives in
//! kernel memory, so it never outlives the boot and never leaves the machine; the
//! version keeps an agent from taking over a map that another agent laid out.
//!
//! `dirty` is level 0 of the dirty marks. One bit of each further level stands for
//! a whole word of the level below it: for 64, 4096 and 262,144 chunks.

use std::ops::Range;

use crate::sys::bpf::PAGE_BYTES;
use crate::unit::{ChunkSize, to_u64, to_usize};

/// What a map begins with: "failback" and the version of this layout.
pub(super) const SIGNATURE: u64 = u64::from_be_bytes(*b"failbk\0\x01");

/// Words of a page.
pub(super) const PAGE_WORDS: usize = PAGE_BYTES / 8;

/// Bits of a page, as a shift.
pub(super) const PAGE_BITS_SHIFT: i32 = 15;

/// Levels of dirty marks. The largest request, 4 GiB, touches at most 2^20 + 1 of
/// the smallest chunks: within two words at level 3, whatever lies between whole
/// words of the levels below.
pub(super) const LEVELS: usize = 4;
const _: () = assert!((1_u64 << 32 >> 12) >> (6 * (LEVELS - 1)) <= 64);

/// A word of the header.
///
/// | words | written by |
/// | --- | --- |
/// | 0–15 | the agent that installs, adopts or checks |
/// | 16–31 | the programs, by atomic addition; flags are set back by the agent |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderWord {
    /// [`SIGNATURE`].
    Signature = 0,
    /// A [`Phase`](super::header::Phase).
    Phase = 1,
    /// The disk's size in bytes.
    SizeBytes = 2,
    /// The chunk in bytes.
    ChunkBytes = 3,
    /// The disk's sequence number: another one after it was replaced.
    DiskSequence = 4,
    /// The boot, upper and lower half of its identity.
    BootUpper = 5,
    BootLower = 6,
    /// A digest of both programs.
    Programs = 7,
    /// Misses of the programs that a resynchronization has made good.
    AcceptedIssueMisses = 8,
    AcceptedCompletionMisses = 9,
    /// Misses of programs that were replaced since.
    CarriedMisses = 10,
    /// How far the kernel's counts may be ahead of ours, in sectors.
    WriteLead = 11,
    DiscardLead = 12,
    /// 1 from when the kernel was found not to count until all is marked.
    Uncounted = 13,
    /// Requests that were marked when they were issued, and when they completed.
    Issued = 16,
    Completed = 17,
    /// Sectors of 512 bytes that completed.
    WrittenSectors = 18,
    DiscardedSectors = 19,
    /// Writes whose place is not known.
    UnknownWrites = 20,
    /// Writes past the end of the disk as it was.
    OutOfRange = 21,
    /// Requests of more pieces than could be marked.
    Overruns = 22,
}

impl HeaderWord {
    /// Its place in bytes.
    pub(super) const fn offset(self) -> i16 {
        self as i16 * 8
    }
}

/// Which of the bitmaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bitmap {
    Dirty = 0,
    Even = 1,
    Odd = 2,
}

/// How large everything is for one disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The disk in bytes.
    pub size_bytes: u64,
    /// Its chunk.
    pub chunk_size: ChunkSize,
}

impl Geometry {
    /// Chunks of the disk.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.chunk_size.count(self.size_bytes)
    }

    /// Pages of the whole map; `None` where there are more chunks than
    /// [`crate::limits::TRACKED_CHUNKS_MAX`], or none.
    pub(super) fn pages(&self) -> Option<u32> {
        let is_in_range = (1..=crate::limits::TRACKED_CHUNKS_MAX).contains(&self.chunks());
        u32::try_from(self.first_page(LEVELS)).ok().filter(|_| is_in_range)
    }

    /// Words of a bitmap that hold chunks.
    pub(super) fn words(&self) -> usize {
        to_usize(self.chunks().div_ceil(64))
    }

    /// The words of the dirty marks of `level`.
    pub(super) fn level(&self, level: usize) -> Range<usize> {
        let start = PAGE_WORDS * to_usize(self.first_page(level));
        start..start + to_usize(self.bits(level).div_ceil(64))
    }

    /// The first page of the dirty marks of `level`; the map's end behind the last.
    pub(super) fn first_page(&self, level: usize) -> u64 {
        if level == 0 {
            return 1;
        }
        let coarser: u64 = (1..level).map(|level| self.level_pages(level)).sum();
        1 + 3 * self.level_pages(0) + coarser
    }

    /// The first word of a bitmap.
    pub(super) fn start(&self, bitmap: Bitmap) -> usize {
        PAGE_WORDS * (1 + bitmap as usize * to_usize(self.level_pages(0)))
    }

    fn level_pages(&self, level: usize) -> u64 {
        self.bits(level).div_ceil(64 * to_u64(PAGE_WORDS))
    }

    /// Bits of the dirty marks of `level`: what it takes to cover the disk.
    fn bits(&self, level: usize) -> u64 {
        (0..level).fold(self.chunks(), |bits, _| bits.div_ceil(64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_where_the_programs_of_other_versions_write_it() {
        assert_eq!(SIGNATURE.to_be_bytes(), *b"failbk\0\x01");
        assert_eq!(HeaderWord::Issued.offset(), 128);
        assert_eq!(HeaderWord::WrittenSectors.offset(), 144);
        assert_eq!(HeaderWord::Overruns.offset(), 176);
    }

    #[test]
    fn bitmaps_lie_behind_each_other_page_by_page() {
        let geometry = |size_bytes| Geometry { size_bytes, chunk_size: ChunkSize::MIN };
        assert_eq!(geometry(1).pages(), Some(7));
        assert_eq!(geometry(128 << 20).pages(), Some(7));
        assert_eq!(geometry((128 << 20) + 1).pages(), Some(10));
        assert_eq!(geometry((128 << 20) + 1).start(Bitmap::Odd), 5 * PAGE_WORDS);
        assert_eq!((geometry(0).pages(), geometry((2 << 40) + 1).pages()), (None, None));
        assert_eq!(geometry(2 << 40).pages(), Some(1 + 3 * 16384 + 256 + 4 + 1));
        assert_eq!(1_u64 << PAGE_BITS_SHIFT, to_u64(PAGE_WORDS) * 64);
    }

    #[test]
    fn each_level_covers_the_one_below_word_by_word() {
        for size_bytes in [1, 4096 * 64, 4096 * 65, (128 << 20) + 1, 2 << 40] {
            let geometry = Geometry { size_bytes, chunk_size: ChunkSize::MIN };
            assert_eq!(geometry.level(0).start, geometry.start(Bitmap::Dirty));
            assert!(geometry.level(1).start >= geometry.start(Bitmap::Odd) + geometry.words());
            for level in 1..LEVELS {
                let (below, this) = (geometry.level(level - 1), geometry.level(level));
                assert_eq!(this.len(), below.len().div_ceil(64));
                assert!(level == 1 || this.start >= below.end);
            }
            let end = PAGE_WORDS * geometry.pages().expect("it can be tracked") as usize;
            assert!(geometry.level(LEVELS - 1).end <= end);
        }
    }
}

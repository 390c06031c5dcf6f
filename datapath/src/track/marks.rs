//! The three bitmaps of a tracked disk, shared with the kernel, and how marks
//! move between them.
//!
//! A mark is in `dirty`, or in the bitmap of the epoch that took it, or in both;
//! at no moment in none. So each move first sets the bit where it goes, then
//! clears it where it was, and clears only what it has seen there: what the
//! programs set meanwhile stays. An agent may die between any two of these steps.
//!
//! The programs mark whole words of `dirty` by one bit of a coarser level (see
//! [`layout`](super::layout)). Whoever looks at `dirty` first settles those: the
//! word is set, then the coarse bit is cleared. Nothing leaves `dirty` meanwhile,
//! so a coarse bit that is set once more between the two is not lost either.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::chunk_set::{ChunkSet, masks};
use super::layout::{Bitmap, Geometry, LEVELS};
use crate::unit::Epoch;

/// Which of the two bitmaps of chunks in transit an epoch uses. An epoch's bitmap
/// must be [`confirmed`](super::ChangeSource::confirmed) before the epoch after
/// the next drains into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Parity {
    /// Of epochs 2, 4, …
    Even,
    /// Of epochs 1, 3, …
    Odd,
}

impl Parity {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Even, Self::Odd];
}

impl From<Epoch> for Parity {
    fn from(epoch: Epoch) -> Self {
        if epoch.0.is_multiple_of(2) { Self::Even } else { Self::Odd }
    }
}

impl From<Parity> for Bitmap {
    fn from(parity: Parity) -> Self {
        match parity {
            Parity::Even => Self::Even,
            Parity::Odd => Self::Odd,
        }
    }
}

/// The bitmaps, wherever their words lie.
#[derive(Clone, Copy)]
pub(super) struct Marks<'a> {
    words: &'a [AtomicU64],
    geometry: Geometry,
}

impl<'a> Marks<'a> {
    /// Over the words of a whole map; `None` where they are too few.
    pub(super) fn new(words: &'a [AtomicU64], geometry: Geometry) -> Option<Self> {
        let is_whole = words.len() >= geometry.level(LEVELS - 1).end;
        is_whole.then_some(Self { words, geometry })
    }

    /// Moves marks from word `from` on to the bitmap of `parity`, and puts them
    /// into `into`; stops behind the word that completes `budget` chunks. Returns
    /// the word to go on from, 0 at the end.
    pub(super) fn drain(&self, parity: Parity, from: usize, budget: u64, into: &mut ChunkSet) -> usize {
        self.settle();
        let (dirty, transit) = (self.bitmap(Bitmap::Dirty), self.bitmap(parity.into()));
        let mut taken = 0;
        for (index, (dirty, transit)) in dirty.iter().zip(transit).enumerate().skip(from) {
            if taken >= budget {
                return index;
            }
            let bits = dirty.load(SeqCst);
            if bits != 0 {
                transit.fetch_or(bits, SeqCst);
                dirty.fetch_and(!bits, SeqCst);
                into.merge(index, bits);
                taken += u64::from(bits.count_ones());
            }
        }
        0
    }

    /// Marks a range of chunks, as far as the disk goes.
    pub(super) fn mark(&self, range: Range<u64>) {
        let dirty = self.bitmap(Bitmap::Dirty);
        for (index, mask) in masks(range.start..range.end.min(self.geometry.chunks())) {
            dirty[index].fetch_or(mask, SeqCst);
        }
    }

    /// Forgets what is in transit in the bitmap of `parity`.
    pub(super) fn forget(&self, parity: Parity) {
        self.bitmap(parity.into()).iter().for_each(|word| word.store(0, SeqCst));
    }

    /// Marks all that is in transit again, and says what it was.
    pub(super) fn restart(&self) -> ChunkSet {
        let mut returned = ChunkSet::empty(self.geometry.chunks());
        for parity in Parity::ALL {
            let pairs = self.bitmap(Bitmap::Dirty).iter().zip(self.bitmap(parity.into()));
            for (index, (dirty, transit)) in pairs.enumerate() {
                let bits = transit.load(SeqCst);
                if bits != 0 {
                    dirty.fetch_or(bits, SeqCst);
                    transit.store(0, SeqCst);
                    returned.merge(index, bits);
                }
            }
        }
        returned
    }

    /// How many chunks a bitmap holds.
    pub(super) fn count(&self, bitmap: Bitmap) -> u64 {
        self.settle();
        self.bitmap(bitmap).iter().map(|word| u64::from(word.load(SeqCst).count_ones())).sum()
    }

    /// What a bitmap holds at this moment.
    pub(super) fn copy(&self, bitmap: Bitmap) -> ChunkSet {
        self.settle();
        let mut set = ChunkSet::empty(self.geometry.chunks());
        for (index, word) in self.bitmap(bitmap).iter().enumerate() {
            set.merge(index, word.load(SeqCst));
        }
        set
    }

    /// Turns each coarse mark into marks of chunks, the coarsest first.
    fn settle(&self) {
        for level in (1..LEVELS).rev() {
            let finer = &self.words[self.geometry.level(level - 1)];
            for (finer, coarse) in finer.chunks(64).zip(&self.words[self.geometry.level(level)]) {
                let bits = coarse.load(SeqCst);
                if bits != 0 {
                    let covered = finer.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
                    covered.for_each(|(_, word)| word.store(u64::MAX, SeqCst));
                    coarse.fetch_and(!bits, SeqCst);
                }
            }
        }
    }

    fn bitmap(&self, bitmap: Bitmap) -> &'a [AtomicU64] {
        let start = self.geometry.start(bitmap);
        &self.words[start..start + self.geometry.words()]
    }
}

#[cfg(test)]
mod tests;

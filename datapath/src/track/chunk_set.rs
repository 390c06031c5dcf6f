//! A set of chunks of one disk, as a bitmap.

use std::ops::Range;

use crate::unit::{ChunkSize, Extent, to_u64, to_usize};

/// Which chunks of a disk: one bit each, so that its memory is known from the
/// start and never grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkSet {
    words: Vec<u64>,
    chunks: u64,
    held: u64,
}

impl ChunkSet {
    /// None of `chunks` chunks.
    #[must_use]
    pub fn empty(chunks: u64) -> Self {
        Self { words: vec![0; to_usize(chunks.div_ceil(64))], chunks, held: 0 }
    }

    /// All of `chunks` chunks.
    #[must_use]
    pub fn full(chunks: u64) -> Self {
        let mut set = Self::empty(chunks);
        set.insert_range(0..chunks);
        set
    }

    /// Chunks that the disk has.
    #[must_use]
    pub fn universe(&self) -> u64 {
        self.chunks
    }

    /// Chunks in the set.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.held
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Whether `chunk` is in it.
    #[must_use]
    pub fn contains(&self, chunk: u64) -> bool {
        let word = usize::try_from(chunk / 64).ok().and_then(|index| self.words.get(index));
        word.is_some_and(|word| word >> (chunk % 64) & 1 == 1)
    }

    /// Puts one in; whether it was new. A chunk past the disk's end is not put in.
    pub fn insert(&mut self, chunk: u64) -> bool {
        chunk < self.chunks && self.merge(to_usize(chunk / 64), 1 << (chunk % 64)) == 1
    }

    /// Takes one out; whether it was there.
    pub fn remove(&mut self, chunk: u64) -> bool {
        let was_there = self.contains(chunk);
        if was_there {
            self.words[to_usize(chunk / 64)] &= !(1 << (chunk % 64));
            self.held -= 1;
        }
        was_there
    }

    /// Takes out all of a range.
    pub fn remove_range(&mut self, range: Range<u64>) {
        for (index, mask) in masks(range.start..range.end.min(self.chunks)) {
            let word = &mut self.words[index];
            self.held -= u64::from((*word & mask).count_ones());
            *word &= !mask;
        }
    }

    /// Puts in all of a range, as far as the disk goes.
    pub fn insert_range(&mut self, range: Range<u64>) {
        for (index, mask) in masks(range.start..range.end.min(self.chunks)) {
            self.merge(index, mask);
        }
    }

    /// Puts in all chunks that `extent` (bytes) touches.
    pub fn insert_extent(&mut self, extent: Extent, size: ChunkSize) {
        self.insert_range(touched(extent, size));
    }

    /// Puts in all that `other` holds.
    ///
    /// # Panics
    /// Where it is a set of another number of chunks: another disk.
    pub fn insert_all(&mut self, other: &Self) {
        assert_eq!(self.chunks, other.chunks, "both are sets of one disk's chunks");
        for (index, word) in other.words() {
            self.merge(index, word);
        }
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.words.fill(0);
        self.held = 0;
    }

    /// The first chunk at or after `chunk`.
    #[must_use]
    pub fn next_from(&self, chunk: u64) -> Option<u64> {
        if chunk >= self.chunks {
            return None;
        }
        let mut index = to_usize(chunk / 64);
        let mut word = self.words[index] & (u64::MAX << (chunk % 64));
        while word == 0 {
            index += 1;
            word = *self.words.get(index)?;
        }
        Some(to_u64(index) * 64 + u64::from(word.trailing_zeros()))
    }

    /// Its chunks in order.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        let mut next = self.next_from(0);
        std::iter::from_fn(move || {
            let chunk = next?;
            next = self.next_from(chunk + 1);
            Some(chunk)
        })
    }

    /// The first run of neighbouring chunks at or after `chunk`, cut off at
    /// `longest` chunks.
    #[must_use]
    pub fn next_run(&self, chunk: u64, longest: u64) -> Option<Range<u64>> {
        let start = self.next_from(chunk)?;
        let mut end = start + 1;
        while end - start < longest && self.contains(end) {
            end += 1;
        }
        Some(start..end)
    }

    /// Its runs of neighbouring chunks in order, none longer than `longest` chunks.
    pub fn runs(&self, longest: u64) -> impl Iterator<Item = Range<u64>> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let run = self.next_run(from, longest)?;
            from = run.end;
            Some(run)
        })
    }

    /// Its words that hold something, with their indexes.
    pub(super) fn words(&self) -> impl Iterator<Item = (usize, u64)> {
        self.words.iter().copied().enumerate().filter(|(_, word)| *word != 0)
    }

    /// Puts in the bits of one word; how many were new.
    pub(super) fn merge(&mut self, index: usize, bits: u64) -> u64 {
        let Some(word) = self.words.get_mut(index) else { return 0 };
        let is_last = to_u64(index) == self.chunks / 64;
        let bits = if is_last { bits & ((1 << (self.chunks % 64)) - 1) } else { bits };
        let new = u64::from((bits & !*word).count_ones());
        *word |= bits;
        self.held += new;
        new
    }
}

/// The chunks that `extent` (bytes) touches.
pub(super) fn touched(extent: Extent, size: ChunkSize) -> Range<u64> {
    if extent.is_empty() {
        return 0..0;
    }
    size.index(extent.offset())..size.index(extent.end() - 1) + 1
}

/// A range of chunks as words: index, and the bits in it.
pub(super) fn masks(range: Range<u64>) -> impl Iterator<Item = (usize, u64)> {
    let (mut at, end) = (range.start, range.end);
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let next = (at / 64 + 1).saturating_mul(64).min(end);
        let mask = (u64::MAX >> (64 - (next - at))) << (at % 64);
        let index = to_usize(at / 64);
        at = next;
        Some((index, mask))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_word_has_no_chunks_past_the_end() {
        let set = ChunkSet::full(70);
        assert_eq!((set.len(), set.iter().count(), set.contains(70)), (70, 70, false));
        assert_eq!(set.runs(u64::MAX).collect::<Vec<_>>(), vec![0..70]);
        assert_eq!(set.runs(32).collect::<Vec<_>>(), [0..32, 32..64, 64..70]);
        assert!(ChunkSet::empty(0).is_empty() && ChunkSet::full(0).iter().next().is_none());
    }

    #[test]
    fn an_extent_touches_chunks_at_both_ends() {
        let size = ChunkSize::MIN;
        assert_eq!(touched(Extent::between(4095, 4097), size), 0..2);
        assert_eq!(touched(Extent::between(4096, 8192), size), 1..2);
        assert_eq!(touched(Extent::between(4096, 4096), size), 0..0);
    }

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((0_u8..5, 0_u64..300, 0_u64..300), 0..60)) {
            let (mut set, mut model) = (ChunkSet::empty(250), BTreeSet::new());
            for (kind, a, b) in steps {
                match kind {
                    0 => prop_assert_eq!(set.insert(a), a < 250 && model.insert(a)),
                    1 => prop_assert_eq!(set.remove(a), model.remove(&a)),
                    4 => { set.remove_range(a..b); model.retain(|chunk| !(a..b).contains(chunk)); }
                    2 => { set.insert_range(a..b); model.extend(a..b.min(250)); }
                    _ => prop_assert_eq!(set.next_from(a), model.range(a..).next().copied()),
                }
                prop_assert_eq!(set.len(), model.len() as u64);
            }
            prop_assert!(set.iter().eq(model.iter().copied()));
            let of_runs: Vec<u64> = set.runs(7).flatten().collect();
            prop_assert!(of_runs.iter().eq(model.iter()));
        }
    }
}

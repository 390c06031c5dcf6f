//! What one disk of a frozen machine still had to read.

use std::collections::HashMap;
use std::ops::Range;

use super::reserve::{Block, Reserve};
use crate::limits;
use crate::unit::{ChunkSize, to_u64, to_usize};

/// Chunks read during a freeze.
pub(super) struct Remainder {
    reserve: Reserve,
    blocks: Vec<Block>,
    chunk_bytes: usize,
    /// Room for all there can be, so that it never grows.
    places: HashMap<u64, Place>,
}

/// Where a chunk lies: in which place, and how much of it is the chunk's.
#[derive(Clone, Copy)]
struct Place {
    number: u32,
    length: u32,
}

/// It does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMuch;

impl Remainder {
    /// Nothing yet, with room for as much as the machine's reserve holds.
    pub(super) fn new(chunk: ChunkSize, reserve: Reserve) -> Self {
        let chunk_bytes = to_usize(u64::from(chunk.bytes()));
        let most = to_usize(reserve.bytes());
        let blocks = Vec::with_capacity(most / to_usize(u64::from(limits::WINDOW_BYTES)));
        // Filled once, so that its pages are there.
        let unused = (0..to_u64(most / chunk_bytes)).map(|chunk| (chunk, Place { number: 0, length: 0 }));
        let mut places: HashMap<_, _> = unused.collect();
        places.clear();
        Self { reserve, blocks, chunk_bytes, places }
    }

    fn per_block(&self) -> usize {
        to_usize(u64::from(limits::WINDOW_BYTES)) / self.chunk_bytes
    }

    /// Whether a version of a chunk is in it.
    pub(super) fn holds(&self, chunk: u64) -> bool {
        self.places.contains_key(&chunk)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether so many chunks besides those in it find room, as far as can be
    /// said: other disks take from the same reserve.
    pub(super) fn has_room(&self, chunks: u64) -> bool {
        let held = self.blocks.len() * self.per_block() - self.places.len();
        let free = to_usize(self.reserve.free_bytes()) / self.chunk_bytes;
        to_usize(chunks) <= held.saturating_add(free)
    }

    /// Keeps a chunk, in place of an earlier version.
    pub(super) fn keep(&mut self, chunk: u64, bytes: &[u8]) -> Result<(), TooMuch> {
        let next = self.places.len();
        let known = self.places.get(&chunk).and_then(|place| usize::try_from(place.number).ok());
        let number = known.unwrap_or(next);
        let (block, range) = self.lies(number, bytes.len());
        if block == self.blocks.len() {
            self.blocks.push(self.reserve.take().ok_or(TooMuch)?);
        }
        let held = self.blocks.get_mut(block).and_then(|block| block.get_mut(range));
        held.ok_or(TooMuch)?.copy_from_slice(bytes);
        let [number, length] = [number, bytes.len()].map(u32::try_from);
        let place = Place { number: number.map_err(|_| TooMuch)?, length: length.map_err(|_| TooMuch)? };
        self.places.insert(chunk, place);
        Ok(())
    }

    /// What is in it.
    pub(super) fn bytes(&self) -> u64 {
        self.places.values().map(|place| u64::from(place.length)).sum()
    }

    /// The block of a place, and the range in it.
    fn lies(&self, number: usize, length: usize) -> (usize, Range<usize>) {
        let start = number % self.per_block() * self.chunk_bytes;
        (number / self.per_block(), start..start + length)
    }

    /// Its chunks in order.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut chunks: Vec<(u64, Place)> =
            self.places.iter().map(|(chunk, place)| (*chunk, *place)).collect();
        chunks.sort_unstable_by_key(|(chunk, _)| *chunk);
        chunks.into_iter().map(|(chunk, Place { number, length })| {
            let (block, range) = self.lies(to_usize(number.into()), to_usize(length.into()));
            (chunk, &self.blocks[block][range])
        })
    }

    /// Gives its memory back.
    pub(super) fn clear(&mut self) {
        self.places.clear();
        self.reserve.give_back(self.blocks.drain(..));
    }
}

impl Drop for Remainder {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_version_of_a_chunk_is_kept_and_room_ends() {
        let window = to_usize(u64::from(limits::WINDOW_BYTES));
        let reserve = Reserve::new(u64::from(limits::WINDOW_BYTES));
        let chunk = ChunkSize::new(512 << 10).expect("a chunk size");
        let mut remainder = Remainder::new(chunk, reserve.clone());
        assert!(remainder.has_room(2) && !remainder.has_room(3));
        assert_eq!(remainder.keep(7, &vec![1; window / 2]), Ok(()));
        assert_eq!(remainder.keep(3, &[2; 100]), Ok(()));
        assert_eq!(remainder.keep(7, &vec![3; window / 2]), Ok(()));
        assert_eq!(remainder.keep(9, &[4; 4096]), Err(TooMuch));
        let held: Vec<_> = remainder.chunks().map(|(chunk, bytes)| (chunk, bytes.len(), bytes[0])).collect();
        assert_eq!(held, [(3, 100, 2), (7, window / 2, 3)]);
        assert_eq!(remainder.bytes(), to_u64(window / 2) + 100);
        remainder.clear();
        assert!(remainder.has_room(2));
    }

    #[test]
    fn disks_share_what_the_machine_has() {
        let reserve = Reserve::new(2 * u64::from(limits::WINDOW_BYTES));
        let mut first = Remainder::new(ChunkSize::MAX, reserve.clone());
        let mut second = Remainder::new(ChunkSize::MAX, reserve.clone());
        assert_eq!((first.keep(0, &[1]), second.keep(0, &[2])), (Ok(()), Ok(())));
        assert_eq!(second.keep(1, &[3]), Err(TooMuch));
        assert!(!second.has_room(1));
        drop(first);
        assert_eq!((second.keep(1, &[3]), reserve.free_bytes()), (Ok(()), 0));
    }
}

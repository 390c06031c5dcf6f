//! What a frozen machine's disk still had to read: memory that is there before
//! the freeze, because taking some meanwhile may have to wait for what is frozen.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::unit::{ChunkSize, to_usize};

/// Chunks read during a freeze.
pub(super) struct Remainder {
    memory: Vec<u8>,
    chunk_bytes: usize,
    places: BTreeMap<u64, Range<usize>>,
}

/// It does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMuch;

impl Remainder {
    /// Room for `bytes`, every page of it touched.
    pub(super) fn new(chunk: ChunkSize, bytes: u64) -> Self {
        let mut memory = Vec::with_capacity(to_usize(bytes));
        // Not `vec![0; …]`, whose pages come only when they are written.
        memory.resize(to_usize(bytes), 0xff);
        Self { memory, chunk_bytes: to_usize(u64::from(chunk.bytes())), places: BTreeMap::new() }
    }

    /// Whether so many chunks besides those in it find room.
    pub(super) fn has_room(&self, chunks: u64) -> bool {
        let held = self.places.len().saturating_add(to_usize(chunks));
        held.saturating_mul(self.chunk_bytes) <= self.memory.len()
    }

    /// Keeps a chunk, in place of an earlier version.
    pub(super) fn keep(&mut self, chunk: u64, bytes: &[u8]) -> Result<(), TooMuch> {
        let begin = match self.places.get(&chunk) {
            Some(place) => place.start,
            None => self.places.len() * self.chunk_bytes,
        };
        let place = begin..begin + bytes.len();
        self.memory.get_mut(place.clone()).ok_or(TooMuch)?.copy_from_slice(bytes);
        self.places.insert(chunk, place);
        Ok(())
    }

    /// Its chunks in order.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.places.iter().map(|(chunk, place)| (*chunk, &self.memory[place.clone()]))
    }

    pub(super) fn clear(&mut self) {
        self.places.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_version_of_a_chunk_is_kept_and_room_ends() {
        let mut remainder = Remainder::new(ChunkSize::MIN, 8192);
        assert!(remainder.has_room(2) && !remainder.has_room(3));
        assert_eq!(remainder.keep(7, &[1; 4096]), Ok(()));
        assert_eq!(remainder.keep(3, &[2; 100]), Ok(()));
        assert_eq!(remainder.keep(7, &[3; 4096]), Ok(()));
        assert_eq!(remainder.keep(9, &[4; 4096]), Err(TooMuch));
        let held: Vec<_> = remainder.chunks().map(|(chunk, bytes)| (chunk, bytes.len(), bytes[0])).collect();
        assert_eq!(held, [(3, 100, 2), (7, 4096, 3)]);
        remainder.clear();
        assert!(remainder.has_room(2));
    }
}

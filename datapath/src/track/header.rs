//! The first page of a tracker's map: what it is bound to, and what the programs
//! have to say beside their marks.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::layout::{Geometry, HeaderWord, SIGNATURE};
use super::program::Event;
use crate::unit::ChunkSize;

/// How far a tracker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Phase {
    /// Half made: worth nothing.
    Installing = 1,
    /// At work.
    Tracking = 2,
    /// On the way to mark everything after a doubt: to be done again.
    Remarking = 3,
}

/// What a map is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) geometry: Geometry,
    /// The disk's sequence number; 0 on kernels that have none.
    pub(super) sequence: u64,
    /// The identity of the boot.
    pub(super) boot: u128,
    /// A digest of the programs.
    pub(super) programs: u64,
}

/// The words of the page.
#[derive(Clone, Copy)]
pub(super) struct Header<'a>(&'a [AtomicU64]);

impl<'a> Header<'a> {
    /// Of the words of a whole map.
    pub(super) fn new(words: &'a [AtomicU64]) -> Self {
        Self(words)
    }

    pub(super) fn get(&self, word: HeaderWord) -> u64 {
        self.0[word as usize].load(SeqCst)
    }

    pub(super) fn set(&self, word: HeaderWord, value: u64) {
        self.0[word as usize].store(value, SeqCst);
    }

    pub(super) fn add(&self, word: HeaderWord, value: u64) {
        self.0[word as usize].fetch_add(value, SeqCst);
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.set(HeaderWord::Phase, phase as u64);
    }

    pub(super) fn phase(&self) -> Option<Phase> {
        let value = self.get(HeaderWord::Phase);
        [Phase::Installing, Phase::Tracking, Phase::Remarking]
            .into_iter()
            .find(|phase| *phase as u64 == value)
    }

    /// Writes what a new map is bound to.
    pub(super) fn bind(&self, binding: &Binding) {
        self.set_phase(Phase::Installing);
        let Binding { geometry, sequence, boot, programs } = *binding;
        let [upper, lower] = boot_words(boot);
        self.set(HeaderWord::SizeBytes, geometry.size_bytes);
        self.set(HeaderWord::ChunkBytes, geometry.chunk_size.bytes().into());
        self.set(HeaderWord::DiskSequence, sequence);
        self.set(HeaderWord::BootUpper, upper);
        self.set(HeaderWord::BootLower, lower);
        self.set(HeaderWord::Programs, programs);
        self.set(HeaderWord::Signature, SIGNATURE);
    }

    /// What the map is bound to; `None` where it is laid out in another way.
    pub(super) fn binding(&self) -> Option<Binding> {
        let chunk = u32::try_from(self.get(HeaderWord::ChunkBytes)).ok()?;
        let geometry =
            Geometry { size_bytes: self.get(HeaderWord::SizeBytes), chunk_size: ChunkSize::new(chunk)? };
        let boot =
            u128::from(self.get(HeaderWord::BootUpper)) << 64 | u128::from(self.get(HeaderWord::BootLower));
        (self.get(HeaderWord::Signature) == SIGNATURE).then_some(Binding {
            geometry,
            sequence: self.get(HeaderWord::DiskSequence),
            boot,
            programs: self.get(HeaderWord::Programs),
        })
    }
}

fn boot_words(boot: u128) -> [u64; 2] {
    let bytes = boot.to_be_bytes();
    let (upper, lower) = bytes.split_at(8);
    [upper, lower].map(|half| half.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)))
}

/// Where the accepted misses of an event's program stand.
pub(super) fn accepted_misses(event: Event) -> HeaderWord {
    match event {
        Event::Issue => HeaderWord::AcceptedIssueMisses,
        Event::Completion => HeaderWord::AcceptedCompletionMisses,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_reads_back_and_another_layout_does_not() {
        let words: Vec<_> = (0..512).map(|_| AtomicU64::new(0)).collect();
        let header = Header::new(&words);
        assert_eq!((header.binding(), header.phase()), (None, None));
        let geometry = Geometry { size_bytes: 12_345 * 512, chunk_size: ChunkSize::MIN };
        let binding = Binding { geometry, sequence: 7, boot: u128::MAX / 3, programs: 9 };
        header.bind(&binding);
        assert_eq!((header.binding(), header.phase()), (Some(binding), Some(Phase::Installing)));
        header.set(HeaderWord::Signature, SIGNATURE + 1);
        assert_eq!(header.binding(), None);
    }
}

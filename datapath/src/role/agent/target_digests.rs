//! What the target of a disk without tracking holds, as far as this connection
//! knows: for each chunk the digest of what was sent last, or was there already.

use crate::limits;
use crate::unit::{ChunkSize, Digest, to_usize};

/// The digests of all chunks of one disk, in memory that is there before a freeze.
pub(super) struct TargetDigests(Vec<Option<Digest>>);

impl TargetDigests {
    /// For a disk of which nothing is known yet; `None` where it has more chunks
    /// than are held in memory.
    pub(super) fn new(chunk: ChunkSize, size_bytes: u64) -> Option<Self> {
        let chunks = chunk.count(size_bytes);
        (chunks <= limits::DIGESTS_HELD_MAX).then(|| Self(vec![None; to_usize(chunks)]))
    }

    /// Whether the target holds these chunks, from `first` on.
    pub(super) fn holds(&self, first: u64, digests: &[Digest]) -> bool {
        let known = self.0.get(to_usize(first)..).unwrap_or_default();
        known.len() >= digests.len()
            && digests.iter().zip(known).all(|(digest, known)| *known == Some(*digest))
    }

    /// The target holds these chunks by the end of the epoch, from `first` on.
    pub(super) fn learn(&mut self, first: u64, digests: &[Digest]) {
        for (known, digest) in self.0.iter_mut().skip(to_usize(first)).zip(digests) {
            *known = Some(*digest);
        }
    }

    /// Nothing is known any more: what was under way may be lost.
    pub(super) fn forget(&mut self) {
        self.0.fill(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learnt_is_held_until_it_is_forgotten() {
        let digest = |fill| Digest([fill; 16]);
        let mut digests = TargetDigests::new(ChunkSize::MIN, 5 * 4096 - 1).expect("few chunks");
        assert!(!digests.holds(0, &[digest(1)]));
        digests.learn(1, &[digest(1), digest(2)]);
        assert!(digests.holds(1, &[digest(1), digest(2)]) && digests.holds(2, &[digest(2)]));
        assert!(!digests.holds(0, &[digest(1)]) && !digests.holds(1, &[digest(1), digest(3)]));
        assert!(!digests.holds(4, &[digest(1), digest(2)]), "past the end nothing is held");
        digests.forget();
        assert!(!digests.holds(1, &[digest(1)]));
    }

    #[test]
    fn a_disk_with_too_many_chunks_has_none() {
        let most = limits::DIGESTS_HELD_MAX * u64::from(ChunkSize::MIN.bytes());
        assert!(TargetDigests::new(ChunkSize::MIN, most).is_some());
        assert!(TargetDigests::new(ChunkSize::MIN, most + 1).is_none());
    }
}

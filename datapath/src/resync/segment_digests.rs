//! One digest for each segment, made from the digests of its chunks as its
//! windows pass in order: what a verification holds the target against.

use crate::pipeline::{Digester, Segments, chunk_extents};
use crate::unit::{Digest, Extent, to_usize};

/// Collects the digests of one lane's windows into digests of segments.
pub struct SegmentDigests {
    digester: Digester,
    segments: Segments,
    /// Digests of the segment at hand.
    chunks: Vec<Digest>,
    zero: Option<(u64, Digest)>,
}

impl SegmentDigests {
    /// For the segments of a disk.
    #[must_use]
    pub const fn new(digester: Digester, segments: Segments) -> Self {
        Self { digester, segments, chunks: Vec::new(), zero: None }
    }

    /// The digests of the chunks of a window; `None` for one that is all zero
    /// without having been read.
    pub fn window(&mut self, extent: Extent, bytes: Option<&[u8]>) -> Vec<Digest> {
        let chunk = |chunk: Extent| {
            let begin = to_usize(chunk.offset() - extent.offset());
            bytes.map(|bytes| self.digester.digest(&bytes[begin..begin + to_usize(chunk.length())]))
        };
        if bytes.is_some() {
            return chunk_extents(extent).filter_map(chunk).collect();
        }
        chunk_extents(extent).map(|chunk| self.zero(chunk.length())).collect()
    }

    /// The digest of `length` zero bytes.
    pub fn zero(&mut self, length: u64) -> Digest {
        match self.zero {
            Some((known, digest)) if known == length => digest,
            _ => {
                let digest = self.digester.digest(&vec![0; to_usize(length)]);
                self.zero = Some((length, digest));
                digest
            }
        }
    }

    /// Takes in the digests of the next window; where it ends its segment,
    /// gives the segment's number and digest.
    pub fn push(&mut self, extent: Extent, digests: &[Digest]) -> Option<(u64, Digest)> {
        self.chunks.extend_from_slice(digests);
        let index = Segments::index_of(extent.offset());
        (extent.end() == self.segments.extent(index).end()).then(|| {
            let digest = self.digester.fold(&self.chunks);
            self.chunks.clear();
            (index, digest)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::DigestAlgorithm;

    #[test]
    fn a_hole_digests_like_zero_bytes() {
        let digester = Digester::new(DigestAlgorithm::Xxh3, [3; 32]);
        let extent = Extent::between(0, 100_000);
        let segments = Segments::new(100_000);
        let mut digests = SegmentDigests::new(digester, segments);
        let hole = digests.window(extent, None);
        let zeroes = digests.window(extent, Some(&vec![0; 100_000]));
        assert_eq!(hole, zeroes);
        assert_eq!(hole.len(), 2);
        assert!(digests.push(extent, &hole).is_some_and(|(index, _)| index == 0));
        assert!(digests.chunks.is_empty());
    }
}

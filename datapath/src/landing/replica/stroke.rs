//! What is overwritten under one flush of the journal.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use super::keep::chunks_of_a_stroke;
use crate::delta::{self, Opened};
use crate::journal::Pair;
use crate::unit::{ChunkSize, DeltaNumber, Digest, Extent, to_u64, to_usize};

/// New content of whole chunks: of one where it is data, of any number where it
/// is zeroes.
#[derive(Clone)]
pub(super) struct Piece {
    pub extent: Extent,
    pub content: Content,
}

/// What an extent will hold.
#[derive(Clone)]
pub(super) enum Content {
    Data { digest: Digest, bytes: Bytes },
    Zero,
}

/// A part of a memory that lives until all of it was written.
#[derive(Clone)]
pub(super) struct Bytes {
    pub memory: Arc<Vec<u8>>,
    pub range: Range<usize>,
}

impl Bytes {
    pub fn get(&self) -> &[u8] {
        self.memory.get(self.range.clone()).unwrap_or_default()
    }
}

/// Pieces that fit into one batch of the journal, none of them on the same chunk.
pub(super) struct Stroke {
    /// The highest delta that any of them belongs to.
    pub delta: DeltaNumber,
    pub pieces: Vec<Piece>,
}

/// Gathers pieces into strokes.
pub(super) struct Gathering {
    chunk: ChunkSize,
    chunks_max: u64,
    strokes: Vec<Stroke>,
    /// Chunks of the last stroke.
    chunks: HashSet<u64>,
}

impl Gathering {
    pub fn new(pair: &Pair) -> Self {
        let chunk = pair.chunk_size;
        let chunks_max = to_u64(chunks_of_a_stroke(pair));
        Self { chunk, chunks_max, strokes: Vec::new(), chunks: HashSet::new() }
    }

    /// Adds all entries of a delta.
    pub fn add(&mut self, delta: &Opened) {
        for entry in delta.entries() {
            let content = match entry.content {
                delta::Content::Data { digest, .. } => {
                    let (memory, range) = delta.share(entry);
                    Content::Data { digest, bytes: Bytes { memory, range } }
                }
                delta::Content::Zero => Content::Zero,
            };
            self.push(delta.head().number(), &Piece { extent: entry.extent, content });
        }
    }

    /// Adds a piece, in parts where it is more than a stroke takes.
    fn push(&mut self, delta: DeltaNumber, piece: &Piece) {
        let step = self.chunks_max * u64::from(self.chunk.bytes());
        for extent in piece.extent.split_at_multiples(step) {
            let first = self.chunk.index(extent.offset());
            let range = first..first + self.chunk.count(extent.length());
            let full = self.chunks.len() as u64 + (range.end - range.start) > self.chunks_max;
            if full || self.strokes.is_empty() || range.clone().any(|chunk| self.chunks.contains(&chunk)) {
                self.chunks.clear();
                self.strokes.push(Stroke { delta, pieces: Vec::new() });
            }
            self.chunks.extend(range);
            if let Some(stroke) = self.strokes.last_mut() {
                stroke.delta = delta;
                stroke.pieces.push(Piece { extent, content: piece.content.clone() });
            }
        }
    }

    pub fn strokes(self) -> Vec<Stroke> {
        self.strokes
    }
}

impl Stroke {
    /// Its chunks in the order of its pieces, each with the digest it will have.
    pub fn chunks(&self, pair: &Pair, zeroes: &ZeroDigests) -> Vec<(u64, Digest)> {
        let chunks_of = |piece: &Piece| {
            let first = pair.chunk_size.index(piece.extent.offset());
            let digest = match piece.content {
                Content::Data { digest, .. } => Some(digest),
                Content::Zero => None,
            };
            let chunks = first..first + pair.chunk_size.count(piece.extent.length());
            chunks.map(move |chunk| (chunk, digest.unwrap_or_else(|| zeroes.of(pair, chunk))))
        };
        self.pieces.iter().flat_map(chunks_of).collect()
    }
}

/// The digests of a chunk of zeroes, and of the disk's last one.
pub(super) struct ZeroDigests {
    whole: Digest,
    last: Digest,
}

impl ZeroDigests {
    pub fn new(pair: &Pair) -> Self {
        let of = |bytes: usize| pair.digester().digest(&vec![0; bytes]);
        let last = pair.chunks().saturating_sub(1);
        Self { whole: of(to_usize(u64::from(pair.chunk_size.bytes()))), last: of(pair.chunk_bytes(last)) }
    }

    pub fn of(&self, pair: &Pair, chunk: u64) -> Digest {
        if chunk + 1 == pair.chunks() { self.last } else { self.whole }
    }
}

//! What is overwritten under one flush of the journal.

use std::collections::HashSet;

use crate::delta::{self, Opened};
use crate::journal::Pair;
use crate::limits;
use crate::unit::{ChunkSize, DeltaNumber, Digest, Extent, to_usize};

/// New content of whole chunks: of one where it is data, of any number where it
/// is zeroes.
#[derive(Clone, Copy)]
pub(super) struct Piece<'a> {
    pub extent: Extent,
    pub content: Content<'a>,
}

/// What an extent will hold.
#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    Data { digest: Digest, bytes: &'a [u8] },
    Zero,
}

/// Pieces that fit into one batch of the journal, none of them on the same chunk.
pub(super) struct Stroke<'a> {
    /// The highest delta that any of them belongs to.
    pub delta: DeltaNumber,
    pub pieces: Vec<Piece<'a>>,
}

/// Gathers pieces into strokes.
pub(super) struct Gathering<'a> {
    chunk: ChunkSize,
    chunks_max: u64,
    strokes: Vec<Stroke<'a>>,
    /// Chunks of the last stroke.
    chunks: HashSet<u64>,
}

impl<'a> Gathering<'a> {
    pub fn new(pair: &Pair) -> Self {
        let chunk = pair.chunk_size;
        let images = limits::BATCH_IMAGE_BYTES_MAX / to_usize(u64::from(chunk.bytes()));
        let chunks_max = images.clamp(1, limits::BATCH_CHUNKS_MAX) as u64;
        Self { chunk, chunks_max, strokes: Vec::new(), chunks: HashSet::new() }
    }

    /// Adds all entries of a delta.
    pub fn add(&mut self, delta: &'a Opened) {
        for entry in delta.entries() {
            let content = match entry.content {
                delta::Content::Data { digest, .. } => Content::Data { digest, bytes: delta.bytes(entry) },
                delta::Content::Zero => Content::Zero,
            };
            self.push(delta.head().number(), Piece { extent: entry.extent, content });
        }
    }

    /// Adds a piece, in parts where it is more than a stroke takes.
    fn push(&mut self, delta: DeltaNumber, piece: Piece<'a>) {
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
                stroke.pieces.push(Piece { extent, ..piece });
            }
        }
    }

    pub fn strokes(self) -> Vec<Stroke<'a>> {
        self.strokes
    }
}

impl Stroke<'_> {
    /// Its chunks in the order of its pieces, each with the digest it will have.
    pub fn chunks(&self, pair: &Pair, zeroes: &ZeroDigests) -> Vec<(u64, Digest)> {
        let chunks_of = |piece: &Piece<'_>| {
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

//! A batch: before-images of some chunks, written and flushed before the first
//! of them is overwritten.
//!
//! Body of its record: the number of the last delta that it belongs to (8 bytes),
//! how many entries follow (4), zero (4), the entries. The payload is the packed
//! images one after another, in the order of their entries.
//!
//! ```text
//! buffer: [ … │ head, ends where the payload begins ][ image │ image │ … ]
//! ```
//!
//! Images are packed into the buffer that is written, and the head goes before them,
//! so that a batch is one write.

use super::Error;
use super::entry::{Before, ENTRY_BYTES, Entry, Place};
use super::field::{Fields, Room};
use super::record::{FRAME_BYTES, HEAD_BYTES_MAX};
use crate::limits;
use crate::pipeline::{Codec, Compression, Packer, is_zero};
use crate::sys::Buffer;
use crate::unit::{DeltaNumber, Digest, to_u64, to_usize};

/// A batch's buffer.
pub(super) const BUFFER_BYTES: usize = HEAD_BYTES_MAX + limits::BATCH_IMAGE_BYTES_MAX;

/// Gathers what a part of the open epoch will overwrite. From [`super::Journal::batch`].
pub struct Batch {
    /// `None` only while it is being written.
    buffer: Option<Buffer>,
    packer: Packer,
    pub(super) entries: Vec<Entry>,
    pub(super) payload_bytes: usize,
    pub(super) delta: DeltaNumber,
    image_bytes: usize,
}

impl Batch {
    pub(super) fn new(buffer: Buffer) -> Self {
        Self {
            buffer: Some(buffer),
            packer: Packer::new(Compression::Lz4).sparing(),
            entries: Vec::with_capacity(limits::BATCH_CHUNKS_MAX),
            payload_bytes: 0,
            delta: DeltaNumber::default(),
            image_bytes: 0,
        }
    }

    /// Ready to be filled again.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        (self.payload_bytes, self.image_bytes, self.delta) = (0, 0, DeltaNumber::default());
    }

    /// Whether a chunk of `chunk_bytes` fits besides what is in it.
    #[must_use]
    pub fn has_room(&self, chunk_bytes: usize) -> bool {
        self.entries.len() < limits::BATCH_CHUNKS_MAX
            && self.image_bytes + chunk_bytes <= limits::BATCH_IMAGE_BYTES_MAX
    }

    /// Chunks in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Says to which delta it belongs: the highest of several.
    pub fn belongs_to(&mut self, delta: DeltaNumber) {
        self.delta = self.delta.max(delta);
    }

    /// `chunk` held `bytes`, whose digest is `old`, and will hold what has the digest `new`.
    ///
    /// # Errors
    /// [`Error::Unfit`] where there is no room: see [`Self::has_room`].
    pub fn keep(&mut self, chunk: u64, bytes: &[u8], old: Digest, new: Digest) -> Result<(), Error> {
        if !self.has_room(bytes.len()) {
            return Err(full());
        }
        self.image_bytes += bytes.len();
        if is_zero(bytes) {
            return self.push(chunk, Before::Zero, old, new);
        }
        let (codec, packed) = self.packer.pack(bytes);
        let start = HEAD_BYTES_MAX + self.payload_bytes;
        let place = self.buffer.as_mut().ok_or_else(full)?.bytes_mut();
        let place = place.get_mut(start..start + packed.len()).ok_or_else(full)?;
        place.copy_from_slice(packed);
        let length = packed.len();
        let before = Before::Stored(Place {
            segment: 0,
            position: u32::try_from(self.payload_bytes).map_err(|_| full())?,
            length: u32::try_from(length).map_err(|_| full())?,
            packed: codec != Codec::Raw,
        });
        self.payload_bytes += length;
        self.push(chunk, before, old, new)
    }

    /// `chunk` was touched before in this epoch, and will now hold `new`.
    ///
    /// # Errors
    /// As [`Self::keep`].
    pub fn again(&mut self, chunk: u64, new: Digest) -> Result<(), Error> {
        self.push(chunk, Before::Told, NO_DIGEST, new)
    }

    /// `chunk` will hold `new`, and what it held is of no use to anybody: only
    /// in a first synchronization.
    ///
    /// # Errors
    /// As [`Self::keep`].
    pub fn unkept(&mut self, chunk: u64, new: Digest) -> Result<(), Error> {
        self.push(chunk, Before::Unkept, NO_DIGEST, new)
    }

    fn push(&mut self, chunk: u64, before: Before, old: Digest, new: Digest) -> Result<(), Error> {
        if self.entries.len() >= limits::BATCH_CHUNKS_MAX {
            return Err(full());
        }
        let chunk = u32::try_from(chunk).map_err(|_| Error::Unfit {
            what: "this chunk",
            reason: format!("chunk {chunk} is past the end of every disk"),
        })?;
        self.entries.push(Entry { chunk, before, old, new: Some(new) });
        Ok(())
    }

    /// Lends its buffer to a write.
    pub(super) fn take_buffer(&mut self) -> Result<Buffer, Error> {
        self.buffer.take().ok_or_else(full)
    }

    /// Takes it back.
    pub(super) fn give_buffer(&mut self, buffer: Buffer) {
        self.buffer = Some(buffer);
    }

    /// Bytes of its head.
    pub(super) fn head_bytes(&self) -> usize {
        FRAME_BYTES + FIXED_BYTES + self.entries.len() * ENTRY_BYTES
    }

    /// Writes its body where the body of a head of [`Self::head_bytes`] lies.
    pub(super) fn encode_body(&self, body: &mut [u8]) {
        let (fixed, entries) = body.split_at_mut(FIXED_BYTES.min(body.len()));
        let mut room = Room::new(fixed);
        room.u64(self.delta.0);
        room.put(&to_u64(self.entries.len()).to_le_bytes());
        for (entry, place) in self.entries.iter().zip(entries.chunks_exact_mut(ENTRY_BYTES)) {
            entry.encode(place);
        }
    }
}

const FIXED_BYTES: usize = 16;
const NO_DIGEST: Digest = Digest([0; Digest::BYTES]);

fn full() -> Error {
    Error::Unfit { what: "another chunk", reason: "the batch is full: append it first".to_owned() }
}

/// Reads the body of a batch: its delta, and its entries as they were written.
/// `None` for anything else, and where an image would lie outside of the payload.
pub(super) fn decode_body(body: &[u8], payload_bytes: u32) -> Option<(DeltaNumber, Vec<Entry>)> {
    let mut fields = Fields::new(body);
    let delta = DeltaNumber(fields.u64()?);
    let count = to_usize(fields.u64()?);
    if count > limits::BATCH_CHUNKS_MAX {
        return None;
    }
    let bytes = fields.bytes(count * ENTRY_BYTES)?;
    let entries: Option<Vec<Entry>> = bytes.chunks_exact(ENTRY_BYTES).map(Entry::decode).collect();
    let entries = entries?;
    let inside = |entry: &Entry| match entry.before {
        Before::Stored(place) => {
            place.segment == 0
                && place.position.checked_add(place.length).is_some_and(|end| end <= payload_bytes)
        }
        Before::Zero | Before::Told | Before::Unkept => true,
    };
    (fields.is_empty() && entries.iter().all(inside)).then_some((delta, entries))
}

/// Turns a place in the payload of a record into one in its segment.
pub(super) fn settle(entry: &mut Entry, segment: u32, payload_position: u32) {
    if let Before::Stored(place) = &mut entry.before {
        place.segment = segment;
        place.position = place.position.saturating_add(payload_position);
    }
}

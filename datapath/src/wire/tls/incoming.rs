//! The bytes of a connection that came from the socket and are not consumed.
//!
//! In: ciphertext read from the socket. Out: the same bytes, in place, for
//! rustls to decrypt where they lie. Invariants: `start ≤ start + seen ≤ end ≤
//! capacity`; bytes keep their distance to `start` until discarded, which
//! rustls relies on while a message of the handshake is incomplete. Never:
//! grows by itself. Limits: its capacity, at least [`RECORD_BYTES_MAX`].

/// The largest TLS 1.3 record: header, 2^14 bytes, content type, tag and padding.
pub(super) const RECORD_BYTES_MAX: usize = 5 + (16 << 10) + 256;

/// A buffer that is filled at its end and emptied at its front. What is left of
/// a record is moved to the front only when the room behind it runs out.
pub(super) struct Incoming {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes after `start` that rustls was shown already: part of a record, or
    /// parts of a handshake message that it left here.
    seen: usize,
}

impl Incoming {
    /// An empty buffer for `capacity` bytes.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity.max(RECORD_BYTES_MAX)].into(), start: 0, end: 0, seen: 0 }
    }

    /// The same content with room for `capacity` bytes, or for what it holds.
    pub(super) fn resized(self, capacity: usize) -> Self {
        let mut larger = Self::with_capacity(capacity.max(self.len()));
        let length = self.len();
        larger.bytes[..length].copy_from_slice(&self.bytes[self.start..self.end]);
        Self { end: length, seen: self.seen, ..larger }
    }

    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    /// All bytes held, to be decrypted.
    pub(super) fn unread(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// The bytes that were shown before and hold no complete record.
    pub(super) fn seen(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.seen]
    }

    /// After all unread bytes were shown: `discard` of them are done with, and
    /// the rest holds no complete record (`drained`) or was not looked at.
    pub(super) fn shown(&mut self, discard: usize, drained: bool) {
        self.start = (self.start + discard).min(self.end);
        self.seen = if drained { self.len() } else { 0 };
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// After the seen bytes were shown again: `discard` of them are done with.
    pub(super) fn shown_again(&mut self, discard: usize) {
        self.start = (self.start + discard).min(self.end);
        self.seen = self.seen.saturating_sub(discard);
    }

    /// Room for at most `most` more bytes; empty only where the buffer is full.
    pub(super) fn room(&mut self, most: usize) -> &mut [u8] {
        if self.start > 0 && self.bytes.len() - self.end < most.min(self.bytes.len() / 2) {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let end = self.bytes.len().min(self.end.saturating_add(most));
        &mut self.bytes[self.end..end]
    }

    /// `count` bytes were put into the room.
    pub(super) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(incoming: &mut Incoming, bytes: &[u8]) {
        incoming.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        incoming.filled(bytes.len());
    }

    #[test]
    fn content_survives_moving_to_the_front() {
        let mut incoming = Incoming::with_capacity(0);
        let capacity = incoming.bytes.len();
        fill(&mut incoming, &vec![1; capacity - 10]);
        fill(&mut incoming, &[2; 10]);
        assert!(incoming.room(1).is_empty(), "full");
        incoming.shown(capacity - 10, true);
        assert_eq!(incoming.seen(), [2; 10]);
        fill(&mut incoming, &[3; 5]);
        assert_eq!(incoming.unread(), [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3]);
        assert_eq!(incoming.seen(), [2; 10], "what came after is not yet seen");
        let mut larger = incoming.resized(capacity * 2);
        assert_eq!((larger.len(), larger.seen().len(), larger.bytes.len()), (15, 10, capacity * 2));
        larger.shown(15, false);
        assert_eq!((larger.len(), larger.start, larger.seen().len()), (0, 0, 0));
    }
}

//! A delta as it travels, and one that was opened and verified.

use std::ops::Range;
use std::sync::Arc;

use super::head::Head;
use super::header::HEADER_BYTES;
use super::{Codec, Content, ENTRY_BYTES, Entry, Error, Header};
use crate::unit::{Digest, to_usize};

/// A delta on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    head: Head,
    payload: Vec<u8>,
}

impl Packed {
    /// A delta from parts that belong together.
    pub(super) const fn whole(head: Head, payload: Vec<u8>) -> Self {
        Self { head, payload }
    }

    /// Puts a delta together from parts as they were received.
    ///
    /// # Errors
    /// [`Error::Length`] where the payload is not what the head announces.
    pub fn new(head: Head, payload: Vec<u8>) -> Result<Self, Error> {
        let (found_bytes, expected_bytes) = (payload.len(), to_usize(u64::from(head.header().packed_bytes)));
        if found_bytes != expected_bytes {
            return Err(Error::Length { place: head.place(), found_bytes, expected_bytes });
        }
        Ok(Self { head, payload })
    }

    /// Reads a whole delta.
    ///
    /// # Errors
    /// [`Error`] names the rule; memory is taken only for what is there.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let short = Error::Header { what: "it is shorter than a header" };
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(short)?;
        let header = Header::decode(header)?;
        let entries = to_usize(u64::from(header.entries)) * ENTRY_BYTES;
        let short = Error::Length {
            place: header.place,
            found_bytes: bytes.len(),
            expected_bytes: to_usize(header.encoded_bytes()),
        };
        let (entries, payload) = rest.split_at_checked(entries).ok_or(short)?;
        Self::new(Head::decode(header, entries)?, payload.to_vec())
    }

    /// Its bytes, whole.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.head.encode();
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// Bytes that [`Self::encode`] gives.
    #[must_use]
    pub fn encoded_bytes(&self) -> u64 {
        self.head.header().encoded_bytes()
    }

    /// Its header and entries.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// How the payload is packed.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.head.header().codec
    }

    /// The packed bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Its memory, for another delta.
    #[must_use]
    pub fn into_memory(self) -> Vec<u8> {
        self.payload
    }

    /// Opens a delta whose payload was unpacked to `plain`, once every chunk of it
    /// has its digest.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the first chunk that has another, [`Error::Length`].
    pub fn open(head: Head, plain: Vec<u8>, digest: impl Fn(&[u8]) -> Digest) -> Result<Opened, Error> {
        let (found_bytes, expected_bytes) = (plain.len(), to_usize(u64::from(head.header().plain_bytes)));
        let place = head.place();
        if found_bytes != expected_bytes {
            return Err(Error::Length { place, found_bytes, expected_bytes });
        }
        let opened = Opened { head, plain: Arc::new(plain) };
        let is_damaged = |entry: &&Entry| match entry.content {
            Content::Data { digest: expected, .. } => digest(opened.bytes(entry)) != expected,
            Content::Zero => false,
        };
        match opened.entries().iter().find(is_damaged) {
            Some(Entry { extent, .. }) => Err(Error::Damaged { place, extent: *extent }),
            None => Ok(opened),
        }
    }

    /// Head and payload, to unpack the one with the other.
    #[must_use]
    pub fn into_parts(self) -> (Head, Vec<u8>) {
        (self.head, self.payload)
    }
}

/// A delta whose bytes are those that were read at the source.
#[derive(Clone, Debug)]
pub struct Opened {
    head: Head,
    /// Shared with whoever still writes some of it.
    plain: Arc<Vec<u8>>,
}

impl Opened {
    /// Its header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        self.head.header()
    }

    /// Its header and entries.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// What changed, ascending.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        self.head.entries()
    }

    /// The bytes of one of its own entries; none for zeroes.
    #[must_use]
    pub fn bytes(&self, entry: &Entry) -> &[u8] {
        match entry.content {
            Content::Data { position, .. } => {
                let end = position.saturating_add(to_usize(entry.extent.length()));
                self.plain.get(position..end).unwrap_or(&[])
            }
            Content::Zero => &[],
        }
    }

    /// Its memory, and where the bytes of one of its own entries lie there.
    #[must_use]
    pub fn share(&self, entry: &Entry) -> (Arc<Vec<u8>>, Range<usize>) {
        let from = match entry.content {
            Content::Data { position, .. } => position.min(self.plain.len()),
            Content::Zero => 0,
        };
        (Arc::clone(&self.plain), from..from + self.bytes(entry).len())
    }
}

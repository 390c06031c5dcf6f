//! Header and entries of a delta together, as one whole that was checked.

use super::header::{COVERED, HEADER_BYTES};
use super::{Codec, Content, ENTRY_BYTES, Entry, Error, Header, Place, Shape};
use crate::unit::{DeltaNumber, Extent, to_usize};

/// Everything of a delta but its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    header: Header,
    entries: Vec<Entry>,
}

impl Head {
    /// The head of a delta whose entries were pushed one by one and checked.
    pub(super) fn new(place: Place, shape: Shape, entries: Vec<Entry>, plain_bytes: u32) -> Self {
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let header = Header {
            place,
            shape,
            codec: Codec::Raw,
            entries: count,
            plain_bytes,
            packed_bytes: plain_bytes,
            checksum: [0; 16],
        };
        Self { header, entries }.sealed()
    }

    /// The same, packed by `codec` into `packed_bytes`.
    pub(super) fn packed(self, codec: Codec, packed_bytes: u32) -> Self {
        Self { header: Header { codec, packed_bytes, ..self.header }, ..self }.sealed()
    }

    fn sealed(mut self) -> Self {
        let entries = self.encode_entries();
        self.header.checksum = checksum(&self.header, &entries);
        self
    }

    /// Which delta it is.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.header.place
    }

    /// Its number in its epoch.
    #[must_use]
    pub const fn number(&self) -> DeltaNumber {
        self.header.place.number
    }

    /// The fixed part.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// What changed, ascending.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The bytes that travel before the packed ones.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.entries.len() * ENTRY_BYTES);
        bytes.extend_from_slice(&self.header.encode());
        bytes.extend_from_slice(&self.encode_entries());
        bytes
    }

    fn encode_entries(&self) -> Vec<u8> {
        self.entries.iter().flat_map(Entry::encode).collect()
    }

    /// Puts a head together from a header that was read and the bytes of all its
    /// entries.
    ///
    /// # Errors
    /// [`Error`] names the rule; no head has entries outside its disk, out of
    /// order, or of other lengths than its header says.
    pub fn decode(header: Header, entries: &[u8]) -> Result<Self, Error> {
        let place = header.place;
        let expected_bytes = to_usize(u64::from(header.entries)) * ENTRY_BYTES;
        if entries.len() != expected_bytes {
            return Err(Error::Length { place, found_bytes: entries.len(), expected_bytes });
        }
        if checksum(&header, entries) != header.checksum {
            return Err(Error::Checksum { place });
        }
        let mut order = Order::new(header.shape);
        let mut read = Vec::with_capacity(entries.len() / ENTRY_BYTES);
        let (records, _) = entries.as_chunks::<ENTRY_BYTES>();
        for (index, bytes) in records.iter().enumerate() {
            let entry = Entry::decode(bytes, to_usize(order.plain_bytes))
                .and_then(|entry| order.admit(entry.extent, entry.content != Content::Zero).map(|()| entry))
                .map_err(|what| Error::Entry { place, index, what })?;
            read.push(entry);
        }
        let (found_bytes, expected_bytes) =
            (to_usize(order.plain_bytes), to_usize(u64::from(header.plain_bytes)));
        if found_bytes != expected_bytes {
            return Err(Error::Length { place, found_bytes, expected_bytes });
        }
        Ok(Self { header, entries: read })
    }
}

/// What the entries of a delta must hold to, one after the other.
pub(super) struct Order {
    shape: Shape,
    /// End of the entry before.
    end: u64,
    pub(super) plain_bytes: u64,
}

impl Order {
    pub(super) const fn new(shape: Shape) -> Self {
        Self { shape, end: 0, plain_bytes: 0 }
    }

    /// Takes the next entry in; says which rule it breaks.
    pub(super) fn admit(&mut self, extent: Extent, is_data: bool) -> Result<(), &'static str> {
        let Shape { disk_bytes, chunk, .. } = self.shape;
        if !chunk.fits(extent, disk_bytes) {
            return Err("it is not whole chunks of its disk");
        }
        if is_data && extent.length() > u64::from(chunk.bytes()) {
            return Err("data is one chunk an entry");
        }
        if extent.offset() < self.end {
            return Err("it does not ascend");
        }
        self.end = extent.end();
        if is_data {
            self.plain_bytes = self.plain_bytes.saturating_add(extent.length());
        }
        Ok(())
    }
}

fn checksum(header: &Header, entries: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&header.encode()[..COVERED]);
    hasher.update(entries);
    let mut sum = [0; 16];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    sum
}

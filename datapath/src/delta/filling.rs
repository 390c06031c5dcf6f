//! Gathering chunks until a delta is full.

use super::head::{Head, Order};
use super::{Codec, Content, Entry, Packed, Place, Shape};
use crate::limits;
use crate::unit::{Digest, Extent, to_usize};

/// A delta that is being filled.
pub struct Filling {
    shape: Shape,
    order: Order,
    entries: Vec<Entry>,
    plain: Vec<u8>,
}

/// The chunk has no room in this delta, or lies before its last: send this one
/// and begin another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

impl Filling {
    /// An empty delta for a disk of `shape`.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self::with_memory(shape, Vec::new())
    }

    /// As [`Self::new`], in memory that an earlier delta gave back
    /// ([`Packed::into_memory`]): fresh pages cost more than filling them.
    #[must_use]
    pub fn with_memory(shape: Shape, mut plain: Vec<u8>) -> Self {
        plain.clear();
        plain.reserve_exact(to_usize(u64::from(limits::DELTA_BYTES_MAX)));
        Self { shape, order: Order::new(shape), entries: Vec::new(), plain }
    }

    /// Whether nothing is in it yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of the chunks in it.
    #[must_use]
    pub fn plain_bytes(&self) -> usize {
        self.plain.len()
    }

    /// Adds the chunk at `extent`, whose `bytes` have this `digest`.
    ///
    /// # Errors
    /// [`NoRoom`], and the delta is as it was. An extent that is no chunk of the
    /// disk has room in no delta.
    pub fn push_data(&mut self, extent: Extent, bytes: &[u8], digest: Digest) -> Result<(), NoRoom> {
        let room = to_usize(u64::from(limits::DELTA_BYTES_MAX)) - self.plain.len();
        if bytes.len() > room || bytes.len() != to_usize(extent.length()) || self.is_full() {
            return Err(NoRoom);
        }
        self.order.admit(extent, true).map_err(|_| NoRoom)?;
        let content = Content::Data { digest, position: self.plain.len() };
        self.entries.push(Entry { extent, content });
        self.plain.extend_from_slice(bytes);
        Ok(())
    }

    /// Adds zeroes over `extent`, which is whole chunks. Next to zeroes they
    /// become one entry.
    ///
    /// # Errors
    /// As [`Self::push_data`].
    pub fn push_zero(&mut self, extent: Extent) -> Result<(), NoRoom> {
        let before = self.entries.last().filter(|last| last.content == Content::Zero);
        let merged = before.is_some_and(|last| last.extent.end() == extent.offset());
        if self.is_full() && !merged {
            return Err(NoRoom);
        }
        self.order.admit(extent, false).map_err(|_| NoRoom)?;
        match self.entries.last_mut().filter(|_| merged) {
            Some(last) => last.extent = Extent::between(last.extent.offset(), extent.end()),
            None => self.entries.push(Entry { extent, content: Content::Zero }),
        }
        Ok(())
    }

    /// Whether it takes no further entry.
    fn is_full(&self) -> bool {
        self.entries.len() >= to_usize(u64::from(limits::DELTA_ENTRIES_MAX))
    }

    /// Closes it as the delta at `place`; `None` where nothing is in it, because
    /// an empty delta is none.
    #[must_use]
    pub fn close(self, place: Place) -> Option<Filled> {
        if self.is_empty() {
            return None;
        }
        let plain_bytes = u32::try_from(self.plain.len()).unwrap_or(u32::MAX);
        Some(Filled { head: Head::new(place, self.shape, self.entries, plain_bytes), plain: self.plain })
    }
}

/// A delta with its place, and its bytes as they were read.
pub struct Filled {
    head: Head,
    plain: Vec<u8>,
}

impl Filled {
    /// Its header and entries.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// The bytes of all data entries, one after the other.
    #[must_use]
    pub fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// It goes as it is.
    #[must_use]
    pub fn raw(self) -> Packed {
        Packed::whole(self.head, self.plain)
    }

    /// It goes as `packed`, which is its plain bytes packed by `codec`. What does
    /// not shrink goes as it is. Also the memory of the plain bytes.
    #[must_use]
    pub fn packed(self, codec: Codec, packed: Vec<u8>) -> (Packed, Vec<u8>) {
        match u32::try_from(packed.len()) {
            Ok(length) if codec != Codec::Raw && packed.len() < self.plain.len() => {
                (Packed::whole(self.head.packed(codec, length), packed), self.plain)
            }
            _ => (self.raw(), packed),
        }
    }
}

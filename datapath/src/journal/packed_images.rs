//! Before-images that lie side by side in a segment, and that one read gets.

use std::rc::Rc;

use super::entry::{Before, Place};
use super::files::LEASE_BYTES;
use super::log::segment_name;
use super::record::BLOCK;
use super::{BeforeImage, Error, Pair, VolumeFile};
use crate::pipeline::{Digester, unpack};
use crate::sys::Buffer;
use crate::unit::{to_u64, to_usize};

/// Some before-images, to be read at once. From [`super::Journal::packed_images`];
/// it borrows nothing, so that several may be read at the same time.
pub struct PackedImages<F> {
    file: Rc<F>,
    segment: u32,
    /// Where the read begins, in whole blocks.
    position: u64,
    length: usize,
    images: Vec<BeforeImage>,
    digester: Digester,
}

impl<F> PackedImages<F> {
    /// The longest read of all.
    pub const BYTES_MAX: usize = LEASE_BYTES;

    /// `images` follow each other in `file`, within [`Self::BYTES_MAX`].
    pub(super) fn new(file: Rc<F>, images: &[(Place, BeforeImage)], pair: &Pair) -> Self {
        let block = to_u64(BLOCK);
        let start = images.first().map_or(0, |(place, _)| u64::from(place.position) / block * block);
        let end = images.last().map_or(0, |(place, _)| u64::from(place.position) + u64::from(place.length));
        Self {
            file,
            segment: images.first().map_or(0, |(place, _)| place.segment),
            position: start,
            length: to_usize(end.next_multiple_of(block).saturating_sub(start)).min(LEASE_BYTES),
            images: images.iter().map(|(_, image)| *image).collect(),
            digester: pair.digester(),
        }
    }

    /// Those that it gets.
    pub fn images(&self) -> &[BeforeImage] {
        &self.images
    }

    /// Unpacks one of its images from what was read into `into`, as long as its
    /// chunk, and verifies its digest.
    ///
    /// # Errors
    /// [`Error::DamagedImage`].
    pub fn unpack(&self, image: &BeforeImage, read: &[u8], into: &mut [u8]) -> Result<(), Error> {
        let Before::Stored(place) = image.before else { return Ok(()) };
        let from = to_usize(u64::from(place.position).saturating_sub(self.position));
        let packed = read.get(from..from + to_usize(u64::from(place.length))).unwrap_or_default();
        let is_whole = unpack(place.codec(), packed, into).is_ok();
        if is_whole && self.digester.digest(into) == image.digest {
            return Ok(());
        }
        let (file, offset) = (segment_name(place.segment), u64::from(place.position));
        Err(Error::DamagedImage { chunk: image.chunk, file, offset })
    }
}

impl<F: VolumeFile> PackedImages<F> {
    /// Reads them into the start of `buffer`, which comes back.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn read(&self, buffer: Buffer) -> (Result<(), Error>, Buffer) {
        let (read, buffer) = self.file.read(self.position, buffer, 0..self.length).await;
        let name = || segment_name(self.segment);
        let read = read.map_err(|source| match source.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::damaged(&name(), self.position, "it ends before"),
            _ => Error::file(&name(), "read", source),
        });
        (read, buffer)
    }
}

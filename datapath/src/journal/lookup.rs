//! What a chunk held at a point, and what it holds now.

use std::ops::Range;

use roaring::RoaringBitmap;

use super::entry::{Before, Entry, Place};
use super::files::{LEASE_BYTES, Lease, RUN_BYTES};
use super::log::segment_name;
use super::merge::Cursor;
use super::record::BLOCK;
use super::{BeforeImage, Error, Journal, Volume};
use crate::limits;
use crate::pipeline::unpack;
use crate::unit::{Digest, Epoch, Extent, to_u64, to_usize};

impl<V: Volume> Journal<V> {
    /// What each of `chunks` held at the point `since`: `None` where it has not
    /// changed after it, so that the target itself holds it. Of a chunk that the
    /// target overwrites at the same time, read the target first.
    ///
    /// # Errors
    /// [`Error::NoSuchPoint`], [`Error::Unfit`] for more than
    /// [`limits::LOOKUP_CHUNKS_MAX`] chunks, and those of reading.
    pub async fn before_images(
        &self,
        chunks: Range<u64>,
        since: Epoch,
    ) -> Result<Vec<Option<BeforeImage>>, Error> {
        let (first, last) = self.lookup_range(&chunks)?;
        let tables = self.shelf.after(since)?;
        let mut found: Vec<Option<BeforeImage>> =
            vec![None; to_usize(chunks.end.saturating_sub(chunks.start))];
        let Some(last) = last else { return Ok(found) };
        let mut missing = found.len();
        let mut fill = |entries: Vec<Entry>| {
            for entry in entries {
                if let Some(slot) = found.get_mut(to_usize(u64::from(entry.chunk) - chunks.start))
                    && slot.is_none()
                {
                    let chunk = u64::from(entry.chunk);
                    *slot = Some(BeforeImage { chunk, before: entry.before, digest: entry.old });
                    missing -= 1;
                }
            }
            missing == 0
        };
        for table in tables {
            if fill(table.range(&self.files, first, last).await?) {
                return Ok(found);
            }
        }
        fill(self.open.range(&self.files, first, last).await?);
        Ok(found)
    }

    fn lookup_range(&self, chunks: &Range<u64>) -> Result<(u32, Option<u32>), Error> {
        let count = chunks.end.saturating_sub(chunks.start);
        if chunks.end > self.pair.chunks() || count > limits::LOOKUP_CHUNKS_MAX {
            let reason = format!("chunks {}..{} of {}", chunks.start, chunks.end, self.pair.chunks());
            return Err(Error::Unfit { what: "a lookup", reason });
        }
        // A disk has at most 2^28 chunks.
        let narrow = |chunk: u64| u32::try_from(chunk).unwrap_or(u32::MAX);
        Ok((narrow(chunks.start), (count > 0).then(|| narrow(chunks.end - 1))))
    }

    /// Reads a before-image into `into`, which is as long as its chunk, and
    /// verifies its digest.
    ///
    /// # Errors
    /// [`Error::DamagedImage`], and those of reading.
    pub async fn read_image(&self, image: &BeforeImage, into: &mut [u8]) -> Result<(), Error> {
        self.read_images(std::slice::from_ref(image), |_, bytes| {
            if let (true, Some(into)) = (into.len() == bytes.len(), into.get_mut(..bytes.len())) {
                into.copy_from_slice(bytes);
                Ok(())
            } else {
                let reason = format!("a buffer of {} bytes for {}", into.len(), bytes.len());
                Err(Error::Unfit { what: "a before-image", reason })
            }
        })
        .await
    }

    /// Reads before-images, those that lie side by side at once, and hands each
    /// chunk's verified bytes to `take`.
    ///
    /// # Errors
    /// As [`Self::read_image`], and those of `take`.
    pub async fn read_images(
        &self,
        images: &[BeforeImage],
        mut take: impl FnMut(&BeforeImage, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut plain = vec![0; to_usize(u64::from(self.pair.chunk_size.bytes()))];
        let mut at = 0;
        while let Some(image) = images.get(at) {
            let length = self.pair.chunk_bytes(image.chunk);
            match image.before {
                Before::Zero => {
                    plain[..length].fill(0);
                    take(image, &plain[..length])?;
                    at += 1;
                }
                Before::Stored(first) => {
                    let run = neighbours(first, &images[at..]);
                    let (start, read) = self.read_packed(first, run.bytes).await?;
                    for image in &images[at..at + run.images] {
                        let Before::Stored(place) = image.before else { continue };
                        let from = to_usize(u64::from(place.position) - start);
                        let packed = read.bytes().get(from..from + to_usize(u64::from(place.length)));
                        let plain = &mut plain[..self.pair.chunk_bytes(image.chunk)];
                        self.unpack_image(image, place, packed.unwrap_or_default(), plain)?;
                        take(image, plain)?;
                    }
                    at += run.images;
                }
                Before::Told | Before::Unkept => {
                    return Err(Error::OutOfTurn {
                        what: "reading a before-image that was not kept",
                        state: self.pair.state,
                    });
                }
            }
        }
        Ok(())
    }

    async fn read_packed(&self, first: Place, bytes: u64) -> Result<(u64, Lease<'_>), Error> {
        let block = to_u64(BLOCK);
        let start = u64::from(first.position) / block * block;
        let end = (u64::from(first.position) + bytes).next_multiple_of(block);
        let length = to_usize(end - start).min(LEASE_BYTES);
        let lease = self.files.read(&segment_name(first.segment), start, length).await?;
        Ok((start, lease))
    }

    fn unpack_image(
        &self,
        image: &BeforeImage,
        place: Place,
        packed: &[u8],
        plain: &mut [u8],
    ) -> Result<(), Error> {
        let whole = unpack(place.codec(), packed, plain).is_ok();
        if whole && self.pair.digester().digest(plain) == image.digest {
            return Ok(());
        }
        let (file, offset) = (segment_name(place.segment), u64::from(place.position));
        Err(Error::DamagedImage { chunk: image.chunk, file, offset })
    }

    /// Turns `bytes`, which were just read from the target at `extent` (whole
    /// chunks), into what the target held there at point `at`.
    ///
    /// # Errors
    /// As [`Self::before_images`] and [`Self::read_image`].
    pub async fn overlay(&self, at: Epoch, extent: Extent, bytes: &mut [u8]) -> Result<(), Error> {
        let size = self.pair.chunk_size;
        if !size.fits(extent, self.pair.size_bytes) || to_u64(bytes.len()) < extent.length() {
            return Err(Error::Unfit { what: "a lookup", reason: format!("{extent} is not whole chunks") });
        }
        let (mut chunk, end) = (size.index(extent.offset()), size.count(extent.end()));
        while chunk < end {
            let stop = (chunk + limits::LOOKUP_CHUNKS_MAX).min(end);
            let found = self.before_images(chunk..stop, at).await?;
            let found = found.into_iter().flatten().collect::<Vec<_>>();
            self.read_images(&found, |image, plain| {
                let place = size.extent(image.chunk, self.pair.size_bytes);
                let from = to_usize(place.offset() - extent.offset());
                bytes[from..from + plain.len()].copy_from_slice(plain);
                Ok(())
            })
            .await?;
            chunk = stop;
        }
        Ok(())
    }

    /// The chunks that were touched after the point `since`, those of the open
    /// epoch included: a bitmap, so at most a bit for each chunk of the disk.
    ///
    /// # Errors
    /// [`Error::NoSuchPoint`], and those of reading.
    pub async fn chunks_since(&self, since: Epoch) -> Result<RoaringBitmap, Error> {
        let mut chunks = self.open.touched.clone();
        for table in self.shelf.after(since)? {
            let mut cursor = Cursor::new(table);
            while let Some(entry) = cursor.next(&self.files).await? {
                chunks.insert(entry.chunk);
            }
        }
        Ok(chunks)
    }

    /// Digests of what the target holds now, where they are known: not where a
    /// crash left open what was written.
    ///
    /// # Errors
    /// [`Error::Unfit`] as [`Self::before_images`], and those of reading.
    pub async fn digests(&self, chunks: Range<u64>) -> Result<Vec<Option<Digest>>, Error> {
        let (first, last) = self.lookup_range(&chunks)?;
        let Some(last) = last else { return Ok(Vec::new()) };
        let count = chunks.end - chunks.start;
        let mut found = self.digests.read(&self.files, chunks.start, count).await?;
        for entry in self.open.range(&self.files, first, last).await? {
            if let Some(slot) = found.get_mut(to_usize(u64::from(entry.chunk) - chunks.start)) {
                *slot = entry.new;
            }
        }
        Ok(found)
    }
}

/// Images that one read gets.
struct Neighbours {
    images: usize,
    bytes: u64,
}

/// How many of `images` lie right behind `first` in its segment.
fn neighbours(first: Place, images: &[BeforeImage]) -> Neighbours {
    let mut end = u64::from(first.position);
    let mut count = 0;
    for image in images {
        let Before::Stored(place) = image.before else { break };
        let next = u64::from(place.position) + u64::from(place.length);
        let bytes = next.saturating_sub(u64::from(first.position));
        let follows = place.segment == first.segment && u64::from(place.position) == end;
        if !follows || (count > 0 && bytes > to_u64(RUN_BYTES)) {
            break;
        }
        (end, count) = (next, count + 1);
    }
    Neighbours { images: count, bytes: end - u64::from(first.position) }
}

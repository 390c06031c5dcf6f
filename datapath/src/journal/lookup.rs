//! What a chunk held at a point, and what it holds now.

use std::ops::Range;

use roaring::RoaringBitmap;

use super::entry::{Before, Entry, Place};
use super::files::RUN_BYTES;
use super::log::segment_name;
use super::merge::Cursor;
use super::{BeforeImage, Error, Journal, PackedImages, Volume};
use crate::limits;
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

    /// The reads that get those of `images` that are stored, in the order of their
    /// places: those that lie side by side at once.
    ///
    /// # Errors
    /// [`Error::OutOfTurn`] where one was not kept, and those of opening files.
    pub fn packed_images(&self, images: &[BeforeImage]) -> Result<Vec<PackedImages<V::File>>, Error> {
        let mut stored = Vec::with_capacity(images.len());
        for image in images {
            match image.before {
                Before::Stored(place) => stored.push((place, *image)),
                Before::Zero => {}
                Before::Told | Before::Unkept => {
                    let what = "reading a before-image that was not kept";
                    return Err(Error::OutOfTurn { what, state: self.pair.state });
                }
            }
        }
        stored.sort_unstable_by_key(|(place, _)| (place.segment, place.position));
        let mut reads = Vec::new();
        let mut left = stored.as_slice();
        while let Some((first, _)) = left.first() {
            let (together, rest) = left.split_at(neighbours(left));
            let file = self.files.open(&segment_name(first.segment))?;
            reads.push(PackedImages::new(file, together, &self.pair));
            left = rest;
        }
        Ok(reads)
    }

    /// Reads before-images and hands each chunk's verified bytes to `take`: stored
    /// ones in the order of their places.
    ///
    /// # Errors
    /// As [`Self::packed_images`], [`Error::DamagedImage`], and those of reading and of `take`.
    pub async fn read_images(
        &self,
        images: &[BeforeImage],
        mut take: impl FnMut(&BeforeImage, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut plain = vec![0; to_usize(u64::from(self.pair.chunk_size.bytes()))];
        for image in images.iter().filter(|image| image.before == Before::Zero) {
            take(image, &plain[..self.pair.chunk_bytes(image.chunk)])?;
        }
        for read in self.packed_images(images)? {
            let mut lease = self.files.lease()?;
            lease.lend(async |buffer| read.read(buffer).await).await?;
            for image in read.images() {
                let plain = &mut plain[..self.pair.chunk_bytes(image.chunk)];
                read.unpack(image, lease.bytes(), plain)?;
                take(image, plain)?;
            }
        }
        Ok(())
    }

    /// Turns `bytes`, which were just read from the target at `extent` (whole
    /// chunks), into what the target held there at point `at`.
    ///
    /// # Errors
    /// As [`Self::before_images`] and [`Self::read_images`].
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

/// How many of the first images lie side by side in one segment, and fit into a read.
fn neighbours(images: &[(Place, BeforeImage)]) -> usize {
    let Some((first, _)) = images.first() else { return 0 };
    let mut end = u64::from(first.position);
    let follows = |(place, _): &&(Place, BeforeImage)| {
        let next = u64::from(place.position) + u64::from(place.length);
        let fits = next.saturating_sub(u64::from(first.position)) <= to_u64(RUN_BYTES);
        let beside = place.segment == first.segment && u64::from(place.position) == end;
        end = next;
        beside && fits
    };
    images.iter().take_while(follows).count().max(1)
}

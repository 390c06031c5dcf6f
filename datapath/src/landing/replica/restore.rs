//! Putting back what chunks held at a point.

use roaring::RoaringBitmap;

use super::ahead::Ahead;
use super::keep::chunks_of_a_stroke;
use super::land::narrow;
use super::recall::Recall;
use super::{Error, Replica};
use crate::delta::Manifest;
use crate::disk::Blocks;
use crate::journal::{BeforeImage, Volume};
use crate::limits;
use crate::unit::{DeltaNumber, Digest, Epoch, to_u64};

/// Whether what a restoration overwrites is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeping {
    /// In the open epoch, as a delta's would be: one may go back again.
    Journaled,
    /// Nobody wants it: the open epoch is undone, and all it wrote is known.
    Dropped,
}

impl<B: Blocks + 'static, V: Volume> Replica<B, V> {
    /// Makes `chunks`, all that changed after the point `to`, hold what they held
    /// then. Gives the manifest of that content.
    ///
    /// Repeated after a crash it writes what is missing: a chunk that is known to
    /// hold the right bytes is left alone.
    pub(super) async fn restore(
        &mut self,
        chunks: &RoaringBitmap,
        to: Epoch,
        keeping: Keeping,
    ) -> Result<Manifest, Error> {
        let mut manifest = Manifest::EMPTY;
        let mut ahead = Ahead::default();
        let mut delta = self.course.landed;
        let most = chunks_of_a_stroke(self.journal.pair());
        let mut left = chunks.iter().map(u64::from).peekable();
        let mut looked_at = 0;
        while left.peek().is_some() {
            let some: Vec<u64> = left.by_ref().take(most).collect();
            self.tell_restored(looked_at, chunks.len());
            looked_at += to_u64(some.len());
            let images = self.images(&some, to).await?;
            manifest = images.iter().fold(manifest, with_image);
            let differing = self.differing(&images).await?;
            if differing.is_empty() {
                continue;
            }
            delta = delta.next();
            self.prepare_images(differing, delta, keeping, &mut ahead)?;
            if ahead.is_full() {
                self.put_back(&mut ahead, keeping).await?;
            }
        }
        while self.put_back(&mut ahead, keeping).await? {}
        self.tell_restored(looked_at, chunks.len());
        Ok(manifest)
    }

    fn tell_restored(&self, chunks: u64, of: u64) {
        let bytes = |chunks: u64| chunks.saturating_mul(u64::from(self.journal.pair().chunk_size.bytes()));
        if let Some(hear) = &self.restored {
            hear(bytes(chunks), bytes(of));
        }
    }

    async fn images(&self, chunks: &[u64], to: Epoch) -> Result<Vec<BeforeImage>, Error> {
        let mut images = Vec::with_capacity(chunks.len());
        for range in ranges(chunks) {
            let found = self.journal.before_images(range.clone(), to).await?;
            for (chunk, image) in range.zip(found) {
                images.push(image.ok_or(Error::NoImage { chunk, point: to })?);
            }
        }
        Ok(images)
    }

    /// Begins to read what these chunks held, and what they hold.
    fn prepare_images(
        &mut self,
        images: Vec<BeforeImage>,
        delta: DeltaNumber,
        keeping: Keeping,
        ahead: &mut Ahead,
    ) -> Result<(), Error> {
        let numbers = images.iter().map(|image| narrow(image.chunk)).collect();
        let keep = match keeping {
            Keeping::Journaled => {
                let chunks = images.iter().map(|image| (image.chunk, image.digest)).collect();
                Some(self.keep(delta, chunks, ahead)?)
            }
            Keeping::Dropped => None,
        };
        let reads = self.journal.packed_images(&images)?;
        let (windows, pair) = (self.recalls.clone(), self.journal.pair());
        let (chunk, disk_bytes) = (pair.chunk_size, pair.size_bytes);
        ahead.push(numbers, Recall { delta, images, reads, windows, chunk, disk_bytes }.run(), keep);
        Ok(())
    }

    /// Lets the oldest prepared stroke fall; false where there is none.
    async fn put_back(&mut self, ahead: &mut Ahead, keeping: Keeping) -> Result<bool, Error> {
        let Some(delta) = self.strike(ahead).await? else { return Ok(false) };
        if keeping == Keeping::Journaled {
            self.course.landed = delta;
            if delta.0.is_multiple_of(to_u64(limits::STROKES_PER_CHECKPOINT)) {
                self.make_durable().await?;
            }
        }
        Ok(true)
    }

    async fn differing(&self, images: &[BeforeImage]) -> Result<Vec<BeforeImage>, Error> {
        let chunks: Vec<u64> = images.iter().map(|image| image.chunk).collect();
        let mut held: Vec<Option<Digest>> = Vec::with_capacity(images.len());
        for range in ranges(&chunks) {
            held.extend(self.journal.digests(range).await?);
        }
        let differs = |(image, held): &(&BeforeImage, Option<Digest>)| *held != Some(image.digest);
        Ok(images.iter().zip(held).filter(differs).map(|(image, _)| *image).collect())
    }
}

/// Neighbours among ascending `chunks`, in lookups of bounded length.
fn ranges(chunks: &[u64]) -> Vec<std::ops::Range<u64>> {
    let mut ranges: Vec<std::ops::Range<u64>> = Vec::new();
    for chunk in chunks {
        match ranges.last_mut() {
            Some(last) if last.end == *chunk && last.end - last.start < limits::LOOKUP_CHUNKS_MAX => {
                last.end += 1;
            }
            _ => ranges.push(*chunk..*chunk + 1),
        }
    }
    ranges
}

/// The manifest of a restoration: BLAKE3 over the manifest before, the chunk's
/// number (u64, little-endian) and the digest of what it holds again.
fn with_image(manifest: Manifest, image: &BeforeImage) -> Manifest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&manifest.0);
    hasher.update(&image.chunk.to_le_bytes());
    hasher.update(&image.digest.0);
    Manifest(*hasher.finalize().as_bytes())
}

const _: () = assert!(to_u64(limits::STROKES_PER_CHECKPOINT) > 0);

//! Writes onto the target: several in flight, never two on the same bytes.

use std::io;
use std::rc::Rc;

use super::Error;
use super::in_flight::InFlight;
use super::windows::Windows;
use crate::disk::Blocks;
use crate::limits;
use crate::pipeline::PooledBuffer;
use crate::unit::Extent;

/// The writes of one stroke that are in flight, oldest first.
///
/// Two writes on the same bytes could end in either order; so one that meets
/// another in flight waits for it.
pub(super) struct Overwrites<B> {
    disk: Rc<B>,
    pool: Windows,
    in_flight: InFlight<Extent>,
}

impl<B: Blocks + 'static> Overwrites<B> {
    pub fn new(disk: Rc<B>, pool: Windows) -> Self {
        Self { disk, pool, in_flight: InFlight::default() }
    }

    /// Writes what `fill` puts into a buffer over `extent`, at most a window.
    /// Returns once the write is in flight.
    ///
    /// # Errors
    /// Those of earlier writes.
    pub async fn write(&mut self, extent: Extent, fill: impl FnOnce(&mut [u8])) -> Result<(), Error> {
        self.admit(extent, Windows::COUNT).await?;
        let mut buffer = self.buffer(extent.length()).await?;
        fill(buffer.bytes_mut());
        let disk = Rc::clone(&self.disk);
        let write = async move {
            let written = buffer.lend(async |memory| disk.write(extent, memory, 0).await).await;
            written.ok_or_else(|| Error::Memory { source: io::ErrorKind::OutOfMemory.into() })??;
            Ok(())
        };
        self.in_flight.push(extent, write);
        Ok(())
    }

    /// Zeroes `extent`, keeping its space. Returns once that is in flight.
    ///
    /// # Errors
    /// Those of earlier writes.
    pub async fn zero(&mut self, extent: Extent) -> Result<(), Error> {
        self.admit(extent, limits::QUEUE_DEPTH).await?;
        let disk = Rc::clone(&self.disk);
        self.in_flight.push(extent, async move { Ok(disk.zero_in_place(extent).await?) });
        Ok(())
    }

    /// Waits for everything in flight.
    ///
    /// # Errors
    /// The first error of a write, after all of them have ended.
    pub async fn settle(&mut self) -> Result<(), Error> {
        self.in_flight.settle().await
    }

    /// Waits until fewer than `most` are in flight, and none on `extent`.
    async fn admit(&mut self, extent: Extent, most: usize) -> Result<(), Error> {
        self.in_flight.admit(most, |other| other.intersection(extent).is_some()).await
    }

    /// A buffer: the pool has one for each write that may be in flight.
    async fn buffer(&mut self, bytes: u64) -> Result<PooledBuffer, Error> {
        loop {
            match self.pool.try_take(bytes) {
                Some(buffer) => return Ok(buffer),
                None if self.in_flight.is_empty() => return Ok(self.pool.take(bytes).await),
                None => self.in_flight.end_oldest().await?,
            }
        }
    }
}

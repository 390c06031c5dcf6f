//! Writes onto the target: several in flight, never two on the same bytes.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use super::Error;
use crate::disk::Blocks;
use crate::limits;
use crate::pipeline::{Pool, PooledBuffer};
use crate::ring::{self, Task};
use crate::unit::Extent;

/// The writes of one stroke that are in flight, oldest first.
///
/// Two writes on the same bytes could end in either order; so one that meets
/// another in flight waits for it.
pub(super) struct Overwrites<B> {
    disk: Rc<B>,
    pool: Pool,
    in_flight: VecDeque<(Extent, Task<Result<(), Error>>)>,
}

impl<B: Blocks + 'static> Overwrites<B> {
    pub fn new(disk: Rc<B>, pool: Pool) -> Self {
        Self { disk, pool, in_flight: VecDeque::with_capacity(limits::QUEUE_DEPTH) }
    }

    /// Writes what `fill` puts into a buffer over `extent`, at most a window.
    /// Returns once the write is in flight.
    ///
    /// # Errors
    /// Those of earlier writes.
    pub async fn write(&mut self, extent: Extent, fill: impl FnOnce(&mut [u8])) -> Result<(), Error> {
        self.admit(extent).await?;
        let mut buffer = self.buffer().await?;
        fill(buffer.bytes_mut());
        let disk = Rc::clone(&self.disk);
        let task = ring::spawn(async move {
            let written = buffer.lend(async |memory| disk.write(extent, memory, 0).await).await;
            written.ok_or_else(|| Error::Memory { source: io::ErrorKind::OutOfMemory.into() })??;
            Ok(())
        });
        self.in_flight.push_back((extent, task));
        Ok(())
    }

    /// Zeroes `extent`, keeping its space. Returns once that is in flight.
    ///
    /// # Errors
    /// Those of earlier writes.
    pub async fn zero(&mut self, extent: Extent) -> Result<(), Error> {
        self.admit(extent).await?;
        let disk = Rc::clone(&self.disk);
        let task = ring::spawn(async move { Ok(disk.zero_in_place(extent).await?) });
        self.in_flight.push_back((extent, task));
        Ok(())
    }

    /// Waits for everything in flight.
    ///
    /// # Errors
    /// The first error of a write, after all of them have ended.
    pub async fn settle(&mut self) -> Result<(), Error> {
        let mut result = Ok(());
        while !self.in_flight.is_empty() {
            result = result.and(self.end_oldest().await);
        }
        result
    }

    /// Waits until there is room for another write, and nothing in flight on `extent`.
    async fn admit(&mut self, extent: Extent) -> Result<(), Error> {
        let meets = |(other, _): &(Extent, _)| other.intersection(extent).is_some();
        while self.in_flight.len() >= limits::QUEUE_DEPTH
            || self.in_flight.iter().any(meets)
            || self.in_flight.front().is_some_and(|(_, task)| task.is_finished())
        {
            self.end_oldest().await?;
        }
        Ok(())
    }

    /// A buffer: the pool has one for each write that may be in flight.
    async fn buffer(&mut self) -> Result<PooledBuffer, Error> {
        loop {
            match self.pool.try_take() {
                Some(buffer) => return Ok(buffer),
                None if self.in_flight.is_empty() => return Ok(self.pool.take().await),
                None => self.end_oldest().await?,
            }
        }
    }

    async fn end_oldest(&mut self) -> Result<(), Error> {
        let Some((_, task)) = self.in_flight.front_mut() else { return Ok(()) };
        let ended = task.join().await;
        self.in_flight.pop_front();
        ended.map_err(|source| Error::Memory { source })?
    }
}

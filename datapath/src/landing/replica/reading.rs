//! Reading extents of the target in order, several of them at once.

use std::collections::VecDeque;
use std::io;
use std::iter::Peekable;
use std::rc::Rc;

use super::Error;
use super::windows::Windows;
use crate::disk::{self, Blocks};
use crate::pipeline::PooledBuffer;
use crate::ring::{self, Task};
use crate::unit::Extent;

/// A read in flight: `None` where its buffer was lost with the ring.
type Read = Task<(Option<Result<(), disk::Error>>, PooledBuffer)>;

/// Reads the extents of a plan, each at most a window, in their order.
pub(super) struct Reading<B, Plan: Iterator> {
    disk: Rc<B>,
    plan: Peekable<Plan>,
    pool: Windows,
    ahead: VecDeque<(Extent, Read)>,
}

impl<B: Blocks + 'static, Plan: Iterator<Item = Extent>> Reading<B, Plan> {
    pub fn new(disk: Rc<B>, pool: Windows, plan: Plan) -> Self {
        Self { disk, plan: plan.peekable(), pool, ahead: VecDeque::with_capacity(Windows::COUNT) }
    }

    /// The next extent with its bytes at the start of a buffer; `None` at the
    /// end of the plan.
    pub async fn next(&mut self) -> Result<Option<(Extent, PooledBuffer)>, Error> {
        while let Some(extent) = self.plan.peek().copied() {
            // The first must wait for a buffer, the others only take what is left.
            let buffer = match self.pool.try_take(extent.length()) {
                Some(buffer) => buffer,
                None if self.ahead.is_empty() => self.pool.take(extent.length()).await,
                None => break,
            };
            self.plan.next();
            self.submit(extent, buffer);
        }
        let Some((extent, task)) = self.ahead.front_mut() else { return Ok(None) };
        let (extent, ended) = (*extent, task.join().await);
        self.ahead.pop_front();
        let (result, buffer) = ended.map_err(|source| Error::Memory { source })?;
        result.ok_or_else(|| Error::Memory { source: io::ErrorKind::OutOfMemory.into() })??;
        Ok(Some((extent, buffer)))
    }

    fn submit(&mut self, extent: Extent, mut buffer: PooledBuffer) {
        let disk = Rc::clone(&self.disk);
        let task = ring::spawn(async move {
            let result = buffer.lend(async |memory| disk.read(extent, memory).await).await;
            (result, buffer)
        });
        self.ahead.push_back((extent, task));
    }
}

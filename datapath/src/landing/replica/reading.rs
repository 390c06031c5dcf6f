//! Reading extents of the target in order, several of them at once.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use super::Error;
use crate::disk::{self, Blocks};
use crate::limits;
use crate::pipeline::{Pool, PooledBuffer};
use crate::ring::{self, Task};
use crate::unit::Extent;

/// A read in flight: `None` where its buffer was lost with the ring.
type Read = Task<(Option<Result<(), disk::Error>>, PooledBuffer)>;

/// Reads the extents of a plan, each at most a window, in their order.
pub(super) struct Reading<B, Plan> {
    disk: Rc<B>,
    plan: Plan,
    pool: Pool,
    ahead: VecDeque<(Extent, Read)>,
}

impl<B: Blocks + 'static, Plan: Iterator<Item = Extent>> Reading<B, Plan> {
    pub fn new(disk: Rc<B>, pool: Pool, plan: Plan) -> Self {
        Self { disk, plan, pool, ahead: VecDeque::with_capacity(limits::QUEUE_DEPTH) }
    }

    /// The next extent with its bytes at the start of a buffer; `None` at the
    /// end of the plan.
    pub async fn next(&mut self) -> Result<Option<(Extent, PooledBuffer)>, Error> {
        while self.ahead.len() < limits::QUEUE_DEPTH {
            // The first must wait for a buffer, the others only take what is left.
            let buffer = match self.pool.try_take() {
                Some(buffer) => buffer,
                None if self.ahead.is_empty() => self.pool.take().await,
                None => break,
            };
            let Some(extent) = self.plan.next() else { break };
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

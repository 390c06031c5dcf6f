//! Reading windows in order with several reads in flight.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::{Pool, PooledBuffer};
use crate::disk::{Error, HoleCursor, RingDisk};
use crate::ring::{self, Task};
use crate::unit::{Extent, to_usize};

/// A window of a disk: a hole, or its bytes as read.
pub struct Window {
    /// Where it lies.
    pub extent: Extent,
    /// Its bytes; `None` for a hole, which was not read.
    pub bytes: Option<PooledBuffer>,
    /// How long the read took; zero for a hole.
    pub elapsed: Duration,
}

impl Window {
    /// The bytes of the window, without what is left of the buffer; `None` for a hole.
    #[must_use]
    pub fn data(&self) -> Option<&[u8]> {
        self.bytes.as_ref().map(|buffer| &buffer.bytes()[..to_usize(self.extent.length())])
    }
}

enum Ahead {
    Hole(Extent),
    Reading(Extent, Task<(Result<(), Error>, PooledBuffer, Duration)>),
}

/// Reads the windows of a plan in their order, `depth` of them ahead.
pub struct ReadAhead<Plan> {
    disk: RingDisk,
    plan: Plan,
    pool: Pool,
    depth: usize,
    holes: HoleCursor,
    ahead: VecDeque<Ahead>,
    /// A window that is planned but found no buffer yet.
    waiting: Option<Extent>,
    reading: usize,
}

/// Holes are free, but a queue of them must end somewhere.
const HOLES_AHEAD: usize = 64;

impl<Plan: Iterator<Item = Extent>> ReadAhead<Plan> {
    /// Reads `plan` from `disk` into buffers of `pool`.
    pub fn new(disk: RingDisk, plan: Plan, pool: Pool, depth: usize) -> Self {
        let depth = depth.max(1);
        Self {
            disk,
            plan,
            pool,
            depth,
            holes: HoleCursor::default(),
            ahead: VecDeque::with_capacity(depth + HOLES_AHEAD),
            waiting: None,
            reading: 0,
        }
    }

    /// The next window; `None` at the end of the plan.
    ///
    /// # Errors
    /// Those of the read, naming its extent.
    pub async fn next(&mut self) -> Result<Option<Window>, Error> {
        self.start()?;
        if self.ahead.is_empty()
            && let Some(extent) = self.waiting.take()
        {
            let buffer = self.pool.take().await;
            self.submit(extent, buffer);
        }
        match self.ahead.pop_front() {
            None => Ok(None),
            Some(Ahead::Hole(extent)) => Ok(Some(Window { extent, bytes: None, elapsed: Duration::ZERO })),
            Some(Ahead::Reading(extent, mut task)) => {
                self.reading -= 1;
                let (result, buffer, elapsed) =
                    task.join().await.map_err(|source| self.lost(extent, source))?;
                result?;
                self.start()?;
                Ok(Some(Window { extent, bytes: Some(buffer), elapsed }))
            }
        }
    }

    /// Starts reads until the depth is reached or buffers run out.
    ///
    /// # Errors
    /// Those of the search for holes.
    pub fn start(&mut self) -> Result<(), Error> {
        while self.reading < self.depth && self.ahead.len() < self.depth + HOLES_AHEAD {
            let Some(extent) = self.waiting.take().or_else(|| self.plan.next()) else { break };
            if self.holes.is_hole(&self.disk, extent)? {
                self.ahead.push_back(Ahead::Hole(extent));
                continue;
            }
            let Some(buffer) = self.pool.try_take() else {
                self.waiting = Some(extent);
                break;
            };
            self.submit(extent, buffer);
        }
        Ok(())
    }

    fn submit(&mut self, extent: Extent, mut buffer: PooledBuffer) {
        let disk = self.disk.clone();
        self.reading += 1;
        let task = ring::spawn(async move {
            let start = Instant::now();
            let result = buffer.lend(async |memory| disk.read(extent, memory).await).await;
            let result =
                result.unwrap_or_else(|| Err(lost(&disk, extent, io::ErrorKind::OutOfMemory.into())));
            (result, buffer, start.elapsed())
        });
        self.ahead.push_back(Ahead::Reading(extent, task));
    }

    fn lost(&self, extent: Extent, source: io::Error) -> Error {
        lost(&self.disk, extent, source)
    }
}

fn lost(disk: &RingDisk, extent: Extent, source: io::Error) -> Error {
    Error::Lost { path: disk.disk().path().to_owned(), operation: "read", extent, source }
}

//! One lane's writes: several in flight, each with its buffer and its ticket.
//!
//! Zeroes that follow each other become one operation: on a file, each hole that
//! is punched waits for all direct I/O in flight and lets none begin meanwhile.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use super::{Error, Ticket};
use crate::disk::RingDisk;
use crate::limits;
use crate::pipeline::PooledBuffer;
use crate::ring::{self, Task};
use crate::telemetry::{Counter, Meter, Stage};
use crate::unit::{Extent, to_usize};

/// Writes extents to a target, `limits::QUEUE_DEPTH` at a time.
pub struct Writer {
    disk: RingDisk,
    meter: Meter,
    in_flight: VecDeque<Task<Result<(), Error>>>,
    /// Zeroes of one segment that may still grow.
    zeroes: Option<(Extent, Unlanded)>,
}

impl Writer {
    /// A writer onto `disk`.
    #[must_use]
    pub const fn new(disk: RingDisk, meter: Meter) -> Self {
        Self { disk, meter, in_flight: VecDeque::new(), zeroes: None }
    }

    /// Writes `extents` of the range that begins at `base` and lies at the
    /// start of `buffer`. Returns once the writes are in flight.
    ///
    /// # Errors
    /// Those of earlier writes.
    pub async fn write(
        &mut self,
        base: u64,
        extents: Vec<Extent>,
        mut buffer: PooledBuffer,
        ticket: Ticket,
    ) -> Result<(), Error> {
        self.submit_zeroes().await?;
        let (disk, meter) = (self.disk.clone(), self.meter.clone());
        self.submit(Unlanded(Some(ticket)), async move {
            for extent in extents {
                let start = Instant::now();
                let from = to_usize(extent.offset() - base);
                let written = buffer.lend(async |memory| disk.write(extent, memory, from).await).await;
                written.unwrap_or_else(|| Err(lost_buffer(&disk, extent)))?;
                meter.time(Stage::Write, start);
                meter.count(Counter::BytesWritten, extent.length());
            }
            Ok(())
        })
        .await
    }

    /// Zeroes `extent`, together with zeroes before and after it: no later than
    /// the next write or [`Self::submit_zeroes`].
    ///
    /// # Errors
    /// Those of earlier writes.
    pub async fn zero(&mut self, extent: Extent, ticket: Ticket) -> Result<(), Error> {
        if let Some((zeroes, unlanded)) = &mut self.zeroes
            && zeroes.end() == extent.offset()
            && unlanded.is_of(&ticket)
        {
            *zeroes = Extent::between(zeroes.offset(), extent.end());
            return Ok(());
        }
        self.submit_zeroes().await?;
        self.zeroes = Some((extent, Unlanded(Some(ticket))));
        Ok(())
    }

    /// Zeroes what was gathered: due at the end of each segment, whose ticket
    /// the zeroes hold. Returns once that is in flight.
    ///
    /// # Errors
    /// Those of earlier writes.
    pub async fn submit_zeroes(&mut self) -> Result<(), Error> {
        let Some((extent, unlanded)) = self.zeroes.take() else { return Ok(()) };
        let (disk, meter) = (self.disk.clone(), self.meter.clone());
        self.submit(unlanded, async move {
            let start = Instant::now();
            disk.zero(extent).await?;
            meter.time(Stage::Zero, start);
            meter.count(Counter::BytesZeroed, extent.length());
            Ok(())
        })
        .await
    }

    /// Submits what was gathered and waits for everything in flight.
    ///
    /// # Errors
    /// The first error of a write, after all of them have ended.
    pub async fn drain(&mut self) -> Result<(), Error> {
        let mut result = self.submit_zeroes().await;
        while let Some(task) = self.in_flight.front_mut() {
            // Taken out only when it has ended: whoever drops this future while
            // it waits can still drain.
            let ended = join(task).await;
            self.in_flight.pop_front();
            result = result.and(ended);
        }
        result
    }

    async fn submit<W>(&mut self, unlanded: Unlanded, work: W) -> Result<(), Error>
    where
        W: Future<Output = Result<(), Error>> + 'static,
    {
        while self.in_flight.len() >= limits::QUEUE_DEPTH
            || self.in_flight.front().is_some_and(Task::is_finished)
        {
            let Some(task) = self.in_flight.front_mut() else { break };
            let ended = join(task).await;
            self.in_flight.pop_front();
            ended?;
        }
        self.in_flight.push_back(ring::spawn(async move {
            let result = work.await;
            if result.is_ok() {
                unlanded.land();
            }
            result
        }));
        Ok(())
    }
}

async fn join(task: &mut Task<Result<(), Error>>) -> Result<(), Error> {
    task.join().await.map_err(|source| Error::Lost { source })?
}

/// The ticket of a write that has not landed. Dropped before that, with its
/// future or its runtime, it spoils the segment.
struct Unlanded(Option<Ticket>);

impl Unlanded {
    fn land(mut self) {
        self.0 = None;
    }

    fn is_of(&self, ticket: &Ticket) -> bool {
        self.0.as_ref().is_some_and(|mine| mine.is_same(ticket))
    }
}

impl Drop for Unlanded {
    fn drop(&mut self) {
        if let Some(ticket) = &self.0 {
            ticket.spoil();
        }
    }
}

fn lost_buffer(disk: &RingDisk, extent: Extent) -> crate::disk::Error {
    crate::disk::Error::Lost {
        path: disk.disk().path().to_owned(),
        operation: "write",
        extent,
        source: io::ErrorKind::OutOfMemory.into(),
    }
}

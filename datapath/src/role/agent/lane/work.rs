//! What a lane does while it is connected: rounds of changes, answers, orders.

use std::sync::Arc;

use tokio::time::Instant;

use super::Lane;
use crate::delta::Shape;
use crate::disk::RingDisk;
use crate::role::agent::order::Report;
use crate::role::agent::outbox::Outbox;
use crate::role::agent::round::Source;
use crate::role::agent::session::Session;
use crate::role::agent::status::NewestPoint;
use crate::role::{Disk, DiskAction, DiskEvent, Error};
use crate::track::{ChunkSet, Doubt};
use crate::unit::{DeltaNumber, Epoch};
use crate::wire::{Point, Protecting};

/// What lasts as long as a connection.
pub(super) struct Work {
    pub(super) session: Session,
    pub(super) outbox: Outbox,
    pub(super) source: Source,
    round_due: Instant,
    /// Drained during a cut.
    pub(super) held: ChunkSet,
    /// Drained and not read yet.
    pub(super) pending: ChunkSet,
    /// Being read while the machine is frozen.
    pub(super) reading: ChunkSet,
    /// All of them, where changes are not known.
    pub(super) all: ChunkSet,
}

impl Lane {
    pub(super) fn work(&self, session: Session, protecting: &Protecting) -> Result<Work, Error> {
        let chunk = self.settings.protect.chunk;
        if protecting.chunk != chunk {
            let reason = format!("it keeps chunks of {}, this disk is tracked by {chunk}", protecting.chunk);
            return Err(Error::Unfit { peer: self.settings.remote.export().to_owned(), reason });
        }
        let shape = Shape { disk_bytes: self.disk.size_bytes(), chunk, algorithm: protecting.digest };
        let chunks = self.doubtful.universe();
        let none = ChunkSet::empty(chunks);
        let all = if self.changes.knows_changes() { ChunkSet::empty(0) } else { ChunkSet::full(chunks) };
        let disk = RingDisk::new(Arc::clone(&self.disk));
        let counters = Arc::clone(self.end.counters());
        Ok(Work {
            session,
            outbox: Outbox::new(shape, protecting, self.settings.compression),
            source: Source::new(disk, self.settings.load.clone(), chunk, counters)?,
            round_due: Instant::now(),
            held: none.clone(),
            reading: none.clone(),
            pending: none,
            all,
        })
    }

    /// One order, one answer, or one round.
    pub(super) async fn turn(&mut self, work: &mut Work) -> Result<(), Error> {
        let sends = match self.state {
            Disk::Protecting | Disk::Synchronizing(_) => true,
            // A pass would have the point wait for it.
            Disk::AwaitingPoint => self.changes.knows_changes(),
            _ => false,
        };
        tokio::select! {
            biased;
            Some(order) = self.end.orders.recv() => self.obey(order, work).await?,
            answered = work.session.wait() => answered?,
            () = tokio::time::sleep_until(work.round_due), if sends => {
                work.round_due = self.go_on(work).await?.into();
                if self.state.reason().is_some() && self.is_passed() {
                    self.happened(DiskEvent::AllOffered);
                }
            }
        }
        work.session.look()?;
        while let Some(point) = work.session.point() {
            self.heard_of(point);
        }
        if work.session.fenced {
            self.fenced();
        }
        Ok(())
    }

    /// A point was made; perhaps the one that is waited for.
    fn heard_of(&mut self, point: Point) {
        let Some((_, cut_unix_ms)) = self.awaiting.take_if(|(epoch, _)| *epoch == point.epoch) else {
            return;
        };
        if self.happened(DiskEvent::PointMade).contains(&DiskAction::Forget) {
            self.changes.confirmed(point.epoch.into());
        }
        self.measure();
        self.end.note(|status| {
            status.newest = Some(NewestPoint { epoch: point.epoch, cut_unix_ms: Some(cut_unix_ms) });
            if let Some(position) = &mut status.position {
                (position.epoch, position.landed) = (point.epoch.next(), DeltaNumber::default());
            }
        });
        self.end.tell(Report::Point { epoch: point.epoch, chain: point.chain });
    }

    /// Drains everything that is marked.
    pub(super) fn drain(&mut self, epoch: Epoch, into: &mut ChunkSet) -> Result<(), Error> {
        loop {
            let drained = self.changes.drain(epoch.into(), u64::MAX, into);
            if drained.map_err(|doubt| self.doubted(doubt))?.is_complete {
                return Ok(());
            }
        }
    }

    pub(super) fn doubted(&self, doubt: Doubt) -> Error {
        Error::Doubt { disk: self.settings.protect.disk.clone(), doubt }
    }

    /// Sends what is to be sent; gives when there may be more.
    async fn go_on(&mut self, work: &mut Work) -> Result<std::time::Instant, Error> {
        if !self.changes.knows_changes() {
            return self.pass_on(work).await;
        }
        let due = std::time::Instant::now() + self.settings.cycle;
        self.round(work).await.map(|()| due)
    }

    /// Drains, reads and sends.
    pub(super) async fn round(&mut self, work: &mut Work) -> Result<(), Error> {
        let mut chunks = ChunkSet::empty(self.doubtful.universe());
        self.drain(work.outbox.epoch(), &mut chunks)?;
        work.source.send(&chunks, &self.doubtful, None, &mut work.outbox, &mut work.session).await?;
        for chunk in chunks.iter() {
            self.doubtful.remove(chunk);
        }
        self.keep_marks();
        self.measure();
        Ok(())
    }

    /// The bytes that are left for a cut.
    pub(super) fn left_bytes(&self) -> u64 {
        self.changes.dirty_chunks().saturating_mul(u64::from(self.settings.protect.chunk.bytes()))
    }
}

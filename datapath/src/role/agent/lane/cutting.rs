//! A lane's part in a cut: what the coordinator orders, done and reported.

use std::time::{Duration, Instant};

use super::Lane;
use super::work::Work;
use crate::role::agent::order::{CutLabel, Order, Report};
use crate::role::{Disk, DiskAction, DiskEvent, Error};
use crate::unit::{Epoch, Extent, to_usize};

/// Why a freeze is too short for what is left.
const REMAINDER: &str = "more changed than could be read in the freeze";

impl Lane {
    pub(super) async fn obey(&mut self, order: Order, work: &mut Work) -> Result<(), Error> {
        let cutting = matches!(self.state, Disk::Cutting | Disk::CuttingForGood);
        match order {
            Order::Begin { last, budget } => self.begin(last, budget),
            Order::Round if cutting => {
                let bytes = self.send_round(work).await?;
                self.end.tell(Report::Left { bytes });
            }
            Order::Read { until } if cutting => {
                let report = self.read(until, work).await?;
                self.end.tell(report);
            }
            Order::Check if cutting => {
                work.pending.clear();
                if self.changes.knows_changes() {
                    self.drain(work.outbox.epoch(), &mut work.pending)?;
                    work.held.insert_all(&work.pending);
                }
                let changed = !work.pending.is_empty() || !self.is_exact();
                self.end.tell(if changed { Report::Changed } else { Report::Unchanged });
            }
            Order::Close(label) if cutting => self.close(&label, work).await?,
            Order::Void => self.void(work),
            Order::Fence => {
                if let Some(epoch) = self.final_epoch(work)
                    && self.happened(DiskEvent::FinalOnAll).contains(&DiskAction::SendFence)
                {
                    work.session.send_fence(epoch).await?;
                }
            }
            Order::Resynchronize => {
                self.happened(DiskEvent::ResyncOrdered);
                self.end.tell(Report::Resynchronizing);
                return Err(Error::Ordered);
            }
            Order::Round | Order::Read { .. } | Order::Check | Order::Close(_) => {
                self.end.tell(Report::Declined)
            }
        }
        Ok(())
    }

    fn begin(&mut self, last: bool, budget: Duration) {
        if self.state == Disk::Protecting
            && let Some(why) = self.unfit_for_cut(last, budget)
        {
            self.end.tell(Report::Unfit { why });
            return;
        }
        let event = if last { DiskEvent::FinalCutBegun } else { DiskEvent::CutBegun };
        if self.happened(event).contains(&DiskAction::HoldChanges) {
            self.end.tell(Report::Ready);
        }
    }

    /// Sends what changed; how many bytes are then left. A disk whose changes are
    /// not known sends nothing until it is frozen.
    async fn send_round(&mut self, work: &mut Work) -> Result<u64, Error> {
        if !self.changes.knows_changes() {
            return Ok(0);
        }
        self.round(work).await?;
        Ok(self.left_bytes())
    }

    /// The epoch before the open one: the final point.
    fn final_epoch(&self, work: &Work) -> Option<Epoch> {
        (self.state == Disk::FinalPoint).then(|| Epoch(work.outbox.epoch().0.saturating_sub(1)))
    }

    /// Reads what is left while the machine is frozen. One that is frozen for good
    /// has time, so that what does not fit into memory is sent at once.
    async fn read(&mut self, until: Instant, work: &mut Work) -> Result<Report, Error> {
        if !self.changes.knows_changes() {
            return self.pass_frozen(until, work).await;
        }
        if self.state == Disk::CuttingForGood && work.pending.is_empty() {
            self.hurry(work).await?;
        }
        self.read_remainder(until, work).await
    }

    /// A round for which a frozen machine waits.
    async fn hurry(&mut self, work: &mut Work) -> Result<(), Error> {
        work.source.hurries = true;
        let sent = self.round(work).await;
        work.source.hurries = false;
        sent
    }

    /// Drains and reads while the machine is frozen. Sends nothing, takes no
    /// memory that was not there before.
    async fn read_remainder(&mut self, until: Instant, work: &mut Work) -> Result<Report, Error> {
        std::mem::swap(&mut work.reading, &mut work.pending);
        work.pending.clear();
        self.drain(work.outbox.epoch(), &mut work.reading)?;
        work.held.insert_all(&work.reading);
        let fits = self.remainder.has_room(work.reading.len());
        let kept = fits
            && work.source.keep(&work.reading, until, &mut self.remainder, |_, _, _| true).await?.is_ok();
        Ok(if kept {
            Report::Read { bytes: self.remainder.bytes() }
        } else {
            Report::TooMuch { why: REMAINDER }
        })
    }

    async fn close(&mut self, label: &CutLabel, work: &mut Work) -> Result<(), Error> {
        self.happened(DiskEvent::CutHeld);
        let size_bytes = self.disk.size_bytes();
        for (chunk, bytes) in self.remainder.chunks() {
            let extent: Extent = self.settings.protect.chunk.extent(chunk, size_bytes);
            let bytes = &bytes[..to_usize(extent.length())];
            let digest = work.outbox.digest(bytes);
            if let Some(known) = &mut self.whole.known {
                known.learn(chunk, &[digest]);
            }
            work.outbox.push(&mut work.session, extent, Some((bytes, digest))).await?;
        }
        self.remainder.clear();
        work.held.clear();
        let epoch = work.outbox.cut(&mut work.session, label).await?;
        self.awaiting = Some((epoch, label.cut_unix_ms));
        Ok(())
    }

    /// What was drained for the cut is dirty again; the epoch goes on.
    fn void(&mut self, work: &mut Work) {
        let event = match self.state {
            Disk::CuttingForGood | Disk::AwaitingFinalPoint | Disk::FinalPoint => DiskEvent::ThawedEarly,
            _ => DiskEvent::CutVoid,
        };
        if self.happened(event).contains(&DiskAction::VoidCut) {
            let (chunk, size_bytes) = (self.settings.protect.chunk, self.disk.size_bytes());
            let extents: Vec<_> = work.held.iter().map(|index| chunk.extent(index, size_bytes)).collect();
            self.changes.give_back(&extents);
            work.held.clear();
            work.pending.clear();
            work.reading.clear();
            if !self.remainder.is_empty() {
                self.whole.is_void();
            }
            self.remainder.clear();
        }
        self.end.tell(Report::Voided);
    }
}

//! A lane's part in a cut: what the coordinator orders, done and reported.

use super::Lane;
use super::work::Work;
use crate::limits;
use crate::role::agent::order::{CutLabel, Order, Report};
use crate::role::{Disk, DiskAction, DiskEvent, Error};
use crate::track::ChunkSet;
use crate::unit::{Epoch, Extent, to_usize};

/// Why a freeze is too short for what is left.
const REMAINDER: &str = "more changed than could be read in the freeze";
/// The same for a disk whose changes are not known.
const WRITTEN: &str = "the disk is compared by digests, and was written while it was compared";

impl Lane {
    pub(super) async fn obey(&mut self, order: Order, work: &mut Work) -> Result<(), Error> {
        let cutting = matches!(self.state, Disk::Cutting | Disk::CuttingForGood);
        match order {
            Order::Begin { last } => self.begin(last),
            Order::Round if cutting => {
                self.round(work).await?;
                self.end.tell(Report::Left { bytes: self.left_bytes() });
            }
            Order::Read if cutting => {
                let report = self.read(work).await?;
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
            Order::Round | Order::Read | Order::Check | Order::Close(_) => self.end.tell(Report::Declined),
        }
        Ok(())
    }

    fn begin(&mut self, last: bool) {
        let event = if last { DiskEvent::FinalCutBegun } else { DiskEvent::CutBegun };
        if !self.happened(event).contains(&DiskAction::HoldChanges) {
            return;
        }
        if !self.is_exact() {
            self.mark_all();
        }
        self.end.tell(Report::Ready);
    }

    /// The epoch before the open one: the final point.
    fn final_epoch(&self, work: &Work) -> Option<Epoch> {
        (self.state == Disk::FinalPoint).then(|| Epoch(work.outbox.epoch().0.saturating_sub(1)))
    }

    /// Reads what is left while the machine is frozen. One that is frozen for good
    /// has time, so that what does not fit into memory is sent at once.
    async fn read(&mut self, work: &mut Work) -> Result<Report, Error> {
        if !self.changes.knows_changes() {
            return self.pass_again(work).await;
        }
        if self.state == Disk::CuttingForGood && work.pending.is_empty() {
            self.hurry(work).await?;
        }
        self.read_remainder(work).await
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
    async fn read_remainder(&mut self, work: &mut Work) -> Result<Report, Error> {
        let mut chunks = std::mem::replace(&mut work.pending, ChunkSet::empty(self.doubtful.universe()));
        self.drain(work.outbox.epoch(), &mut chunks)?;
        work.held.insert_all(&chunks);
        let fits = self.remainder.has_room(chunks.len());
        let kept = fits && work.source.keep(&chunks, &mut self.remainder).await?.is_ok();
        Ok(if kept {
            Report::Read { bytes: self.remainder.bytes() }
        } else {
            Report::TooMuch { why: REMAINDER }
        })
    }

    /// Nobody knows what changed, so all of a frozen disk is passed once more, and
    /// what differs is sent as it is found: in a final cut, which has the time,
    /// and where the last pass was so short that a freeze has it, too.
    async fn pass_again(&mut self, work: &mut Work) -> Result<Report, Error> {
        if self.is_exact() {
            return Ok(Report::Read { bytes: 0 });
        }
        let is_short = self.pass.as_ref().is_some_and(|pass| pass.took <= limits::CUT_READS_WITHIN / 2);
        if self.state != Disk::CuttingForGood && !is_short {
            return Ok(Report::TooMuch { why: WRITTEN });
        }
        self.mark_all();
        self.hurry(work).await.map(|()| Report::Read { bytes: 0 })
    }

    async fn close(&mut self, label: &CutLabel, work: &mut Work) -> Result<(), Error> {
        self.happened(DiskEvent::CutHeld);
        let size_bytes = self.disk.size_bytes();
        for (chunk, bytes) in self.remainder.chunks() {
            let extent: Extent = self.settings.protect.chunk.extent(chunk, size_bytes);
            let digest = work.outbox.digest(bytes);
            work.outbox
                .push(&mut work.session, extent, Some((&bytes[..to_usize(extent.length())], digest)))
                .await?;
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
            self.remainder.clear();
        }
        self.end.tell(Report::Voided);
    }
}

//! A protected disk on a thread and a ring of its own: the table says what
//! follows, this does it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::order::{CutLabel, LaneEnd, LaneHandle, Order, Report, ends};
use super::outbox::Outbox;
use super::remainder::Remainder;
use super::round::Source;
use super::session::{Session, Welcome};
use crate::delta::Shape;
use crate::disk::RingDisk;
use crate::error::{Remediable, Remedy};
use crate::limits;
use crate::pipeline::{Cancel, Compression, Throttle};
use crate::ring;
use crate::role::table::Table;
use crate::role::{Disk, DiskAction, DiskEvent, Error};
use crate::track::{ChangeSource, ChunkSet};
use crate::unit::{Epoch, Extent, to_usize};
use crate::wire::{Intent, Position, Protect, Protecting, Remote};

/// How a disk is protected.
#[derive(Clone)]
pub struct LaneSettings {
    /// The master target.
    pub remote: Remote,
    /// What it is told; position and intent are filled in each time.
    pub protect: Protect,
    /// How deltas are packed.
    pub compression: Compression,
    /// How fast the disk is read, shared by whoever shares it.
    pub throttle: Throttle,
    /// Rounds begin no more often than this.
    pub cycle: Duration,
    /// Memory for what is read while the machine is frozen.
    pub remainder_bytes: u64,
}

/// A protected disk.
pub struct Lane<C> {
    settings: LaneSettings,
    disk: Arc<crate::disk::Disk>,
    changes: C,
    end: LaneEnd,
    state: Disk,
    /// The epoch whose cut is sent and whose point is not yet heard of.
    awaiting: Option<Epoch>,
    /// Chunks that the target may hold already: offered, not sent.
    doubtful: ChunkSet,
    remainder: Remainder,
    observe: Box<dyn Fn(&Error) + Send>,
}

/// What lasts as long as a connection.
struct Work {
    session: Session,
    outbox: Outbox,
    source: Source,
    round_due: Instant,
    /// Drained during a cut.
    held: ChunkSet,
    /// Drained and not read yet.
    pending: ChunkSet,
}

impl<C: ChangeSource> Lane<C> {
    /// A lane for `disk`, whose state and position are those that the agent has
    /// kept; `observe` hears each error that a lane gets over.
    pub fn new(
        settings: LaneSettings,
        disk: Arc<crate::disk::Disk>,
        changes: C,
        state: Disk,
        observe: impl Fn(&Error) + Send + 'static,
    ) -> (Self, LaneHandle) {
        let (handle, end) = ends(&settings.protect.disk, state);
        let chunk = settings.protect.chunk;
        let lane = Self {
            remainder: Remainder::new(chunk, settings.remainder_bytes.min(limits::REMAINDER_BYTES_MAX)),
            doubtful: ChunkSet::empty(chunk.count(disk.size_bytes())),
            settings,
            disk,
            changes,
            end,
            state,
            awaiting: None,
            observe: Box::new(observe),
        };
        (lane, handle)
    }

    /// Protects the disk until it is fenced, or `cancel` is set.
    ///
    /// # Errors
    /// Only where there is no ring: everything else is got over, or waited out.
    pub fn run(mut self, cancel: &Cancel) -> Result<(), Error> {
        ring::run(async {
            self.take_up();
            let mut failures = 0;
            while !cancel.is_cancelled() && self.state != Disk::Fenced {
                let ended = tokio::select! {
                    ended = self.connect_and_protect(&mut failures) => ended,
                    () = cancel.cancelled() => return,
                };
                let Err(error) = ended else { continue };
                (self.observe)(&error);
                self.happened(event_of(&error));
                let pause = limits::RECONNECT_AFTER * 2_u32.saturating_pow(failures.min(10));
                failures = failures.saturating_add(1);
                tokio::select! {
                    () = self.decline_for(pause.min(limits::RECONNECT_AFTER_MAX)) => {}
                    () = cancel.cancelled() => return,
                }
            }
        })
        .map_err(Error::from)
    }

    /// What an earlier agent left in transit may have arrived.
    fn take_up(&mut self) {
        self.doubtful.insert_all(&self.changes.restart());
        if self.state.reason().is_some() {
            self.mark_all();
        }
    }

    /// Asks the table what follows, and does all of it that needs no connection.
    fn happened(&mut self, event: DiskEvent) -> &'static [DiskAction] {
        let step = self.state.on(event);
        self.state = step.next;
        for action in step.actions {
            match action {
                DiskAction::GiveBack => {
                    self.awaiting = None;
                    self.remainder.clear();
                    self.doubtful.insert_all(&self.changes.restart());
                }
                DiskAction::MarkAll => self.mark_all(),
                DiskAction::OfferAll => self.doubtful = ChunkSet::full(self.doubtful.universe()),
                DiskAction::TellLost => self.end.tell(Report::Lost),
                DiskAction::DeclineCut => self.end.tell(Report::Declined),
                _ => {}
            }
        }
        self.end.became(self.state);
        step.actions
    }

    /// A doubt that marking cannot make good is found again by the next drain.
    fn mark_all(&mut self) {
        drop(self.changes.mark_all());
    }

    async fn decline_for(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        while let Ok(order) = tokio::time::timeout_at(until, self.end.orders.recv()).await {
            match order {
                Some(Order::Resynchronize) if matches!(self.state, Disk::Refused | Disk::Relocated) => {
                    self.happened(DiskEvent::Released);
                    self.end.tell(Report::Resynchronizing);
                }
                Some(Order::Resynchronize) => {
                    self.happened(DiskEvent::ResyncOrdered);
                    self.end.tell(Report::Resynchronizing);
                }
                Some(Order::Void) => self.end.tell(Report::Voided),
                Some(_) => self.end.tell(Report::Declined),
                None => return tokio::time::sleep_until(until).await,
            }
        }
    }

    async fn connect_and_protect(&mut self, failures: &mut u32) -> Result<(), Error> {
        if matches!(self.state, Disk::Refused | Disk::Relocated) {
            self.decline_for(limits::RECONNECT_AFTER_MAX).await;
            return Ok(());
        }
        let intent = match self.state.reason() {
            Some(reason) => Intent::Synchronize { reason: format!("{reason:?}").to_lowercase() },
            None => Intent::Continue,
        };
        let protect = Protect { intent, ..self.settings.protect.clone() };
        let (session, protecting) = match Session::open(&self.settings.remote, &protect).await? {
            Welcome::Ready(ready) => *ready,
            Welcome::Fenced => {
                self.fenced();
                return Ok(());
            }
        };
        *failures = 0;
        let mut work = self.work(session, &protecting)?;
        let event = if protecting.synchronize { DiskEvent::WelcomedAnew } else { DiskEvent::Welcomed };
        let actions = self.happened(event);
        if actions.contains(&DiskAction::SendFence) {
            work.session.send_fence(protecting.newest.unwrap_or(protecting.position.epoch)).await?;
        }
        self.settings.protect.position = Some(protecting.position);
        while self.state != Disk::Fenced {
            self.turn(&mut work).await?;
        }
        work.session.close().await;
        Ok(())
    }

    fn work(&self, session: Session, protecting: &Protecting) -> Result<Work, Error> {
        let chunk = self.settings.protect.chunk;
        if protecting.chunk != chunk {
            let reason = format!("it keeps chunks of {}, this disk is tracked by {chunk}", protecting.chunk);
            return Err(Error::Unfit { peer: self.settings.remote.export().to_owned(), reason });
        }
        let shape = Shape { disk_bytes: self.disk.size_bytes(), chunk, algorithm: protecting.digest };
        let none = ChunkSet::empty(self.doubtful.universe());
        Ok(Work {
            session,
            outbox: Outbox::new(shape, protecting, self.settings.compression),
            source: Source::new(
                RingDisk::new(Arc::clone(&self.disk)),
                self.settings.throttle.clone(),
                chunk,
            )?,
            round_due: Instant::now(),
            held: none.clone(),
            pending: none,
        })
    }

    /// One order, one answer, or one round.
    async fn turn(&mut self, work: &mut Work) -> Result<(), Error> {
        let sends = matches!(self.state, Disk::Protecting | Disk::AwaitingPoint | Disk::Synchronizing(_));
        tokio::select! {
            biased;
            Some(order) = self.end.orders.recv() => self.obey(order, work).await?,
            answered = work.session.wait() => answered?,
            () = tokio::time::sleep_until(work.round_due), if sends => {
                work.round_due = Instant::now() + self.settings.cycle;
                self.round(work).await?;
                if self.state.reason().is_some() {
                    self.happened(DiskEvent::AllOffered);
                }
            }
        }
        work.session.look()?;
        while let Some(point) = work.session.point() {
            if self.awaiting == Some(point.epoch) {
                self.awaiting = None;
                let actions = self.happened(DiskEvent::PointMade);
                if actions.contains(&DiskAction::Forget) {
                    self.changes.confirmed(point.epoch.into());
                }
                self.end.tell(Report::Point { epoch: point.epoch, chain: point.chain });
            }
        }
        if work.session.fenced {
            self.fenced();
        }
        Ok(())
    }

    fn fenced(&mut self) {
        self.happened(DiskEvent::FenceMade);
        self.end.tell(Report::Fenced);
    }

    /// Drains everything that is marked.
    fn drain(&mut self, epoch: Epoch, into: &mut ChunkSet) -> Result<(), Error> {
        loop {
            let drained = self.changes.drain(epoch.into(), u64::MAX, into);
            let failed = |doubt| Error::Doubt { disk: self.settings.protect.disk.clone(), doubt };
            if drained.map_err(failed)?.is_complete {
                return Ok(());
            }
        }
    }

    async fn round(&mut self, work: &mut Work) -> Result<(), Error> {
        let mut chunks = ChunkSet::empty(self.doubtful.universe());
        self.drain(work.outbox.epoch(), &mut chunks)?;
        // A source that does not know what changed offers everything, always.
        let doubtful = if self.changes.knows_changes() { &self.doubtful } else { &chunks };
        work.source.send(&chunks, doubtful, &mut work.outbox, &mut work.session).await?;
        for chunk in chunks.iter() {
            self.doubtful.remove(chunk);
        }
        Ok(())
    }

    async fn obey(&mut self, order: Order, work: &mut Work) -> Result<(), Error> {
        let cutting = matches!(self.state, Disk::Cutting | Disk::CuttingForGood);
        match order {
            Order::Begin { last } => {
                let event = if last { DiskEvent::FinalCutBegun } else { DiskEvent::CutBegun };
                if self.happened(event).contains(&DiskAction::HoldChanges) {
                    self.end.tell(Report::Ready);
                }
            }
            Order::Round if cutting => {
                self.round(work).await?;
                let chunk_bytes = u64::from(self.settings.protect.chunk.bytes());
                self.end
                    .tell(Report::Left { bytes: self.changes.dirty_chunks().saturating_mul(chunk_bytes) });
            }
            Order::Read if cutting => self.read_remainder(work).await?,
            Order::Check if cutting => {
                work.pending.clear();
                self.drain(work.outbox.epoch(), &mut work.pending)?;
                work.held.insert_all(&work.pending);
                let changed = !work.pending.is_empty();
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

    /// The epoch before the open one: the final point.
    fn final_epoch(&self, work: &Work) -> Option<Epoch> {
        let is_final = self.state == Disk::AwaitingFinalPoint && self.awaiting.is_none();
        is_final.then(|| Epoch(work.outbox.epoch().0.saturating_sub(1)))
    }

    /// Drains and reads while the machine is frozen. Sends nothing, takes no
    /// memory that was not there before.
    async fn read_remainder(&mut self, work: &mut Work) -> Result<(), Error> {
        let mut chunks = std::mem::replace(&mut work.pending, ChunkSet::empty(self.doubtful.universe()));
        self.drain(work.outbox.epoch(), &mut chunks)?;
        work.held.insert_all(&chunks);
        let fits = self.remainder.has_room(chunks.len());
        let kept = fits && work.source.keep(&chunks, &mut self.remainder).await?.is_ok();
        self.end.tell(if kept { Report::Read } else { Report::TooMuch });
        Ok(())
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
        self.awaiting = Some(work.outbox.cut(&mut work.session, label).await?);
        Ok(())
    }

    /// What was drained for the cut is dirty again; the epoch goes on.
    fn void(&mut self, work: &mut Work) {
        let event = match self.state {
            Disk::CuttingForGood | Disk::AwaitingFinalPoint => DiskEvent::ThawedEarly,
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

/// What an error means for the disk.
fn event_of(error: &Error) -> DiskEvent {
    match error {
        Error::Doubt { .. } => DiskEvent::Doubted,
        Error::Wire(_) | Error::Unfit { .. } if error.remedy() == Remedy::Refused => DiskEvent::TurnedAway,
        _ => DiskEvent::Lost,
    }
}

/// The position that a target told last.
impl<C> Lane<C> {
    /// Where the target stood when it was last heard of, to be kept by the agent.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        self.settings.protect.position
    }
}

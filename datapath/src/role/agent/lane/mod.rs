//! A protected disk on a thread and a ring of its own: the table says what
//! follows, this does it.
//!
//! In: changes, orders, answers of the target. Out: deltas, reports, news.
//! Invariants: whatever was under way when a connection breaks is marked again,
//! and offered before it is trusted. Never: decides what the table decides.
//! Limits: `limits::RECONNECT_AFTER_MAX` between two attempts to connect.
//!
//! ```text
//! run ── connect ── turn, turn, … (work) ── obey (cutting)
//!  ▲        │
//!  └─ pause ┘ every error that is got over
//! ```

mod cutting;
mod greeting;
mod whole;
mod work;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::whole::Whole;
use super::order::{LaneEnd, LaneHandle, Order, Report, ends};
use super::remainder::Remainder;
use super::reserve::Reserve;
use super::session::{Session, Welcome};
use super::status::{Count, LaneStatus};
use super::target_digests::TargetDigests;
use crate::error::{Remediable, Remedy};
use crate::limits;
use crate::pipeline::{Cancel, Compression, Load};
use crate::ring;
use crate::role::table::Table;
use crate::role::{Disk, DiskAction, DiskEvent, Error, Reason};
use crate::telemetry::Notice;
use crate::track::{ChangeSource, ChunkSet, Doubt};
use crate::unit::Epoch;
use crate::wire::{Position, Protect, Remote};

/// How a disk is protected.
#[derive(Clone)]
pub struct LaneSettings {
    /// The master target.
    pub remote: Remote,
    /// What it is told; position and intent are filled in each time.
    pub protect: Protect,
    /// How deltas are packed.
    pub compression: Compression,
    /// What the lane may take from the machine, shared by whoever shares it.
    pub load: Load,
    /// Rounds begin no more often than this.
    pub cycle: Duration,
    /// Memory for what is read while the machine is frozen, shared likewise.
    pub reserve: Reserve,
    /// What follows a doubt.
    pub on_doubt: OnDoubt,
}

/// What follows a doubt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDoubt {
    /// The disk is compared with its target at once.
    #[default]
    Resync,
    /// It waits for an operator.
    Stop,
}

/// What a lane tells of its disk while it works.
#[derive(Debug)]
pub enum News<'a> {
    /// It stands elsewhere; why, where there is something to say.
    Became(Disk, Option<&'a str>),
    /// An error that the lane gets over, or waits out.
    Trouble(&'a Error),
    /// Something worth knowing.
    Notice(Notice),
    /// Somebody has to look.
    Alarm(&'a str),
}

/// How a lane ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaneEnding {
    /// It was told to.
    Stopped,
    /// The disk is another one, or of another size: it must be opened anew.
    Changed(Doubt),
}

/// A protected disk.
pub struct Lane {
    settings: LaneSettings,
    disk: Arc<crate::disk::Disk>,
    changes: Box<dyn ChangeSource + Send>,
    end: LaneEnd,
    state: Disk,
    /// The epoch whose cut is sent and whose point is not yet heard of, and when
    /// its cut was.
    awaiting: Option<(Epoch, u64)>,
    /// The furthest that this lane has sent anything.
    told: Option<Position>,
    /// Chunks that the target may hold already: offered, not sent.
    doubtful: ChunkSet,
    remainder: Remainder,
    /// Passes over the whole disk, where changes are not known.
    whole: Whole,
    /// Why its marks would not outlive this agent; told once.
    unsafe_marks: Option<String>,
    /// A doubt that marking everything does not make good.
    changed: Option<Doubt>,
    /// The last error was that this is not the disk that it was.
    is_other_disk: bool,
    observe: Box<dyn Fn(News<'_>) + Send>,
}

impl Lane {
    /// A lane for `disk`, of which the agent has kept `status`; `observe` hears
    /// what happens.
    pub fn new(
        settings: LaneSettings,
        disk: Arc<crate::disk::Disk>,
        changes: Box<dyn ChangeSource + Send>,
        status: LaneStatus,
        observe: impl Fn(News<'_>) + Send + 'static,
    ) -> (Self, LaneHandle) {
        let chunk = settings.protect.chunk;
        let state = status.state;
        let known = TargetDigests::new(chunk, disk.size_bytes()).filter(|_| !changes.knows_changes());
        let (handle, end) = ends(&settings.protect.disk, disk.size_bytes(), !changes.knows_changes(), status);
        let lane = Self {
            remainder: Remainder::new(chunk, settings.reserve.clone()),
            doubtful: ChunkSet::empty(chunk.count(disk.size_bytes())),
            settings,
            disk,
            changes,
            end,
            state,
            awaiting: None,
            told: None,
            whole: Whole::new(known),
            unsafe_marks: None,
            changed: None,
            is_other_disk: false,
            observe: Box::new(observe),
        };
        (lane, handle)
    }

    /// Protects the disk until it is fenced, or `cancel` is set.
    ///
    /// # Errors
    /// Only where there is no ring: everything else is got over, or waited out.
    pub fn run(mut self, cancel: &Cancel) -> Result<LaneEnding, Error> {
        if let Err(error) = self.settings.load.rank_thread() {
            let text = format!("the kernel does not rank this agent as asked: {error}");
            (self.observe)(News::Notice(Notice::new("unranked", text)));
        }
        ring::run(async {
            self.take_up();
            let mut failures = 0;
            loop {
                if let Some(doubt) = self.changed.take() {
                    return LaneEnding::Changed(doubt);
                }
                let ended = tokio::select! {
                    ended = self.connect_and_protect(&mut failures) => ended,
                    () = cancel.cancelled() => return LaneEnding::Stopped,
                };
                let Err(error) = ended else { continue };
                self.got(&error);
                let pause = limits::RECONNECT_AFTER * 2_u32.saturating_pow(failures.min(10));
                failures = failures.saturating_add(1);
                tokio::select! {
                    () = self.decline_for(pause.min(limits::RECONNECT_AFTER_MAX)) => {}
                    () = cancel.cancelled() => return LaneEnding::Stopped,
                }
            }
        })
        .map_err(Error::from)
    }

    /// What an earlier agent left in transit may have arrived.
    fn take_up(&mut self) {
        self.recall();
        if self.state.reason().is_some() {
            self.mark_all();
        }
        self.measure();
    }

    /// Marks again what is under way, to be offered.
    fn recall(&mut self) {
        let under_way = self.changes.restart();
        let chunk_bytes = u64::from(self.settings.protect.chunk.bytes());
        self.end.counters().add(Count::Repeated, under_way.len().saturating_mul(chunk_bytes));
        self.doubtful.insert_all(&under_way);
        self.whole.forget();
    }

    /// What an error means for the disk.
    fn got(&mut self, error: &Error) {
        (self.observe)(News::Trouble(error));
        self.is_other_disk = matches!(error, Error::Doubt { doubt, .. } if doubt.is_of_another_disk());
        let event = event_of(error);
        self.end.note(|status| {
            status.trouble = Some(error.to_string());
            match (error, event) {
                (Error::Doubt { doubt, .. }, _) => status.reason = Some(doubt.to_string()),
                (_, DiskEvent::TurnedAway) => status.reason = Some(error.to_string()),
                _ => {}
            }
        });
        self.happened(event);
    }

    /// Whether marking everything is left to whoever lets the disk go on. Until
    /// then the doubt stays with the marks, and every later agent finds it there.
    fn leaves_marks(&self, event: DiskEvent) -> bool {
        event == DiskEvent::Doubted && self.settings.on_doubt == OnDoubt::Stop && !self.is_other_disk
    }

    /// Asks the table what follows, and does all of it that needs no connection.
    fn happened(&mut self, event: DiskEvent) -> &'static [DiskAction] {
        let step = self.state.on(event);
        let before = std::mem::replace(&mut self.state, step.next);
        for action in step.actions {
            match action {
                DiskAction::GiveBack => {
                    self.awaiting = None;
                    self.remainder.clear();
                    self.recall();
                }
                DiskAction::MarkAll if self.leaves_marks(event) => {}
                DiskAction::MarkAll => self.mark_all(),
                DiskAction::OfferAll => self.doubtful = ChunkSet::full(self.doubtful.universe()),
                DiskAction::TellLost => self.end.tell(Report::Lost),
                DiskAction::DeclineCut => self.end.tell(Report::Declined),
                DiskAction::Alarm => self.alarm(event),
                _ => {}
            }
        }
        if before != self.state {
            self.became();
        }
        step.actions
    }

    fn alarm(&self, event: DiskEvent) {
        let reason = self.end.note(|status| status.reason.clone());
        let text = match event {
            DiskEvent::FenceMade => {
                "its target takes nothing more: an operator has fenced it, or it was finished, by an earlier agent \
                 or by another machine with the same identity; the machine at home may be running. Where this one is \
                 to go on, lift the fence there (`failback master-target unfence`): it then goes on by itself"
            }
            DiskEvent::ThawedEarly => "thawed before its final point was confirmed; that point is void",
            _ => reason.as_deref().unwrap_or("its target refuses it"),
        };
        (self.observe)(News::Alarm(text));
    }

    fn became(&mut self) {
        let state = self.state;
        let reason = self.end.note(|status| {
            status.state = state;
            if !state.is_connected() {
                (status.waiting, status.passes) = (None, None);
            }
            if !matches!(state, Disk::ResyncRequired(_) | Disk::Synchronizing(_) | Disk::Refused) {
                status.reason = None;
            }
            status.reason.clone()
        });
        (self.observe)(News::Became(state, reason.as_deref()));
    }

    fn mark_all(&mut self) {
        self.whole.forget();
        self.changed = self.changes.mark_all().err();
    }

    /// Sees that marks outlive this agent, whatever somebody took away.
    fn keep_marks(&mut self) {
        let before = std::mem::replace(&mut self.unsafe_marks, self.changes.keep().err());
        if let Some(reason) = self.unsafe_marks.as_ref().filter(|_| before.is_none()) {
            let text =
                format!("the marks of {} may not outlive this agent: {reason}", self.settings.protect.disk);
            (self.observe)(News::Notice(Notice::new("unkept-marks", text)));
        }
    }

    /// Notes what is marked and in transit, for people.
    fn measure(&self) {
        let statistics = self.changes.statistics();
        let bytes = |chunks: u64| chunks.saturating_mul(u64::from(self.settings.protect.chunk.bytes()));
        let [even, odd] = statistics.in_transit_chunks;
        self.end.note(|status| {
            status.dirty_bytes = bytes(statistics.dirty_chunks);
            status.in_transit_bytes = bytes(even.saturating_add(odd));
        });
    }

    /// Takes no part in anything until the pause is over, or an operator says so.
    async fn decline_for(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        while let Ok(order) = tokio::time::timeout_at(until, self.end.orders.recv()).await {
            match order {
                Some(Order::Resynchronize) => {
                    let stopped = matches!(self.state, Disk::Refused | Disk::Relocated);
                    self.happened(if stopped { DiskEvent::Released } else { DiskEvent::ResyncOrdered });
                    self.end.tell(Report::Resynchronizing);
                    return;
                }
                // Sent by the table as soon as there is a connection.
                Some(Order::Fence) if self.state == Disk::FinalPoint => {
                    self.happened(DiskEvent::FinalOnAll);
                }
                Some(Order::Fence) if self.state == Disk::Fenced => self.end.tell(Report::Fenced),
                Some(Order::Void) => {
                    if self.state == Disk::FinalPoint {
                        self.happened(DiskEvent::ThawedEarly);
                        self.happened(DiskEvent::Lost);
                    }
                    self.end.tell(Report::Voided);
                }
                Some(_) => self.end.tell(Report::Declined),
                None => return tokio::time::sleep_until(until).await,
            }
        }
    }

    /// Whether only an operator lets the disk go on.
    fn waits_for_operator(&self) -> bool {
        match self.state {
            Disk::Refused | Disk::Relocated => true,
            Disk::ResyncRequired(Reason::Doubt) => self.settings.on_doubt == OnDoubt::Stop,
            _ => false,
        }
    }

    async fn connect_and_protect(&mut self, failures: &mut u32) -> Result<(), Error> {
        if self.waits_for_operator() {
            self.decline_for(limits::RECONNECT_AFTER_MAX).await;
            return Ok(());
        }
        if self.state == Disk::Fenced {
            self.decline_for(limits::FENCE_ASKED_EVERY).await;
            if self.state != Disk::Fenced {
                return Ok(());
            }
        }
        let protect = self.greeting();
        let known = Arc::clone(self.end.known());
        let (session, protecting) = match Session::open(&self.settings.remote, &protect, known).await? {
            Welcome::Ready(ready) => *ready,
            Welcome::Fenced => {
                self.fenced();
                return Ok(());
            }
        };
        *failures = 0;
        if self.state == Disk::Fenced {
            // Somebody has lifted the fence: it goes on from where it was.
            self.happened(DiskEvent::Released);
        }
        self.whole.forget();
        let mut work = self.work(session, &protecting)?;
        let is_anew = self.is_out_of_step(&protecting) || protecting.synchronize;
        let event = if is_anew { DiskEvent::WelcomedAnew } else { DiskEvent::Welcomed };
        let actions = self.happened(event);
        self.welcomed(&protecting);
        if actions.contains(&DiskAction::SendFence) {
            work.session.send_fence(protecting.newest.unwrap_or(protecting.position.epoch)).await?;
        }
        let ended = self.work_on(&mut work).await;
        self.told = Some(work.outbox.position());
        if ended.is_ok() {
            work.session.close().await;
        }
        ended
    }

    async fn work_on(&mut self, work: &mut work::Work) -> Result<(), Error> {
        while self.state != Disk::Fenced && self.changed.is_none() {
            self.turn(work).await?;
        }
        Ok(())
    }

    fn fenced(&mut self) {
        if self.state != Disk::Fenced {
            self.happened(DiskEvent::FenceMade);
            self.end.tell(Report::Fenced);
        }
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

//! A session: one agent's connection, one target, from the greeting to the end.

use std::time::Duration;

use tokio::time::Instant;

use super::incoming::{Inbox, Incoming};
use super::{Landing, Lease, Notice, PairEntry, Standing, Tended};
use crate::delta::Opened;
use crate::limits;
use crate::pipeline::Cancel;
use crate::role::table::Table;
use crate::role::{Error, LandingError, PairAction, PairEvent};
use crate::unit::{DeltaNumber, Extent};
use crate::wire::{
    Cut, Fence, Fenced, Intent, Kind, LinkReceiver, LinkSender, Point, Progress, Protect, Protecting, Remark,
    Waiting,
};

/// One session.
pub(super) struct Session<'a, L> {
    landing: &'a mut L,
    entry: &'a PairEntry,
    sender: &'a LinkSender,
    peer: String,
    /// Set when the session is to end before its next frame: no step of the
    /// landing is abandoned halfway.
    stop: Cancel,
    /// Deltas landed since the last checkpoint.
    undurable: bool,
    checkpoint_due: Instant,
    tend_due: Instant,
    /// Bytes that were offered, while all of them are to be.
    offered: Option<Progress>,
}

/// Serves one agent until its connection ends, and leaves the target in order.
///
/// # Errors
/// Whatever ended the session.
pub(super) async fn attend<L: Landing>(
    landing: &mut L,
    lease: &Lease,
    protect: &Protect,
    sender: &LinkSender,
    receiver: LinkReceiver,
    cancel: &Cancel,
) -> Result<(), Error> {
    let mut session = Session {
        landing,
        entry: lease.entry(),
        sender,
        peer: receiver.peer().to_owned(),
        stop: Cancel::default(),
        undurable: false,
        checkpoint_due: Instant::now() + limits::CHECKPOINT_EVERY,
        tend_due: Instant::now() + limits::TEND_EVERY,
        offered: None,
    };
    let served = session.run(protect, receiver, lease.stop(), cancel).await;
    let ended = session.end().await;
    served.and(ended)
}

/// Why a target wants its disks compared where the agent does not.
const NOT_FINISHED: &str = "a comparison was not finished, or others wrote to the target";

/// What an operator reads of an event.
const fn words(event: PairEvent) -> &'static str {
    match event {
        PairEvent::AgentUnfit => "sent something that does not belong to this pair",
        PairEvent::AgentContinues | PairEvent::AgentSynchronizes => {
            "asks for this pair, which takes no agent now"
        }
        PairEvent::DeltaOutOfPlace => "sent deltas or offers that do not follow on what is here",
        PairEvent::CutUnfit => "sent a cut that is not what landed here",
        PairEvent::FenceUnfit | PairEvent::FenceFits => {
            "asks for a fence at something that is not the newest final point"
        }
        PairEvent::JournalFull => "waits: the retention volume has no room",
        PairEvent::StorageFailed => "was cut off: target or journal failed",
        _ => "needs a look",
    }
}

impl<L: Landing> Session<'_, L> {
    async fn run(
        &mut self,
        protect: &Protect,
        receiver: LinkReceiver,
        wanted: &Cancel,
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let (stop, sender) = (self.stop.clone(), self.sender);
        self.greet(protect).await?;
        let inbox = Inbox::open(receiver, &self.landing.standing());
        let serving = self.serve(inbox);
        tokio::pin!(serving);
        let ended = tokio::select! {
            served = &mut serving => return served,
            Err(error) = sender.keep_alive() => error.into(),
            () = wanted.cancelled() => Error::Stopped,
            () = cancel.cancelled() => Error::Stopped,
        };
        stop.cancel();
        match serving.await {
            Ok(()) | Err(Error::Stopped) => Err(ended),
            Err(error) => Err(error),
        }
    }

    /// Asks the table what follows, notes the new state and raises alarms; the
    /// other actions are the caller's.
    fn happened(&mut self, event: PairEvent, why: Option<&str>) -> &'static [PairAction] {
        let step = self.entry.state().on(event);
        self.entry.became(step.next);
        if step.actions.contains(&PairAction::Alarm) {
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            self.entry.alarm(words(event), &format!("{} {}{why}", self.peer, words(event)));
        }
        step.actions
    }

    async fn greet(&mut self, protect: &Protect) -> Result<(), Error> {
        let standing = self.landing.standing();
        // What somebody else did to it meanwhile is in its journal.
        self.entry.became(standing.rest);
        let event = match unfit(protect, &standing) {
            Some(reason) => {
                self.happened(PairEvent::AgentUnfit, Some(&reason));
                return Err(Error::Unfit { peer: self.peer.clone(), reason });
            }
            None => match &protect.intent {
                Intent::Continue => {
                    self.entry.compares_for(NOT_FINISHED);
                    PairEvent::AgentContinues
                }
                Intent::Synchronize { reason } => {
                    self.entry.compares_for(reason);
                    PairEvent::AgentSynchronizes
                }
            },
        };
        let actions = self.happened(event, None);
        if actions.contains(&PairAction::SayFenced) {
            let epoch = standing.newest.unwrap_or(standing.position.epoch);
            self.sender.send_message(Kind::Fenced, &Fenced { epoch }).await?;
            return Err(Error::Stopped);
        }
        let synchronize = actions.contains(&PairAction::WelcomeAnew);
        if !synchronize && !actions.contains(&PairAction::Welcome) {
            let reason = format!("this disk is {:?} here and takes no agent now", self.entry.state());
            return Err(Error::Unfit { peer: self.peer.clone(), reason });
        }
        if synchronize {
            let begun = self.landing.begin_synchronization().await;
            self.checked(begun, PairEvent::AgentUnfit)?;
            self.offered = Some(Progress { done_bytes: 0, total_bytes: standing.shape.disk_bytes });
            self.entry.progressed(self.offered);
        }
        let standing = self.landing.standing();
        let protecting = Protecting {
            position: standing.position,
            manifest: standing.manifest,
            chain: standing.chain,
            newest: standing.newest,
            chunk: standing.shape.chunk,
            digest: standing.shape.algorithm,
            key: standing.key,
            credit: limits::DELTAS_IN_FLIGHT,
            synchronize,
        };
        self.sender.send_message(Kind::Protecting, &protecting).await?;
        self.entry.tell(Notice::Connected { pair: self.entry.name().clone(), peer: self.peer.clone() });
        Ok(())
    }

    async fn serve(&mut self, mut inbox: Inbox) -> Result<(), Error> {
        let (stop, mut waiting) = (self.stop.clone(), None);
        loop {
            let frame = match waiting.take() {
                Some(frame) => frame,
                None => tokio::select! {
                    frame = inbox.next() => frame,
                    () = tokio::time::sleep_until(self.checkpoint_due), if self.undurable => {
                        self.checkpoint().await?;
                        continue;
                    }
                    () = tokio::time::sleep_until(self.tend_due) => {
                        self.tend().await?;
                        continue;
                    }
                    () = stop.cancelled() => return Err(Error::Stopped),
                },
            };
            match frame? {
                Incoming::Delta(delta) => waiting = self.take(delta, &mut inbox).await?,
                Incoming::Offer(extent, digests) => {
                    self.happened(PairEvent::OfferCame, None);
                    let want = async |landing: &mut L| landing.want(extent, &digests).await;
                    let wanted = self.with_room(PairEvent::DeltaOutOfPlace, want).await?;
                    self.sender.send_want(extent, &wanted).await?;
                    self.was_offered(extent);
                }
                Incoming::Cut(cut) => self.cut(&cut).await?,
                Incoming::Fence(fence) => return self.fence(fence).await,
                Incoming::Damaged { place, reason } => {
                    self.happened(PairEvent::DeltaDamaged, None);
                    let position = self.landing.standing().position;
                    let number = place.map_or(position.landed.next(), |place| place.number);
                    let remark = Remark { epoch: position.epoch, number, reason: reason.clone() };
                    self.sender.send_message(Kind::Remark, &remark).await?;
                    return Err(Error::Unfit { peer: self.peer.clone(), reason });
                }
            }
            if Instant::now() >= self.checkpoint_due {
                self.checkpoint().await?;
            }
        }
    }

    fn was_offered(&mut self, extent: Extent) {
        if let Some(offered) = &mut self.offered {
            // What is offered again, because it did not land, counts once.
            offered.done_bytes = (offered.done_bytes + extent.length()).min(offered.total_bytes);
            self.entry.progressed(self.offered);
        }
    }

    /// Lands a delta, and all that have come meanwhile: they share flushes. Gives
    /// the frame after them that is none.
    async fn take(
        &mut self,
        first: Opened,
        inbox: &mut Inbox,
    ) -> Result<Option<Result<Incoming, Error>>, Error> {
        let mut deltas = vec![first];
        let mut other = None;
        while let Some(frame) = inbox.try_next() {
            match frame {
                Ok(Incoming::Delta(delta)) => deltas.push(delta),
                frame => {
                    other = Some(frame);
                    break;
                }
            }
        }
        self.happened(PairEvent::DeltaCame, None);
        let land = async |landing: &mut L| landing.land(&deltas).await;
        self.with_room(PairEvent::DeltaOutOfPlace, land).await?;
        self.undurable = true;
        if let Some(place) = deltas.last().map(|delta| delta.head().place()) {
            self.sender.send_acknowledgement(Kind::Received, place.epoch, place.number).await?;
        }
        Ok(other)
    }

    /// Does a step of the landing, again and again while there is no room for it.
    async fn with_room<T>(
        &mut self,
        unfit: PairEvent,
        mut step: impl AsyncFnMut(&mut L) -> Result<T, LandingError>,
    ) -> Result<T, Error> {
        loop {
            match step(&mut *self.landing).await {
                Err(LandingError::Full(reason)) => self.wait_for_room(&*reason).await?,
                done => return self.checked(done, unfit),
            }
        }
    }

    /// Nothing was changed; without credit the agent soon stops sending.
    async fn wait_for_room(&mut self, reason: &dyn std::fmt::Display) -> Result<(), Error> {
        let reason = reason.to_string();
        self.happened(PairEvent::JournalFull, Some(&reason));
        self.sender.send_message(Kind::Waiting, &Waiting { reason }).await?;
        let stop = self.stop.clone();
        tokio::select! {
            () = tokio::time::sleep(FULL_AGAIN_AFTER) => self.tend().await,
            () = stop.cancelled() => Err(Error::Stopped),
        }
    }

    async fn cut(&mut self, cut: &Cut) -> Result<(), Error> {
        let make = async |landing: &mut L| landing.cut(cut).await;
        let chain = self.with_room(PairEvent::CutUnfit, make).await?;
        self.happened(PairEvent::CutFits, None);
        self.undurable = false;
        self.offered = None;
        self.entry.progressed(None);
        self.sender.send_message(Kind::Point, &Point { epoch: cut.epoch, chain }).await?;
        let pair = self.entry.name().clone();
        let (kind, name) = (cut.kind, cut.name.clone());
        self.entry.tell(Notice::Made { pair, epoch: cut.epoch, kind, name, machine_cut: cut.machine_cut });
        self.tend().await
    }

    async fn fence(&mut self, fence: Fence) -> Result<(), Error> {
        let made = self.landing.fence(fence.epoch).await;
        self.checked(made, PairEvent::FenceUnfit)?;
        self.happened(PairEvent::FenceFits, None);
        Ok(self.sender.send_message(Kind::Fenced, &Fenced { epoch: fence.epoch }).await?)
    }

    async fn checkpoint(&mut self) -> Result<(), Error> {
        self.checkpoint_due = Instant::now() + limits::CHECKPOINT_EVERY;
        if !self.undurable {
            return Ok(());
        }
        let landed: DeltaNumber = match self.landing.checkpoint().await {
            // It is on the target and in the journal; that it is cannot be noted
            // yet. Tried again before the next delta is asked for.
            Err(LandingError::Full(reason)) => return self.wait_for_room(&*reason).await,
            landed => self.checked(landed, PairEvent::DeltaOutOfPlace)?,
        };
        self.undurable = false;
        let epoch = self.landing.standing().position.epoch;
        // The agent may be gone already: then the handshake tells it.
        drop(self.sender.send_acknowledgement(Kind::Durable, epoch, landed).await);
        Ok(())
    }

    async fn tend(&mut self) -> Result<(), Error> {
        self.tend_due = Instant::now() + limits::TEND_EVERY;
        let tended = self.landing.tend().await;
        let tended = self.checked(tended, PairEvent::DeltaOutOfPlace)?;
        tell_tended(self.entry, tended);
        Ok(())
    }

    /// Brings the target in order after the last frame.
    async fn end(&mut self) -> Result<(), Error> {
        if self.entry.state().is_in_session() {
            self.happened(PairEvent::SessionEnded, None);
        }
        if std::mem::take(&mut self.undurable) {
            let landed = self.landing.checkpoint().await;
            self.checked(landed, PairEvent::DeltaOutOfPlace)?;
        }
        let left = self.landing.leave().await;
        self.checked(left, PairEvent::DeltaOutOfPlace)
    }

    /// Turns an error of the landing into what it means for the pair.
    fn checked<T>(&mut self, result: Result<T, LandingError>, unfit: PairEvent) -> Result<T, Error> {
        if let Err(error) = &result {
            let event = match error {
                LandingError::Full(_) => PairEvent::JournalFull,
                LandingError::Unfit(_) => unfit,
                LandingError::Failed(_) => PairEvent::StorageFailed,
            };
            self.happened(event, Some(&error.to_string()));
        }
        Ok(result?)
    }
}

/// Says what looking after a journal came to.
pub(super) fn tell_tended(entry: &PairEntry, tended: Tended) {
    if !tended.expired.is_empty() {
        entry.tell(Notice::Expired { pair: entry.name().clone(), points: tended.expired });
    }
    if let Some((about, reason)) = tended.alarm {
        entry.alarm(about, &reason);
    }
}

/// How long a target waits for room on its retention volume before it tries again.
const FULL_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What is said to an agent whose disk is not of the size that its points are of,
/// whatever size the target is of by now.
pub(super) fn other_size(protect: &Protect, points_bytes: u64) -> Option<String> {
    let Protect { machine, disk, size_bytes, .. } = protect;
    (*size_bytes != points_bytes).then(|| {
        format!(
            "disk {disk} has {size_bytes} bytes, its target was made for {points_bytes}: a target cannot grow or \
             shrink with its points; protect it by another name onto another target; or give its points up \
             (`failback master-target remove --journal {machine}/{disk}`), make the target as large, and order \
             `failback master-target reload` and `failback agent resync {disk}`"
        )
    })
}

/// Why this agent may not go on with this target; `None` where it may.
fn unfit(protect: &Protect, standing: &Standing) -> Option<String> {
    let shape = standing.shape;
    if let Some(reason) = other_size(protect, shape.disk_bytes) {
        return Some(reason);
    }
    if protect.chunk != shape.chunk {
        let (theirs, ours) = (protect.chunk, shape.chunk);
        return Some(format!("disk {} is tracked by {theirs}, its target by {ours}: set that", protect.disk));
    }
    let known = protect.position?.generation;
    let held = standing.position.generation;
    (known != held && protect.intent == Intent::Continue).then(|| {
        format!(
            "the agent goes on from generation {known}, the target holds {held}: \
             order a resynchronization if this is meant"
        )
    })
}

//! A session: one agent's connection, one target, from the greeting to the end.

use std::time::Duration;

use tokio::time::Instant;

use super::incoming::{Inbox, Incoming};
use super::{Landing, PairEntry, Standing};
use crate::delta::Opened;
use crate::limits;
use crate::pipeline::Cancel;
use crate::role::table::Table;
use crate::role::{Error, LandingError, PairAction, PairEvent};
use crate::unit::DeltaNumber;
use crate::wire::{
    Cut, Fence, Fenced, Intent, Kind, LinkReceiver, LinkSender, Point, Protect, Protecting, Remark,
};

/// One session.
pub(super) struct Session<'a, L> {
    landing: &'a mut L,
    watcher: &'a PairEntry,
    sender: &'a LinkSender,
    peer: String,
    /// Deltas landed since the last checkpoint.
    undurable: bool,
    checkpoint_due: Instant,
}

/// Serves one agent until its connection ends, and leaves the target in order.
///
/// # Errors
/// Whatever ended the session.
pub(super) async fn attend<L: Landing>(
    landing: &mut L,
    watcher: &PairEntry,
    protect: &Protect,
    sender: &LinkSender,
    receiver: LinkReceiver,
    cancel: &Cancel,
) -> Result<(), Error> {
    let mut session = Session {
        landing,
        watcher,
        sender,
        peer: receiver.peer().to_owned(),
        undurable: false,
        checkpoint_due: Instant::now() + limits::CHECKPOINT_EVERY,
    };
    session.greet(protect).await?;
    let inbox = Inbox::open(receiver, &session.landing.standing());
    let served = tokio::select! {
        served = session.serve(inbox) => served,
        Err(error) = sender.keep_alive() => Err(error.into()),
        () = cancel.cancelled() => Err(Error::Stopped),
    };
    // A step of the landing that was dropped half way has stopped it, and says so.
    if session.watcher.state().is_in_session() {
        session.happened(PairEvent::SessionEnded);
        session.checkpoint().await?;
    }
    served
}

impl<L: Landing> Session<'_, L> {
    /// Asks the table what follows, notes the new state and raises alarms; the
    /// other actions are the caller's.
    fn happened(&mut self, event: PairEvent) -> &'static [PairAction] {
        let step = self.watcher.state().on(event);
        self.watcher.became(step.next);
        if step.actions.contains(&PairAction::Alarm) {
            self.watcher.alarm(&format!("{event:?} from {}", self.peer));
        }
        step.actions
    }

    async fn greet(&mut self, protect: &Protect) -> Result<(), Error> {
        let standing = self.landing.standing();
        let event = match unfit(protect, &standing) {
            Some(reason) => {
                self.happened(PairEvent::AgentUnfit);
                return Err(Error::Unfit { peer: self.peer.clone(), reason });
            }
            None if protect.intent == Intent::Continue => PairEvent::AgentContinues,
            None => PairEvent::AgentSynchronizes,
        };
        let actions = self.happened(event);
        if actions.contains(&PairAction::SayFenced) {
            let epoch = standing.newest.unwrap_or(standing.position.epoch);
            self.sender.send_message(Kind::Fenced, &Fenced { epoch }).await?;
            return Err(Error::Stopped);
        }
        let synchronize = actions.contains(&PairAction::WelcomeAnew);
        if !synchronize && !actions.contains(&PairAction::Welcome) {
            let reason = format!("this disk is {:?} here and takes no agent now", self.watcher.state());
            return Err(Error::Unfit { peer: self.peer.clone(), reason });
        }
        if synchronize {
            self.landing.begin_synchronization().await?;
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
        Ok(self.sender.send_message(Kind::Protecting, &protecting).await?)
    }

    async fn serve(&mut self, mut inbox: Inbox) -> Result<(), Error> {
        let mut waiting = None;
        loop {
            let frame = match waiting.take() {
                Some(frame) => frame,
                None => tokio::select! {
                    frame = inbox.next() => frame,
                    () = tokio::time::sleep_until(self.checkpoint_due), if self.undurable => {
                        self.checkpoint().await?;
                        continue;
                    }
                },
            };
            match frame? {
                Incoming::Delta(delta) => waiting = self.take(delta, &mut inbox).await?,
                Incoming::Offer(extent, digests) => {
                    self.happened(PairEvent::OfferCame);
                    let wanted = self.landing.want(extent, &digests).await;
                    let wanted = self.checked(wanted, PairEvent::DeltaOutOfPlace)?;
                    self.sender.send_want(extent, &wanted).await?;
                }
                Incoming::Cut(cut) => self.cut(&cut).await?,
                Incoming::Fence(fence) => return self.fence(fence).await,
                Incoming::Damaged { place, reason } => {
                    self.happened(PairEvent::DeltaDamaged);
                    let position = self.landing.standing().position;
                    let number = place.map_or(position.landed.next(), |place| place.number);
                    let remark = Remark { epoch: position.epoch, number, reason: reason.clone() };
                    self.sender.send_message(Kind::Remark, &remark).await?;
                    self.checkpoint().await?;
                    return Err(Error::Unfit { peer: self.peer.clone(), reason });
                }
            }
            if Instant::now() >= self.checkpoint_due {
                self.checkpoint().await?;
            }
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
        self.happened(PairEvent::DeltaCame);
        loop {
            match self.landing.land(&deltas).await {
                Ok(()) => break,
                // Nothing was changed; without credit the agent soon stops sending.
                Err(LandingError::Full(reason)) => {
                    self.happened(PairEvent::JournalFull);
                    self.watcher.alarm(&reason.to_string());
                    tokio::time::sleep(FULL_AGAIN_AFTER).await;
                }
                error => self.checked(error, PairEvent::DeltaOutOfPlace)?,
            }
        }
        self.undurable = true;
        if let Some(place) = deltas.last().map(|delta| delta.head().place()) {
            self.sender.send_acknowledgement(Kind::Received, place.epoch, place.number).await?;
        }
        Ok(other)
    }

    async fn cut(&mut self, cut: &Cut) -> Result<(), Error> {
        let made = self.landing.cut(cut).await;
        let chain = self.checked(made, PairEvent::CutUnfit)?;
        self.happened(PairEvent::CutFits);
        self.undurable = false;
        Ok(self.sender.send_message(Kind::Point, &Point { epoch: cut.epoch, chain }).await?)
    }

    async fn fence(&mut self, fence: Fence) -> Result<(), Error> {
        let made = self.landing.fence(fence.epoch).await;
        self.checked(made, PairEvent::FenceUnfit)?;
        self.happened(PairEvent::FenceFits);
        Ok(self.sender.send_message(Kind::Fenced, &Fenced { epoch: fence.epoch }).await?)
    }

    async fn checkpoint(&mut self) -> Result<(), Error> {
        self.checkpoint_due = Instant::now() + limits::CHECKPOINT_EVERY;
        if !std::mem::take(&mut self.undurable) {
            return Ok(());
        }
        let landed: DeltaNumber = self.landing.checkpoint().await?;
        let epoch = self.landing.standing().position.epoch;
        // The agent may be gone already: then the handshake tells it.
        drop(self.sender.send_acknowledgement(Kind::Durable, epoch, landed).await);
        Ok(())
    }

    /// Turns an error of the landing into what it means for the pair.
    fn checked<T>(&mut self, result: Result<T, LandingError>, unfit: PairEvent) -> Result<T, Error> {
        if let Err(error) = &result {
            let event = match error {
                LandingError::Full(_) => PairEvent::JournalFull,
                LandingError::Unfit(_) => unfit,
                LandingError::Failed(_) => PairEvent::StorageFailed,
            };
            self.happened(event);
        }
        Ok(result?)
    }
}

/// How long a target waits for room on its retention volume before it tries again.
const FULL_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Why this agent may not go on with this target; `None` where it may.
fn unfit(protect: &Protect, standing: &Standing) -> Option<String> {
    let shape = standing.shape;
    if protect.size_bytes != shape.disk_bytes {
        return Some(format!(
            "disk {} has {} bytes, its target was made for {}: grow the target, or protect it anew",
            protect.disk, protect.size_bytes, shape.disk_bytes
        ));
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

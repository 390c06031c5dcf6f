//! A run at the serving end: what its lanes share, and how they are counted.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::limits;
use crate::pipeline::Cancel;
use crate::resync::Error;
use crate::resync::source::SourceSide;
use crate::resync::target::TargetSide;
use crate::telemetry::{Meter, Tally};
use crate::wire::{Join, LinkReceiver, LinkSender};

/// What the lanes of a run share at this end.
pub(super) struct Session {
    pub(super) side: Side,
    pub(super) cancel: Cancel,
    lanes: u32,
    fingerprint: String,
    /// Lanes that have joined; none may twice.
    joined: Mutex<Vec<u32>>,
    told: mpsc::Sender<LaneEvent>,
}

/// The part this end plays.
pub(super) enum Side {
    Source(SourceSide),
    Target(TargetSide),
}

/// What a lane tells the leader.
pub(super) enum LaneEvent {
    Joined,
    Ended(Result<(), Error>),
}

impl Session {
    pub(super) fn new(
        side: Side,
        cancel: Cancel,
        lanes: u32,
        fingerprint: String,
    ) -> (Arc<Self>, mpsc::Receiver<LaneEvent>) {
        let (told, events) = mpsc::channel(2 * limits::LANES_MAX);
        let session = Self { side, cancel, lanes, fingerprint, joined: Mutex::new(vec![0]), told };
        (Arc::new(session), events)
    }

    /// Runs lane `lane`, with counters of its own that travel at its end.
    pub(super) async fn run(
        &self,
        lane: u32,
        sender: &LinkSender,
        receiver: &mut LinkReceiver,
    ) -> Result<(), Error> {
        let meter = Meter::new(Arc::new(Tally::default()));
        let ended = match &self.side {
            Side::Source(side) => side.run(lane, sender, receiver, &meter).await,
            Side::Target(side) => side.run(lane, sender, receiver, &meter).await,
        };
        ended.map(drop)
    }

    /// Runs a further lane and tells the leader how it ended.
    pub(super) async fn follow(
        &self,
        lane: u32,
        sender: &LinkSender,
        receiver: &mut LinkReceiver,
    ) -> Result<(), Error> {
        {
            let mut joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
            if lane >= self.lanes || joined.contains(&lane) {
                return Err(Error::Export {
                    reason: format!("lane {lane} of this run is taken, or there is none"),
                });
            }
            joined.push(lane);
        }
        // The leader may be gone already; the lane then ends by the cancel flag.
        drop(self.told.try_send(LaneEvent::Joined));
        let ended = self.run(lane, sender, receiver).await;
        let failed = ended.is_err();
        if failed {
            self.cancel.cancel();
        }
        drop(self.told.try_send(LaneEvent::Ended(ended)));
        if failed { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// The runs of a server, by their numbers.
#[derive(Default)]
pub(super) struct Sessions {
    running: Mutex<HashMap<[u8; 16], Arc<Session>>>,
    ended: Condvar,
}

impl Sessions {
    pub(super) fn insert(&self, session: Arc<Session>) -> Result<[u8; 16], Error> {
        let mut number = [0; 16];
        aws_lc_rs::rand::fill(&mut number).map_err(|_| Error::Random(std::io::ErrorKind::Other.into()))?;
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(number, session);
        Ok(number)
    }

    pub(super) fn remove(&self, number: [u8; 16]) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        self.ended.notify_all();
    }

    /// The session that a peer may join: its own and no other.
    pub(super) fn find(&self, join: &Join, fingerprint: &str) -> Result<Arc<Session>, Error> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let found = running.get(&join.session).filter(|session| session.fingerprint == fingerprint);
        found
            .cloned()
            .ok_or_else(|| Error::Export { reason: "no such run of yours here (any more)".to_owned() })
    }

    /// Gives runs that were cancelled the time to leave their targets in order.
    pub(super) fn wait_until_empty(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let some = |running: &mut HashMap<_, _>| !running.is_empty();
        drop(self.ended.wait_timeout_while(running, Duration::from_secs(10), some));
    }
}

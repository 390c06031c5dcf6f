//! The master target: one session for each protected disk, one target for each.
//!
//! In: agents' connections. Out: landed deltas, points, acknowledgements, states
//! and alarms. Invariants: a pair is held by one, a session or somebody who works
//! on it; nothing of a delta is written before all of it was verified; `Received`
//! is credit and no more, `Durable` follows a flush, `Point` follows the point's
//! record; a step of a target is never abandoned halfway. Never: decides what a
//! replica decides (numbers, generations, manifests), lands anything after the
//! connection has ended. Limits: `limits::DELTAS_IN_FLIGHT` deltas in memory for
//! each session, `limits::CONNECTIONS_MAX` sessions.
//!
//! ```text
//! listen ─> lease of the pair ─> Replicas::open ─> Session
//!
//! link ─> Inbox (receives, unpacks, verifies) ─> Session ─> Landing (Kept: a replica)
//!                                                   │ Received, Durable, Want, Point
//!                                                   └───> link
//! ```

mod claims;
mod clock;
mod creation;
mod door;
mod incoming;
mod kept;
mod landing;
mod machines;
mod name;
mod orders;
mod pairs;
mod replicas;
mod room;
mod session;

use std::future::Future;

pub use clock::SharedClock;
pub use door::serve;
pub use kept::Kept;
pub use landing::{Landing, Standing, Tended};
pub use name::{NoPairName, PairName};
pub use orders::Removed;
pub use pairs::{Alarm, Glance, Lease, PairEntry, Pairs};
pub use replicas::{Assignment, KeptReplica, Replicas, SeenReplica};
pub use room::SharedRoom;

use super::{Error, Pair};
use crate::limits;
use crate::pipeline::Cancel;
use crate::unit::{Epoch, MachineCut};
use crate::wire::identity::Fingerprint;
use crate::wire::tls::{self, Accepted, ServerSettings};
use crate::wire::{self, Code, CutKind, Fenced, Kind, LinkReceiver, LinkSender, Protect, Refused, link};

/// What a master target tells whoever watches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A host spent a token.
    Paired {
        /// Its name.
        peer: String,
    },
    /// A session has begun.
    Connected {
        /// Which pair.
        pair: PairName,
        /// Whose agent.
        peer: String,
    },
    /// A pair is in another state.
    Became {
        /// Which.
        pair: PairName,
        /// The state.
        state: Pair,
        /// Why its disks are compared, where they are.
        reason: Option<String>,
    },
    /// There is a point more.
    Made {
        /// Of which pair.
        pair: PairName,
        /// The point.
        epoch: Epoch,
        /// What it promises.
        kind: CutKind,
        /// Given by whoever asked for it.
        name: String,
        /// The cut of the machine that it is a part of.
        machine_cut: MachineCut,
    },
    /// Points were given up.
    Expired {
        /// Of which pair.
        pair: PairName,
        /// Which, oldest first.
        points: Vec<Epoch>,
    },
    /// An operator should look.
    Alarm {
        /// Which pair.
        pair: PairName,
        /// Why.
        reason: String,
    },
}

/// An agent that wants to protect a disk: what it says of itself, and what its
/// connection proves.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// What it says.
    pub protect: Protect,
    /// Its certificate: only who has the key to it could connect.
    pub key: Fingerprint,
}

/// Opens the targets that sessions need, each on the thread of its session.
pub trait Targets {
    /// A target with its journal.
    type Landing: Landing;

    /// Refuses a visitor that is not the one whose disk this pair protects.
    ///
    /// # Errors
    /// Why it is not.
    fn check(&self, pair: &PairName, visitor: &Visitor) -> Result<(), Error>;

    /// Opens the target of the disk that an agent wants to protect, after such a
    /// check.
    fn open(&self, pair: &PairName, visitor: &Visitor) -> impl Future<Output = Result<Self::Landing, Error>>;
}

/// A master target.
pub struct MasterTarget<T> {
    targets: T,
    pairs: Pairs,
    cancel: Cancel,
}

impl<T: Targets> MasterTarget<T> {
    /// A master target of `pairs`, which ends all sessions once `cancel` is set.
    pub const fn new(targets: T, pairs: Pairs, cancel: Cancel) -> Self {
        Self { targets, pairs, cancel }
    }

    /// Its pairs.
    pub const fn pairs(&self) -> &Pairs {
        &self.pairs
    }

    /// Its targets.
    pub const fn targets(&self) -> &T {
        &self.targets
    }

    /// Serves one accepted connection on this thread's ring, until it ends.
    ///
    /// # Errors
    /// Whatever ended it.
    pub async fn serve_stream(
        &self,
        stream: tokio::net::TcpStream,
        settings: &ServerSettings,
    ) -> Result<(), Error> {
        match tls::accept(stream, settings).await.map_err(wire::Error::from)? {
            Accepted::Paired(peer) => {
                self.pairs.tell(Notice::Paired { peer: peer.name });
                Ok(())
            }
            Accepted::Session { sender, receiver, peer } => {
                let (sender, mut receiver) = link(sender, receiver, &peer.name);
                wire::exchange(&sender, &mut receiver).await?;
                let served = match first(&mut receiver).await {
                    Ok(protect) => {
                        let visitor = Visitor { protect, key: peer.fingerprint };
                        self.protect(&visitor, &sender, receiver).await
                    }
                    Err(error) => Err(error),
                };
                if let Err(error) = &served {
                    say_why(error, &sender).await;
                }
                sender.close().await;
                served
            }
        }
    }

    async fn protect(
        &self,
        visitor: &Visitor,
        sender: &LinkSender,
        receiver: LinkReceiver,
    ) -> Result<(), Error> {
        let (peer, protect) = (receiver.peer().to_owned(), &visitor.protect);
        let name = PairName::new(&protect.machine, &protect.disk).ok();
        let Some(entry) = name.and_then(|name| self.pairs.find(&name)) else {
            let reason = format!(
                "no target for disk {} of machine {} here: its master target needs a [[pair]] called {}/{}",
                protect.disk, protect.machine, protect.machine, protect.disk
            );
            return Err(Error::Unfit { peer, reason });
        };
        let alarm = |about: &'static str, error: Error| {
            entry.alarm(about, &format!("{peer} cannot be served: {error}"));
            error
        };
        // Before the pair is taken: who does not belong here keeps nobody out.
        self.targets.check(entry.name(), visitor).map_err(|error| alarm("stranger", error))?;
        if protect.is_fenced && entry.state() == Pair::Fenced {
            // Whoever works on the journal of a fenced pair is not disturbed.
            let epoch = protect.position.map_or(Epoch::FIRST, |position| position.epoch);
            return Ok(sender.send_message(Kind::Fenced, &Fenced { epoch }).await?);
        }
        let lease = entry.begin_session(&peer)?;
        let opening = self.targets.open(entry.name(), visitor);
        let mut landing = while_alive(sender, opening).await.map_err(|error| alarm("opening", error))?;
        session::attend(&mut landing, &lease, protect, sender, receiver, &self.cancel).await
    }
}

/// The request of a new connection: within its time, and of the right kind.
async fn first(receiver: &mut LinkReceiver) -> Result<Protect, Error> {
    let limit = limits::HANDSHAKE_TIMEOUT;
    let slow = wire::Error::Slow { peer: receiver.peer().to_owned(), seconds: limit.as_secs() };
    let request = async {
        let header = receiver.receive().await?;
        match header.kind {
            Kind::Protect => Ok(receiver.body(header).await?),
            Kind::Open | Kind::Join => Err(Error::Unfit {
                peer: receiver.peer().to_owned(),
                reason: "a master target listens here, which offers no disk to `failback sync`: ask its host for a \
                         `failback serve`"
                    .to_owned(),
            }),
            _ => Err(receiver.unexpected(header, "Protect").into()),
        }
    };
    tokio::time::timeout(limit, request).await.map_err(|_| slow)?
}

/// Does `work` to its end while the peer is told that this end lives; a peer that
/// is gone meanwhile is noticed after it.
async fn while_alive<R>(sender: &LinkSender, work: impl Future<Output = R>) -> R {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => done,
        Err(_gone) = sender.keep_alive() => work.await,
    }
}

/// Tells the agent why, as far as it still listens. What passes by itself is
/// no refusal: the agent connects again.
async fn say_why(error: &Error, sender: &LinkSender) {
    use crate::error::{Remediable, Remedy};
    let code = match error.remedy() {
        Remedy::Refused => Code::Refused,
        Remedy::Stop => Code::Failed,
        Remedy::Retry | Remedy::Reconnect | Remedy::Resync => Code::Interrupted,
    };
    let refused = Refused { code, message: error.to_string(), unfinished_cursor: None };
    drop(sender.send_message(Kind::Refused, &refused).await);
}

//! The master target: one session for each protected disk, one target for each.
//!
//! In: agents' connections. Out: landed deltas, points, acknowledgements, states
//! and alarms. Invariants: a pair has one session; nothing of a delta is written
//! before all of it was verified; `Received` is credit and no more, `Durable`
//! follows a flush, `Point` follows the point's record. Never: decides what a
//! replica decides (numbers, generations, manifests), lands anything after the
//! connection has ended. Limits: `limits::DELTAS_IN_FLIGHT` deltas in memory for
//! each session, `limits::CONNECTIONS_MAX` sessions.
//!
//! ```text
//! link ─> Inbox (receives, unpacks, verifies) ─> Session ─> Landing
//!                                                   │ Received, Durable, Want, Point
//!                                                   └───> link
//! ```

mod incoming;
mod landing;
mod pairs;
mod replica;
mod session;

use std::future::Future;
use std::sync::Arc;

pub use landing::{Landing, Standing};
pub use pairs::{PairEntry, PairName, Pairs};

use super::{Error, Pair};
use crate::limits;
use crate::pipeline::Cancel;
use crate::wire::tls::{self, Accepted, ServerSettings};
use crate::wire::{self, Code, Kind, LinkReceiver, LinkSender, Protect, Refused, link};

/// What a master target tells whoever watches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A pair is in another state.
    Became {
        /// Which.
        pair: PairName,
        /// The state.
        state: Pair,
    },
    /// An operator should look.
    Alarm {
        /// Which pair.
        pair: PairName,
        /// Why.
        reason: String,
    },
}

/// Opens the targets that sessions need, each on the thread of its session.
pub trait Targets {
    /// A target with its journal.
    type Landing: Landing;

    /// Opens the target of the disk that an agent wants to protect.
    fn open(&self, protect: &Protect) -> impl Future<Output = Result<Self::Landing, Error>>;
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
            Accepted::Paired(_) => Ok(()),
            Accepted::Session { sender, receiver, peer } => {
                let (sender, mut receiver) = link(sender, receiver, &peer.name);
                wire::exchange(&sender, &mut receiver).await?;
                let first = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, receiver.receive());
                let peer = peer.name.clone();
                let header = first.await.map_err(|_| Error::OutOfPlace { peer, what: "nothing" })??;
                if header.kind != Kind::Protect {
                    return Err(receiver.unexpected(header, "Protect").into());
                }
                let protect: Protect = receiver.body(header).await?;
                let served = self.protect(&protect, &sender, receiver).await;
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
        protect: &Protect,
        sender: &LinkSender,
        receiver: LinkReceiver,
    ) -> Result<(), Error> {
        let peer = receiver.peer().to_owned();
        let Some(entry) = self.pairs.find(&protect.machine, &protect.disk) else {
            let reason = format!("no target for disk {} of machine {} here", protect.disk, protect.machine);
            return Err(Error::Unfit { peer, reason });
        };
        let lease = entry.lease(&peer).ok_or(Error::Stopped)?;
        let entry = Arc::clone(&lease.0);
        let mut landing = self.targets.open(protect).await?;
        session::attend(&mut landing, &entry, protect, sender, receiver, &self.cancel).await
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

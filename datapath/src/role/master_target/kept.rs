//! A replica as the landing of a session, kept within what its policy allows.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Landing, Standing, Tended};
use crate::delta::{Opened, Shape};
use crate::disk::Blocks;
use crate::error::{Remediable, Remedy};
use crate::journal::{Clock, Expired, PairState, PointKind, RetentionPolicy, Volume};
use crate::landing::replica::{self, Cut as ReplicaCut, Error, Replica};
use crate::role::{LandingError, Pair};
use crate::unit::{Chain, DeltaNumber, Digest, Epoch, Extent};
use crate::wire::{self, CutKind};

impl From<Error> for LandingError {
    fn from(error: Error) -> Self {
        match error.remedy() {
            _ if error.is_full() => Self::Full(error.into()),
            Remedy::Retry | Remedy::Stop => Self::Failed(error.into()),
            Remedy::Reconnect | Remedy::Resync | Remedy::Refused => Self::Unfit(error.into()),
        }
    }
}

impl From<CutKind> for PointKind {
    fn from(kind: CutKind) -> Self {
        match kind {
            CutKind::Crash => Self::Crash,
            CutKind::App => Self::App,
            CutKind::Final => Self::Final,
        }
    }
}

/// What the clocks of this host were last found to agree on. There is one wall
/// clock for all journals, and one that is opened anew has seen none of its jumps.
#[derive(Clone, Default)]
pub struct SharedClock(Arc<Mutex<Option<Clock>>>);

impl SharedClock {
    /// Believes the wall clock as it is now.
    pub fn accept(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Clock::now());
    }

    pub(super) fn agreed(&self) -> Option<Clock> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn found(&self, agreed: Option<Clock>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if agreed.map(|clock| clock.running_ms) > known.map(|clock| clock.running_ms) {
            *known = agreed;
        }
    }
}

/// A replica, its policy, and the clock that it goes by.
pub struct Kept<B, V: Volume> {
    replica: Replica<B, V>,
    policy: RetentionPolicy,
    clock: SharedClock,
}

impl<B: Blocks + 'static, V: Volume> Kept<B, V> {
    /// Keeps `replica` within `policy`.
    pub const fn new(replica: Replica<B, V>, policy: RetentionPolicy, clock: SharedClock) -> Self {
        Self { replica, policy, clock }
    }

    /// The replica.
    pub const fn replica(&mut self) -> &mut Replica<B, V> {
        &mut self.replica
    }

    async fn expire(&mut self) -> Result<Expired, Error> {
        self.replica.watch_clock_from(self.clock.agreed());
        let expired = self.replica.expire(&self.policy, Clock::now()).await?;
        self.clock.found(self.replica.journal().clock_agreed());
        Ok(expired)
    }

    /// Makes sure that the volume keeps what the policy leaves on it: by giving up
    /// old points, then by taking nothing more.
    fn check_room(&self) -> Result<(), LandingError> {
        let journal = self.replica.journal();
        if !journal.is_short_of_space(&self.policy).map_err(Error::from)? {
            return Ok(());
        }
        let space = journal.space().map_err(Error::from)?;
        Err(LandingError::Full(short_of_space(&self.policy, space.used_bytes(), space.free_bytes).into()))
    }

    async fn make_room(&mut self) -> Result<(), LandingError> {
        if self.check_room().is_err() {
            self.expire().await?;
        }
        self.check_room()
    }
}

fn short_of_space(policy: &RetentionPolicy, used_bytes: u64, free_bytes: u64) -> String {
    let most = policy.used_bytes_max.map_or_else(|| "no limit".to_owned(), |most| format!("{most} bytes"));
    format!(
        "the journal takes {used_bytes} bytes (at most: {most}) and leaves {free_bytes} bytes on its volume (at \
         least: {}); no point can be given up for more: nothing is taken in until there is room",
        policy.free_bytes_min
    )
}

impl Tended {
    /// What an expiry came to; `policy` says how much space was asked for.
    pub(super) fn of(expired: Expired) -> Self {
        let alarm = match expired.paused {
            Some(paused) => Some(("clock", paused.to_string())),
            None if expired.short_of_space => {
                let reason = "the journal has less space than it should leave or may take, and only its newest \
                              point and pinned ones are left: free space on the retention volume";
                Some(("space", reason.to_owned()))
            }
            None => None,
        };
        Self { expired: expired.points, alarm }
    }
}

impl<B: Blocks + 'static, V: Volume> Landing for Kept<B, V> {
    fn standing(&self) -> Standing {
        let replica::Position { generation, epoch, landed, manifest, state, .. } = self.replica.position();
        let pair = self.replica.journal().pair();
        Standing {
            position: wire::Position { generation, epoch, landed },
            manifest,
            chain: self.replica.chain(),
            newest: self.replica.journal().newest_point().map(|point| point.epoch),
            shape: Shape {
                disk_bytes: pair.size_bytes,
                chunk: pair.chunk_size,
                algorithm: pair.digest_algorithm,
            },
            key: pair.key.0,
            rest: Pair::at_rest(state),
        }
    }

    async fn begin_synchronization(&mut self) -> Result<(), LandingError> {
        match self.replica.position().state {
            PairState::Protected | PairState::Corrupted => Ok(self.replica.begin_synchronization().await?),
            // A first one goes on where it was, and so does one that was begun.
            _ => Ok(()),
        }
    }

    async fn want(&mut self, window: Extent, digests: &[Digest]) -> Result<Vec<bool>, LandingError> {
        let pair = self.replica.journal().pair();
        let (generation, first) = (pair.generation, pair.chunk_size.index(window.offset()));
        let wanted = self.replica.want(generation, window, digests).await?;
        let is_wanted = |chunk: u64| u32::try_from(chunk).is_ok_and(|chunk| wanted.contains(chunk));
        Ok((first..).take(digests.len()).map(is_wanted).collect())
    }

    async fn land(&mut self, deltas: &[Opened]) -> Result<(), LandingError> {
        self.make_room().await?;
        Ok(self.replica.land(deltas).await?)
    }

    async fn checkpoint(&mut self) -> Result<DeltaNumber, LandingError> {
        Ok(self.replica.checkpoint().await?)
    }

    async fn cut(&mut self, cut: &wire::Cut) -> Result<Chain, LandingError> {
        let position = self.replica.position();
        let chunks = match position.state {
            // A first synchronization keeps no account of the chunks it wrote.
            PairState::Initial => self.replica.journal().pair().chunks(),
            _ => self.replica.journal().touched_chunks().len(),
        };
        let cut = ReplicaCut {
            generation: position.generation,
            epoch: cut.epoch,
            deltas: cut.deltas,
            manifest: cut.manifest,
            chain: cut.chain,
            kind: cut.kind.into(),
            name: cut.name.clone(),
            machine_cut: Some(cut.machine_cut),
            chunks,
            cut_unix_ms: cut.cut_unix_ms,
            freeze_ms: cut.freeze_ms,
        };
        Ok(self.replica.cut(&cut).await?.chain)
    }

    async fn tend(&mut self) -> Result<Tended, LandingError> {
        let tended = Tended::of(self.expire().await?);
        match self.replica.tend().await {
            // Without room indexes stay unmerged: lookups are right, and probe more files.
            Err(error) if error.is_full() => {}
            merged => merged?,
        }
        Ok(tended)
    }

    async fn leave(&mut self) -> Result<(), LandingError> {
        match self.replica.position().state {
            PairState::Initial | PairState::Protected | PairState::Resyncing
                if self.replica.stopped().is_none() =>
            {
                Ok(self.replica.leave().await?)
            }
            _ => Ok(()),
        }
    }

    async fn fence(&mut self, epoch: Epoch) -> Result<(), LandingError> {
        let newest = self.replica.journal().newest_point();
        if !newest.is_some_and(|point| point.epoch == epoch && point.kind == PointKind::Final) {
            let reason = format!("epoch {epoch} is not the newest point, or not a final one");
            return Err(LandingError::Unfit(reason.into()));
        }
        Ok(self.replica.fence().await?)
    }
}

//! A replica as the landing of a session, kept within what its policy allows.

use super::{Landing, SharedClock, SharedRoom, Standing, Tended};
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

/// A replica, its policy, and what it shares with the others of its host.
pub struct Kept<B, V: Volume> {
    replica: Replica<B, V>,
    policy: RetentionPolicy,
    clock: SharedClock,
    room: SharedRoom,
    /// Set from when it asked the others for room until it has it.
    waits_for_room: bool,
    /// Points that were given up, and nobody was told yet; oldest first.
    given_up: Vec<Epoch>,
}

impl<B: Blocks + 'static, V: Volume> Kept<B, V> {
    /// Keeps `replica` within `policy`.
    pub const fn new(
        mut replica: Replica<B, V>,
        policy: RetentionPolicy,
        clock: SharedClock,
        room: SharedRoom,
    ) -> Self {
        replica.leave_free(policy.free_bytes_min);
        Self { replica, policy, clock, room, waits_for_room: false, given_up: Vec::new() }
    }

    /// The replica.
    pub const fn replica(&mut self) -> &mut Replica<B, V> {
        &mut self.replica
    }

    async fn expire(&mut self) -> Result<Expired, Error> {
        let time = self.clock.look(Clock::now());
        let mut expired = self.replica.expire(&self.policy, time).await?;
        let given_up = self.room.give(async |bytes| self.replica.give_up(bytes).await).await?;
        expired.points.extend(given_up);
        Ok(expired)
    }

    /// Does a step that needs room on the volume. Where the volume refuses, the
    /// oldest points go for it; where none is left to go, the others are asked.
    async fn with_room<T>(
        &mut self,
        mut step: impl AsyncFnMut(&mut Replica<B, V>) -> Result<T, Error>,
    ) -> Result<T, LandingError> {
        loop {
            let done = step(&mut self.replica).await;
            let Some(needed) = done.as_ref().err().and_then(Error::needed_bytes) else {
                if std::mem::take(&mut self.waits_for_room) {
                    let _for_whom_nobody_waits = self.room.take();
                }
                return Ok(done?);
            };
            let (points, _) = self.replica.give_up(needed).await?;
            if points.is_empty() {
                self.waits_for_room = true;
                self.room.ask(needed);
                return Ok(done?);
            }
            self.given_up.extend(points);
        }
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
            let expired = self.expire().await?;
            self.given_up.extend(expired.points);
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
            PairState::Protected | PairState::Corrupted => {
                self.with_room(async |replica| replica.begin_synchronization().await).await
            }
            // A first one goes on where it was, and so does one that was begun.
            _ => Ok(()),
        }
    }

    async fn want(&mut self, window: Extent, digests: &[Digest]) -> Result<Vec<bool>, LandingError> {
        let pair = self.replica.journal().pair();
        let (generation, first) = (pair.generation, pair.chunk_size.index(window.offset()));
        let want = async |replica: &mut Replica<B, V>| replica.want(generation, window, digests).await;
        let wanted = self.with_room(want).await?;
        let is_wanted = |chunk: u64| u32::try_from(chunk).is_ok_and(|chunk| wanted.contains(chunk));
        Ok((first..).take(digests.len()).map(is_wanted).collect())
    }

    async fn land(&mut self, deltas: &[Opened]) -> Result<(), LandingError> {
        self.make_room().await?;
        self.with_room(async |replica| replica.land(deltas).await).await
    }

    async fn checkpoint(&mut self) -> Result<DeltaNumber, LandingError> {
        self.with_room(async |replica| replica.checkpoint().await).await
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
        Ok(self.with_room(async |replica| replica.cut(&cut).await).await?.chain)
    }

    async fn tend(&mut self) -> Result<Tended, LandingError> {
        let mut expired = self.expire().await?;
        expired.points.splice(..0, std::mem::take(&mut self.given_up));
        let tended = Tended::of(expired);
        match self.replica.tend().await {
            // Without room indexes stay unmerged: lookups are right, and probe more files.
            Err(error) if error.is_full() => {}
            merged => merged?,
        }
        Ok(tended)
    }

    async fn leave(&mut self) -> Result<(), LandingError> {
        if self.replica.position().state.lands() && self.replica.stopped().is_none() {
            self.replica.leave().await?;
        }
        Ok(())
    }

    async fn fence(&mut self, epoch: Epoch) -> Result<(), LandingError> {
        let newest = self.replica.journal().newest_point();
        if !newest.is_some_and(|point| point.epoch == epoch && point.kind == PointKind::Final) {
            let reason = format!("epoch {epoch} is not the newest point, or not a final one");
            return Err(LandingError::Unfit(reason.into()));
        }
        self.with_room(async |replica| replica.fence().await).await
    }
}

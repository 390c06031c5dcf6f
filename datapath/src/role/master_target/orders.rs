//! What an operator orders, whether the master target serves or not: each order
//! has the pair for itself while it is carried out.

use std::fs;
use std::path::PathBuf;

use super::replicas::unready;
use super::session::tell_tended;
use super::{Assignment, Landing, Lease, MasterTarget, PairEntry, PairName, Replicas};
use crate::error::{Remediable, Remedy};
use crate::journal::{Clock, Directory, PairState};
use crate::landing::replica;
use crate::limits;
use crate::ring;
use crate::role::{Error, LandingError, Pair};

/// What was left of a pair that was taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Its journal, where it stays.
    pub journal: Option<PathBuf>,
    /// Whether its target had a mark that says whose it is.
    pub was_owned: bool,
}

impl MasterTarget<Replicas> {
    /// The source of a pair has stopped for good: nothing lands any more. Its
    /// session is ended.
    ///
    /// # Errors
    /// [`Error::Unfit`] where the pair has no point, [`Error::Unready`].
    pub fn fence(&self, pair: &PairName) -> Result<(), Error> {
        let lease = self.take(pair)?;
        self.change(lease.entry(), async |replica| replica.fence().await)
    }

    /// The source of a pair goes on after all: where it was, or, after a commit,
    /// with a comparison of the two disks.
    ///
    /// # Errors
    /// [`Error::Unfit`] while a rewind is not committed, [`Error::Unready`].
    pub fn unfence(&self, pair: &PairName) -> Result<(), Error> {
        let lease = self.take(pair)?;
        self.change(lease.entry(), async |replica| match replica.position().state {
            PairState::Committed => replica.begin_synchronization().await,
            _ => replica.unfence().await,
        })
    }

    /// Gives the synchronization of a pair up that was begun and not finished. A first
    /// one leaves a target that is no disk; any other takes it back to its last point,
    /// as a new generation. Its session is ended; an agent that comes again begins anew.
    ///
    /// # Errors
    /// [`Error::Unfit`] where there is none, [`Error::Unready`].
    pub fn cancel(&self, pair: &PairName) -> Result<(), Error> {
        let lease = self.take(pair)?;
        self.change(lease.entry(), async |replica| replica.cancel_synchronization().await)
    }

    fn change(
        &self,
        entry: &PairEntry,
        change: impl AsyncFnOnce(
            &mut replica::Replica<crate::disk::RingDisk, Directory>,
        ) -> Result<(), replica::Error>,
    ) -> Result<(), Error> {
        let changed = ring::run(async {
            let mut kept = self.targets.enter(entry.name()).await?;
            change(kept.replica()).await.map_err(|error| not_done(entry.name(), error))?;
            kept.leave().await?;
            Ok::<Pair, Error>(kept.standing().rest)
        });
        entry.became(changed??);
        Ok(())
    }

    /// Gives the target of a pair up: it is nobody's from now on. Its journal
    /// goes too where that is meant.
    ///
    /// # Errors
    /// [`Error::Unready`]; what was not done may be tried again.
    pub fn remove(&self, pair: &PairName, with_journal: bool) -> Result<Removed, Error> {
        let folder = self.targets.folder(pair);
        // One that was removed before may have left its journal.
        let is_known = self.pairs.find(pair).is_some() || !folder.is_dir();
        let lease = if is_known { Some(self.take(pair)?) } else { None };
        let mut journal = folder.is_dir().then(|| folder.clone());
        if with_journal && journal.take().is_some() {
            let locked = Directory::open(&folder, super::replicas::HOLDER).map_err(unready(pair))?;
            fs::remove_dir_all(&folder).map_err(unready(pair))?;
            drop(locked);
            // The machine's folder goes with its last disk.
            let _others = folder.parent().map(fs::remove_dir);
        }
        let was_owned = self.targets.state.disown(&folder).map_err(unready(pair))?;
        self.pairs.forget(pair);
        self.targets.unassign(pair);
        drop(lease);
        Ok(Removed { journal, was_owned })
    }

    /// Takes a pair on, or gives one that is there another target from its next
    /// session on. Where it stands is in its journal.
    pub fn admit(&self, pair: PairName, assignment: Assignment) {
        let known = self.targets.look(&pair);
        self.targets.assign(pair.clone(), assignment);
        let state = match &known {
            Ok(Some(known)) => Pair::at_rest(known.state),
            Ok(None) if self.targets.has_lost_journal(&pair) => Pair::Failed,
            Ok(None) => Pair::Corrupted,
            Err(_) => Pair::Failed,
        };
        self.pairs.add(pair.clone(), state);
        if let (Err(error), Some(entry)) = (known, self.pairs.find(&pair)) {
            entry.alarm("opening", &error.to_string());
        }
    }

    /// Serves a pair no more: its session is ended, and its target stays what it is.
    ///
    /// # Errors
    /// [`Error::Unready`] where its session does not end.
    pub fn dismiss(&self, pair: &PairName) -> Result<(), Error> {
        let _lease = self.take(pair)?;
        self.pairs.forget(pair);
        self.targets.unassign(pair);
        Ok(())
    }

    /// Looks after the journals of pairs that nobody has open.
    pub fn tend_idle(&self) {
        // Also while there is nothing to tend: what the clocks do is seen now or never.
        let _told_by_whoever_expires = self.targets.clock().look(Clock::now());
        for entry in self.pairs.all() {
            let Some(lease) = entry.work_if_idle() else { continue };
            let tended = ring::run(self.targets.tend(entry.name())).map_err(Error::from);
            match tended.and_then(|tended| tended) {
                Ok(tended) => tell_tended(lease.entry(), tended),
                Err(error) => entry.alarm("tending", &error.to_string()),
            }
        }
    }

    pub(super) fn take(&self, pair: &PairName) -> Result<Lease, Error> {
        let entry = self.pairs.find(pair).ok_or_else(|| Error::Unfit {
            peer: pair.to_string(),
            reason: "there is no such pair here; `failback master-target status` shows those there are"
                .to_owned(),
        })?;
        entry.work(limits::SESSION_ENDS_WITHIN)
    }
}

/// A step that a replica refused was not done, and nothing was changed.
fn not_done(pair: &PairName, error: replica::Error) -> Error {
    match error.remedy() {
        Remedy::Refused => Error::Unfit { peer: pair.to_string(), reason: error.to_string() },
        _ => LandingError::from(error).into(),
    }
}

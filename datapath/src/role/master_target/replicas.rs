//! The targets of this host: which disk belongs to which pair, opened when it is
//! needed.
//!
//! ```text
//! RETENTION/MACHINE/DISK   the journal of a pair        STATE/owners   whose each target is
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::session::other_size;
use super::{Kept, PairName, SharedClock, Targets, Tended};
use crate::disk::{self, Disk, Purpose, RingDisk, Written};
use crate::journal::{Clock, Directory, DirectoryError, Journal, Pair, PairState, RetentionPolicy};
use crate::landing::replica::Replica;
use crate::landing::{Owner, StateDirectory};
use crate::limits;
use crate::role::Error;
use crate::telemetry::Notice;
use crate::wire::{Create, Protect};

/// Who holds a lock, to whoever meets it.
pub(super) const HOLDER: &str = "a master target";

/// A replica on a disk of this host.
pub type KeptReplica = Kept<RingDisk, Directory>;

/// Which disk a pair replicates onto.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Its path.
    pub target: PathBuf,
    /// What to make there when the pair is new and there is nothing.
    pub create: Option<Create>,
}

/// The targets of a master target.
pub struct Replicas {
    pub(super) state: StateDirectory,
    retention: PathBuf,
    pub(super) policy: RetentionPolicy,
    clock: SharedClock,
    assignments: RwLock<BTreeMap<PairName, Assignment>>,
    observe: Box<dyn Fn(&Notice) + Send + Sync>,
}

impl Replicas {
    /// Targets whose journals lie in `retention`, which must be there, and whose
    /// owners are known in `state`.
    ///
    /// # Errors
    /// Where `retention` is no directory that can be used.
    pub fn new(
        state: StateDirectory,
        retention: &Path,
        policy: RetentionPolicy,
        observe: impl Fn(&Notice) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        // An owner is known by this path, however it was written.
        let retention = retention.canonicalize()?;
        if !retention.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let (clock, assignments) = (SharedClock::default(), RwLock::default());
        Ok(Self { state, retention, policy, clock, assignments, observe: Box::new(observe) })
    }

    /// Holds the retention directory for as long as the result lives: one master
    /// target serves it.
    ///
    /// # Errors
    /// [`DirectoryError::InUse`], and those of files.
    pub fn hold(&self) -> Result<Directory, DirectoryError> {
        Directory::open(&self.retention.join(".master-target"), HOLDER)
    }

    /// The retention directory.
    #[must_use]
    pub fn retention(&self) -> &Path {
        &self.retention
    }

    /// What is known of the clocks of this host.
    #[must_use]
    pub const fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// Where the journal of a pair lies.
    #[must_use]
    pub fn folder(&self, pair: &PairName) -> PathBuf {
        self.retention.join(pair.folder())
    }

    /// Gives a pair its target.
    pub fn assign(&self, pair: PairName, assignment: Assignment) {
        self.assignments.write().unwrap_or_else(PoisonError::into_inner).insert(pair, assignment);
    }

    /// Takes a pair's target from it.
    pub fn unassign(&self, pair: &PairName) {
        self.assignments.write().unwrap_or_else(PoisonError::into_inner).remove(pair);
    }

    /// The target of a pair.
    #[must_use]
    pub fn assignment(&self, pair: &PairName) -> Option<Assignment> {
        self.assignments.read().unwrap_or_else(PoisonError::into_inner).get(pair).cloned()
    }

    pub(super) fn assigned(&self, pair: &PairName) -> Result<Assignment, Error> {
        self.assignment(pair).ok_or_else(|| unready(pair)("it has no target here any more"))
    }

    /// What the journal of a pair says of it, whoever has it open; `None` where
    /// it has none.
    ///
    /// # Errors
    /// [`Error::Unready`].
    pub fn look(&self, pair: &PairName) -> Result<Option<Pair>, Error> {
        Pair::read(&self.folder(pair)).map_err(unready(pair))
    }

    /// Opens the target of a pair that has a journal, on this thread's ring.
    ///
    /// # Errors
    /// [`Error::Unready`]: it has none, somebody else has it open, or the target
    /// is not what it was.
    pub async fn enter(&self, pair: &PairName) -> Result<KeptReplica, Error> {
        let known = self.look(pair)?;
        let known = known.ok_or_else(|| unready(pair)("it has no journal: its agent has never connected"))?;
        self.reopen(pair, &known).await
    }

    async fn reopen(&self, pair: &PairName, known: &Pair) -> Result<KeptReplica, Error> {
        let (assignment, folder) = (self.assigned(pair)?, self.folder(pair));
        if (known.machine.as_str(), known.disk.as_str()) != (pair.machine(), pair.disk()) {
            let (machine, disk) = (&known.machine, &known.disk);
            let reason = format!("the journal in {} is of {machine}/{disk}", folder.display());
            return Err(unready(pair)(reason));
        }
        let directory = lock(&folder).await.map_err(unready(pair))?;
        let disk = disk::open(&assignment.target, Purpose::Target).map_err(unready(pair))?;
        check_same(pair, known, &disk)?;
        let (identity, owner) = (disk.identity().clone(), self.owner(pair, &disk).with_journal());
        let was_given_up = self.mark(pair)?.is_none();
        if was_given_up {
            self.state.check_unowned(&identity, disk.size_bytes()).map_err(unready(pair))?;
        } else {
            self.state.own(&identity, &owner).map_err(unready(pair))?;
        }
        let disk = RingDisk::new(self.noticed(disk));
        let (mut replica, _recovery) = Replica::open(disk, directory).await.map_err(unready(pair))?;
        self.check_left(pair, &mut replica, known).await?;
        if was_given_up {
            let text = format!(
                "{pair}: its target was nobody's meanwhile: it is read and compared as a whole, and points from \
                 before hold whatever was written to it"
            );
            replica.distrust().await.map_err(unready(pair))?;
            self.state.own(&identity, &owner).map_err(unready(pair))?;
            self.notice(&Notice::new("given-up", text));
        }
        if replica.position().state == PairState::RollingBack {
            replica.resume().await.map_err(unready(pair))?;
        }
        Ok(self.keep(replica))
    }

    /// A target that others wrote to while its agent was away is compared as a
    /// whole. One that was left to an operator is looked at when something is to
    /// be done with it.
    async fn check_left(
        &self,
        pair: &PairName,
        replica: &mut Replica<RingDisk, Directory>,
        known: &Pair,
    ) -> Result<(), Error> {
        if !matches!(known.state, PairState::Initial | PairState::Protected | PairState::Resyncing) {
            return Ok(());
        }
        if replica.written_since_left() == Written::Yes {
            let text = format!(
                "{pair}: somebody else has written to its target since it was left: it is read and compared as a \
                 whole, and points from before hold whatever was written to it"
            );
            replica.distrust().await.map_err(unready(pair))?;
            self.notice(&Notice::new("foreign-writes", text));
        }
        replica.take_up().await.map_err(unready(pair))
    }

    /// Does for the journal of a pair that nobody has open what a session does
    /// now and then: its target is not needed for it.
    ///
    /// # Errors
    /// [`Error::Unready`].
    pub async fn tend(&self, pair: &PairName) -> Result<Tended, Error> {
        if self.look(pair)?.is_none() {
            return Ok(Tended::default());
        }
        let directory = match Directory::open(&self.folder(pair), HOLDER) {
            // A command works on it, and has the journal in its care.
            Err(DirectoryError::InUse { .. }) => return Ok(Tended::default()),
            opened => opened.map_err(unready(pair))?,
        };
        let (mut journal, _recovery) = Journal::open(directory).await.map_err(unready(pair))?;
        if journal.pair().state.keeps_all_points() {
            return Ok(Tended::default());
        }
        journal.watch_clock_from(self.clock.agreed());
        let expired = journal.expire(&self.policy, Clock::now()).map_err(unready(pair))?;
        self.clock.found(journal.clock_agreed());
        while journal.merge().await.map_err(unready(pair))? {}
        Ok(Tended::of(expired))
    }

    /// The mark on the target of a pair, where there is one.
    pub(super) fn mark(&self, pair: &PairName) -> Result<Option<Owner>, Error> {
        let folder = self.folder(pair);
        let owners = self.state.owners().map_err(unready(pair))?;
        Ok(owners.into_iter().map(|(_, owner)| owner).find(|owner| owner.retention == folder))
    }

    pub(super) fn owner(&self, pair: &PairName, disk: &Disk) -> Owner {
        let (target, of) = (disk.path().to_owned(), (pair.machine(), pair.disk()));
        Owner::new(disk.identity(), disk.size_bytes(), target, self.folder(pair), of)
    }

    pub(super) fn keep(&self, replica: Replica<RingDisk, Directory>) -> KeptReplica {
        Kept::new(replica, self.policy, self.clock.clone())
    }

    /// Tells what is worth knowing of a disk that is used from now on.
    pub(super) fn noticed(&self, disk: Disk) -> Arc<Disk> {
        disk.notices().iter().for_each(|notice| (self.observe)(notice));
        Arc::new(disk)
    }

    pub(super) fn notice(&self, notice: &Notice) {
        (self.observe)(notice);
    }
}

impl Targets for Replicas {
    type Landing = KeptReplica;

    async fn open(&self, pair: &PairName, protect: &Protect) -> Result<KeptReplica, Error> {
        let Some(known) = self.look(pair)? else { return self.create(pair, protect).await };
        let is_stranger =
            !known.machine_identity.is_empty() && known.machine_identity != protect.machine_identity;
        if is_stranger {
            return Err(Error::Unfit {
                peer: protect.machine.clone(),
                reason: format!(
                    "another machine protects {pair}: this one is {:?}, that one {:?}; two machines have one name, or \
                     this is a copy: give it another name, or take the pair away to protect this one anew",
                    protect.machine_identity, known.machine_identity
                ),
            });
        }
        if let Some(reason) = other_size(protect, known.size_bytes) {
            return Err(Error::Unfit { peer: protect.machine.clone(), reason });
        }
        let mut kept = self.reopen(pair, &known).await?;
        if known.machine_identity.is_empty() {
            let met = kept.replica().remember_machine(&protect.machine_identity).await;
            met.map_err(unready(pair))?;
        }
        Ok(kept)
    }
}

/// What is in the way of a pair.
pub(super) fn unready<E>(pair: &PairName) -> impl Fn(E) -> Error
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |error| Error::Unready { pair: pair.to_string(), source: error.into() }
}

/// Takes a journal's lock. Whoever looks after it has it for a moment only.
async fn lock(folder: &Path) -> Result<Directory, DirectoryError> {
    let until = Instant::now() + limits::JOURNAL_FREE_WITHIN;
    loop {
        match Directory::open(folder, HOLDER) {
            Err(DirectoryError::InUse { .. }) if Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            opened => return opened,
        }
    }
}

/// A target is known by more than its path, which may lead elsewhere by now.
fn check_same(pair: &PairName, known: &Pair, disk: &Disk) -> Result<(), Error> {
    let identity = disk.identity();
    // Names of one boot say nothing of the next.
    let is_known = identity.lasts_over_reboot() && !known.target_identity.starts_with("boot:");
    if is_known && known.target_identity != identity.to_string() {
        let reason = format!(
            "{} is not the disk that it was: {identity} instead of {}; nothing was changed: name the right disk",
            disk.path().display(),
            known.target_identity
        );
        return Err(unready(pair)(reason));
    }
    Ok(())
}

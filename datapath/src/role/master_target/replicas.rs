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

use super::claims::Claims;
use super::session::other_size;
use super::{Kept, PairName, SharedClock, SharedRoom, Targets, Tended, Visitor, clock};
use crate::disk::storage::Host;
use crate::disk::{self, Disk, LookedAt, Purpose, RingDisk, Written};
use crate::journal::{
    Aside, Clock, Directory, DirectoryError, Journal, Pair, PairState, RetentionPolicy, View,
};
use crate::landing::replica::Replica;
use crate::landing::{self, Owner, StateDirectory};
use crate::limits;
use crate::ring;
use crate::role::Error;
use crate::telemetry::Notice;
use crate::wire::Create;

/// Who holds a lock, to whoever meets it.
pub(super) const HOLDER: &str = "a master target";

/// A replica on a disk of this host.
pub type KeptReplica = Kept<RingDisk, Directory>;

/// One that is only looked at: what opening it would change stays in memory.
pub type SeenReplica = Replica<LookedAt, Aside<Directory>>;

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
    pub(super) room: SharedRoom,
    assignments: RwLock<BTreeMap<PairName, Assignment>>,
    claims: Claims,
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
        let (clock, room, assignments) = (SharedClock::default(), SharedRoom::default(), RwLock::default());
        let (claims, observe) = (Claims::default(), Box::new(observe));
        Ok(Self { state, retention, policy, clock, room, assignments, claims, observe })
    }

    /// Holds the retention directory for as long as the result lives: one master
    /// target serves it. What earlier ones knew of the clocks is taken over.
    ///
    /// # Errors
    /// [`DirectoryError::InUse`], and those of files.
    pub fn hold(&self) -> Result<Directory, DirectoryError> {
        let held = Directory::open(&self.retention.join(".master-target"), HOLDER)?;
        let (record, now) = (held.path().join(clock::RECORD), Clock::now());
        // A boot without a name is another one than any that is known.
        let boot_id = Host::here().boot_id().unwrap_or_default();
        let newest = || self.newest_point_unix_ms();
        if let Err(error) = self.clock.begin(record.clone(), boot_id, newest, self.policy.keep_seconds, now) {
            let text = format!(
                "{}: not a record of the clocks ({error}): they are judged by the newest recovery point",
                record.display()
            );
            self.notice(&Notice::new("clock-record", text));
        }
        self.claims.begin();
        for pair in self.assigned_pairs() {
            if let Ok(Some(known)) = self.look(&pair) {
                // Whoever wants to use it is told.
                let _claimed = self.claims.claim(&pair, &known.target_identity);
            }
        }
        Ok(held)
    }

    fn assigned_pairs(&self) -> Vec<PairName> {
        self.assignments.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// When the newest point of all pairs was made.
    fn newest_point_unix_ms(&self) -> Option<u64> {
        let pairs = self.assigned_pairs();
        // What cannot be read now is opened with its alarm later.
        let newest = async |pair: &PairName| {
            let view = View::open(Directory::open_read_only(&self.folder(pair)).ok()?).await.ok()?;
            view.summary().await.ok()?.points.last().map(|point| point.record.closed_unix_ms)
        };
        pairs.iter().filter_map(|pair| ring::run(newest(pair)).ok()?).max()
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

    /// What journals ask each other for.
    #[must_use]
    pub const fn room(&self) -> &SharedRoom {
        &self.room
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
        self.claims.release(pair);
    }

    /// The target of a pair.
    #[must_use]
    pub fn assignment(&self, pair: &PairName) -> Option<Assignment> {
        self.assignments.read().unwrap_or_else(PoisonError::into_inner).get(pair).cloned()
    }

    /// The pairs of a machine that have a target here.
    pub(super) fn of_machine(&self, machine: &str) -> Vec<PairName> {
        let assignments = self.assignments.read().unwrap_or_else(PoisonError::into_inner);
        assignments.keys().filter(|pair| pair.machine() == machine).cloned().collect()
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
        let (assignment, folder, known) = (self.assigned(pair)?, self.folder(pair), self.known(pair)?);
        let directory = once_free(|| Directory::open(&folder, HOLDER)).await.map_err(unready(pair))?;
        let disk = disk::open(&assignment.target, Purpose::Target).map_err(unready(pair))?;
        check_same(pair, &known, &disk)?;
        self.claim(pair, &disk)?;
        let (identity, owner) = (disk.identity().clone(), self.owner(pair, &disk).with_journal());
        let was_given_up = self.mark(pair)?.is_none();
        if was_given_up {
            self.state.check_unowned(&identity, disk.size_bytes()).map_err(unready(pair))?;
        } else {
            self.state.own(&identity, &owner).map_err(unready(pair))?;
        }
        let disk = RingDisk::new(self.noticed(disk));
        let (mut replica, _recovery) = Replica::open(disk, directory).await.map_err(unready(pair))?;
        self.check_left(pair, &mut replica, &known).await?;
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

    /// Opens the target of a pair that has a journal to look at it, on this thread's
    /// ring. Nobody writes there meanwhile; no byte of target, journal or state is changed.
    ///
    /// # Errors
    /// As [`Self::enter`].
    pub async fn see(&self, pair: &PairName) -> Result<SeenReplica, Error> {
        let (assignment, known) = (self.assigned(pair)?, self.known(pair)?);
        let opened = once_free(|| Directory::open_shared(&self.folder(pair))).await;
        let directory = opened.map_err(unready(pair))?;
        let disk = disk::open(&assignment.target, Purpose::Rehearsal).map_err(unready(pair))?;
        check_same(pair, &known, &disk)?;
        if self.mark(pair)?.is_none() {
            let text =
                format!("{pair}: its target is nobody's: points hold whatever was written to it since");
            self.notice(&Notice::new("given-up", text));
        }
        let disk = LookedAt::new(RingDisk::new(self.noticed(disk)));
        let (replica, _recovery) = Replica::open(disk, Aside::new(directory)).await.map_err(unready(pair))?;
        Ok(replica)
    }

    /// What the journal of a pair says of it, where it has one and it is its own.
    fn known(&self, pair: &PairName) -> Result<Pair, Error> {
        let known = self.look(pair)?;
        let known = known.ok_or_else(|| unready(pair)("it has no journal: its agent has never connected"))?;
        if (known.machine.as_str(), known.disk.as_str()) != (pair.machine(), pair.disk()) {
            let (machine, disk) = (&known.machine, &known.disk);
            let reason = format!("the journal in {} is of {machine}/{disk}", self.folder(pair).display());
            return Err(unready(pair)(reason));
        }
        Ok(known)
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
        if !known.state.lands() {
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
        let time = self.clock.look(Clock::now());
        let mut expired = journal.expire(&self.policy, time).map_err(unready(pair))?;
        let given_up = self.room.give(async |bytes| journal.give_up(bytes)).await.map_err(unready(pair))?;
        expired.points.extend(given_up);
        while journal.merge().await.map_err(unready(pair))? {}
        Ok(Tended::of(expired))
    }

    /// The mark on the target of a pair, where there is one.
    pub(super) fn mark(&self, pair: &PairName) -> Result<Option<Owner>, Error> {
        let folder = self.folder(pair);
        let owners = self.state.owners().map_err(unready(pair))?;
        Ok(owners.into_iter().map(|(_, owner)| owner).find(|owner| owner.retention == folder))
    }

    /// Takes the target for as long as this process serves it.
    pub(super) fn claim(&self, pair: &PairName, disk: &Disk) -> Result<(), Error> {
        match self.claims.claim(pair, &disk.identity().to_string()).map_err(unready(pair))? {
            true => Ok(()),
            false => {
                let target = disk.path().to_owned();
                Err(unready(pair)(landing::Error::Claimed { target }))
            }
        }
    }

    /// Whether the pair had a journal that is not where it was.
    #[must_use]
    pub fn has_lost_journal(&self, pair: &PairName) -> bool {
        let mark = self.mark(pair);
        mark.is_ok_and(|mark| mark.is_some_and(|owner| owner.has_journal))
            && matches!(self.look(pair), Ok(None))
    }

    pub(super) fn owner(&self, pair: &PairName, disk: &Disk) -> Owner {
        let (target, of) = (disk.path().to_owned(), (pair.machine(), pair.disk()));
        Owner::new(disk.identity(), disk.size_bytes(), target, self.folder(pair), of)
    }

    pub(super) fn keep(&self, replica: Replica<RingDisk, Directory>) -> KeptReplica {
        Kept::new(replica, self.policy, self.clock.clone(), self.room.clone())
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

    fn check(&self, pair: &PairName, visitor: &Visitor) -> Result<(), Error> {
        self.check_machine(pair, visitor)?;
        self.check_key(pair, visitor)
    }

    async fn open(&self, pair: &PairName, visitor: &Visitor) -> Result<KeptReplica, Error> {
        // Again, because the pair may have met its machine since.
        self.check(pair, visitor)?;
        let Some(known) = self.look(pair)? else { return self.create(pair, visitor).await };
        if let Some(reason) = other_size(&visitor.protect, known.size_bytes) {
            return Err(Error::Unfit { peer: visitor.protect.machine.clone(), reason });
        }
        let mut kept = self.enter(pair).await?;
        if known.machine_identity.is_empty() || known.machine_key.is_empty() {
            let (identity, key) = (&visitor.protect.machine_identity, visitor.key.to_string());
            kept.replica().remember_machine(identity, &key).await.map_err(unready(pair))?;
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

/// Opens a journal's directory. Whoever looks after it has it for a moment only.
async fn once_free(
    open: impl Fn() -> Result<Directory, DirectoryError>,
) -> Result<Directory, DirectoryError> {
    let until = Instant::now() + limits::JOURNAL_FREE_WITHIN;
    loop {
        match open() {
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

//! A freeze, from the agent's side: prepared, frozen, thawed.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use super::Error;
use super::plan::{FreezePlan, Unquiesced};
use super::record::{Record, State};
use super::recover::boot_id;
use super::watchdog::{Cause, Order, Report, Watchdog};
use crate::disk::storage::Host;
use crate::limits;

/// How long a freeze may last at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// A cut: from the first filesystem to be frozen to the last to be thawed.
    Budget(Duration),
    /// The final cut of a failback, which is not thawed: for as long as somebody
    /// asks in time whether it is still frozen, at most every
    /// [`limits::FREEZE_HOLD_MAX`]. An agent that hangs does not.
    Hold(Duration),
}

impl Default for Limit {
    fn default() -> Self {
        Self::Budget(limits::FREEZE_BUDGET)
    }
}

impl Limit {
    fn duration(self) -> Duration {
        match self {
            Self::Budget(limit) | Self::Hold(limit) => limit.min(limits::FREEZE_HOLD_MAX),
        }
    }
}

/// All filesystems of a plan, held open by the watchdog and written out; nobody
/// is stopped yet.
#[derive(Debug)]
pub struct Prepared<'w> {
    cut: Cut<'w>,
}

/// All filesystems of a plan, frozen. Thawed when it is dropped.
///
/// While this exists, do nothing that writes to a frozen filesystem: it would
/// wait until the deadline. That is opening files for writing, logging to a file,
/// and whatever does so on your behalf. Reading, also of memory that is paged in
/// from there, goes on.
#[derive(Debug)]
pub struct Frozen<'w> {
    cut: Cut<'w>,
    began_ns: u64,
    frozen_ns: u64,
    deadline: Instant,
    limit: Limit,
    ended: Option<Thawed>,
}

/// A freeze that is over. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thawed {
    /// The first filesystem was about to be frozen.
    pub began_ns: u64,
    /// The last one was frozen.
    pub frozen_ns: u64,
    /// The first one was about to be thawed.
    pub thawing_ns: u64,
    /// The last one was thawed.
    pub thawed_ns: u64,
    /// All were frozen until we asked for the thaw. Where not, the cut is void.
    pub still_valid: bool,
    /// Why they were thawed.
    pub cause: Cause,
}

impl Thawed {
    /// How long writers may have waited.
    #[must_use]
    pub fn stopped(&self) -> Duration {
        Duration::from_nanos(self.thawed_ns.saturating_sub(self.began_ns))
    }

    /// The same in whole milliseconds, begun ones counted.
    #[must_use]
    pub fn frozen_ms(&self) -> u64 {
        self.thawed_ns.saturating_sub(self.began_ns).div_ceil(1_000_000)
    }
}

/// What lies with the watchdog for one cut; given back when dropped.
#[derive(Debug)]
struct Cut<'w> {
    watchdog: &'w mut Watchdog,
    names: Vec<String>,
    unquiesced: Vec<Unquiesced>,
    superblocks: Vec<super::Superblock>,
    is_over: bool,
}

impl FreezePlan {
    /// Hands the filesystems to the watchdog, writes the freeze record and writes
    /// out what is unwritten, which may take as long as the disks need for it.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::RecordWithin`], [`Error::RecordExists`],
    /// [`Error::WatchdogBusy`] while the kernel is still within a freeze given up,
    /// and those of the watchdog, which counts as lost where writing out takes
    /// longer than [`limits::SYNC_WAIT_MAX`]. Nothing is frozen then.
    pub fn prepare<'w>(&self, watchdog: &'w mut Watchdog) -> Result<Prepared<'w>, Error> {
        let host = Host::here();
        let files = self.superblocks().iter().map(|one| one.open(&host)).collect::<Result<Vec<_>, _>>()?;
        self.check_record_folder(watchdog)?;
        watchdog.check_at_rest()?;
        let record = Record {
            boot_id: boot_id(&host)?,
            watchdog: watchdog.process(),
            filesystems: self.superblocks().iter().map(|one| (one.number, State::Untouched)).collect(),
        };
        let marks = record.create(watchdog.state())?;
        watchdog.next_cut();
        let cut = Cut {
            watchdog,
            names: self.superblocks().iter().map(ToString::to_string).collect(),
            unquiesced: self.unquiesced().to_vec(),
            superblocks: self.superblocks().to_vec(),
            is_over: false,
        };
        let count = crate::unit::to_u64(files.len());
        cut.watchdog.order(Order::Begin { count }, Some(marks.file.as_fd()))?;
        for file in &files {
            cut.watchdog.order(Order::Hold, Some(file.as_fd()))?;
        }
        let mut prepared = Prepared { cut };
        prepared.write_out()?;
        Ok(prepared)
    }

    /// Prepares and freezes.
    ///
    /// # Errors
    /// As [`FreezePlan::prepare`] and [`Prepared::freeze`].
    pub fn freeze<'w>(&self, limit: Limit, watchdog: &'w mut Watchdog) -> Result<Frozen<'w>, Error> {
        self.prepare(watchdog)?.freeze(limit)
    }

    /// The record must be writable while everything of the plan is frozen.
    fn check_record_folder(&self, watchdog: &Watchdog) -> Result<(), Error> {
        let folder = watchdog.state();
        let failed = |source| Error::Record { path: folder.to_owned(), source };
        let number = File::open(folder).and_then(|file| file.metadata()).map_err(failed)?.dev();
        let is_within = |one: &super::Superblock| one.number.to_raw() == number;
        match self.superblocks().iter().find(|one| is_within(one)) {
            Some(one) => Err(Error::RecordWithin { folder: folder.to_owned(), superblock: one.to_string() }),
            None => Ok(()),
        }
    }
}

impl<'w> Prepared<'w> {
    /// Writes out what was written since: within the freeze everybody would wait
    /// for that.
    ///
    /// # Errors
    /// As of writing out in [`FreezePlan::prepare`].
    pub fn write_out(&mut self) -> Result<(), Error> {
        self.cut.watchdog.order(Order::Sync, None)?;
        match self.cut.watchdog.report(Instant::now() + limits::SYNC_WAIT_MAX)? {
            Report::Synced => Ok(()),
            report => Err(self.cut.unexpected(report)),
        }
    }

    /// Freezes everything, in the order of the plan.
    ///
    /// # Errors
    /// [`Error::AlreadyFrozen`], [`Error::Late`], [`Error::Freeze`], and those of
    /// the watchdog. Nothing of ours is frozen then.
    pub fn freeze(mut self, limit: Limit) -> Result<Frozen<'w>, Error> {
        let deadline = Instant::now() + limit.duration();
        let renews = matches!(limit, Limit::Hold(_));
        self.cut.watchdog.order(Order::Freeze { limit: limit.duration(), renews }, None)?;
        loop {
            match self.cut.watchdog.report(deadline + limits::WATCHDOG_GRACE)? {
                Report::Unfreezable { index } => self.cut.cannot_freeze(index),
                Report::Frozen { began, frozen } => {
                    let cut = self.cut;
                    let (began_ns, frozen_ns, ended) = (began, frozen, None);
                    return Ok(Frozen { cut, began_ns, frozen_ns, deadline, limit, ended });
                }
                report => return Err(self.cut.unexpected(report)),
            }
        }
    }
}

impl<'w> Frozen<'w> {
    /// When the last filesystem was frozen, in nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn frozen_ns(&self) -> u64 {
        self.frozen_ns
    }

    /// The time that is left until the watchdog thaws.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// What writes to the disks nevertheless.
    #[must_use]
    pub fn unquiesced(&self) -> &[Unquiesced] {
        &self.cut.unquiesced
    }

    /// Whether everything is frozen still. `false` is for good: the cut is void.
    ///
    /// # Errors
    /// Those of the watchdog; nothing is frozen then.
    pub fn confirm(&mut self) -> Result<bool, Error> {
        if self.ended.is_some() {
            return Ok(false);
        }
        self.cut.watchdog.order(Order::Confirm, None)?;
        let found = self.settle(|report| (report == Report::Confirmed).then_some(true))?;
        if let Limit::Hold(_) = self.limit {
            self.deadline = Instant::now() + self.limit.duration();
        }
        Ok(found.unwrap_or(false))
    }

    /// Thaws.
    ///
    /// # Errors
    /// Those of the watchdog. [`Error::StillFrozen`] is the one that needs
    /// somebody to look at the machine; in all others nothing is frozen.
    pub fn thaw(mut self) -> Result<Thawed, Error> {
        self.end()
    }

    /// Powers the machine off while everything is frozen. Comes back only from a
    /// rehearsal.
    ///
    /// # Errors
    /// [`Error::NotFrozenAnyMore`] where the watchdog or somebody else has thawed
    /// before: the final point is void. [`Error::PowerOff`] where the kernel
    /// refuses; everything is thawed when this error is dropped with the freeze.
    pub fn power_off(mut self) -> Result<Self, Error> {
        if self.ended.is_none() {
            self.cut.watchdog.order(Order::PowerOff, None)?;
            let off = self.settle(|report| match report {
                Report::Rehearsed => Some(Ok(())),
                Report::PowerFailed { errno } => Some(Err(Error::PowerOff { source: error_of(errno) })),
                _ => None,
            })?;
            if let Some(outcome) = off {
                return outcome.map(|()| self);
            }
        }
        Err(Error::NotFrozenAnyMore { cause: self.ended.map_or(Cause::Deadline, |thawed| thawed.cause) })
    }

    /// Waits for the report that is `wanted`, or for the end of the freeze (`None`).
    fn settle<T>(&mut self, wanted: impl Fn(Report) -> Option<T>) -> Result<Option<T>, Error> {
        loop {
            let report = self.cut.watchdog.report(self.deadline + limits::WATCHDOG_GRACE)?;
            if let Some(found) = wanted(report) {
                return Ok(Some(found));
            }
            if self.note_end(report) {
                return Ok(None);
            }
        }
    }

    fn note_end(&mut self, report: Report) -> bool {
        let Report::Thawed { is_whole, cause, thawing, thawed } = report else { return false };
        let (began_ns, frozen_ns) = (self.began_ns, self.frozen_ns);
        self.ended = Some(Thawed {
            began_ns,
            frozen_ns,
            thawing_ns: thawing,
            thawed_ns: thawed,
            still_valid: is_whole && cause == Cause::Asked,
            cause,
        });
        true
    }

    fn end(&mut self) -> Result<Thawed, Error> {
        loop {
            if let Some(thawed) = self.ended {
                self.cut.close()?;
                return Ok(thawed);
            }
            // The deadline may have come first, and its report be here already.
            match self.cut.watchdog.report_so_far() {
                Some(report) => {
                    self.note_end(report);
                }
                None => {
                    self.cut.watchdog.order(Order::Thaw, None)?;
                    let deadline = Instant::now() + limits::WATCHDOG_GRACE;
                    let report = self.cut.watchdog.report(deadline)?;
                    self.note_end(report);
                }
            }
        }
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if !self.cut.is_over {
            // Whoever wanted to know how it went has called `thaw`.
            let _thawed = self.end();
        }
    }
}

impl Cut<'_> {
    fn name(&self, index: u64) -> String {
        let name = usize::try_from(index).ok().and_then(|index| self.names.get(index));
        name.cloned().unwrap_or_else(|| "the last filesystem".to_owned())
    }

    fn cannot_freeze(&mut self, index: u64) {
        let superblock = usize::try_from(index).ok().and_then(|index| self.superblocks.get(index));
        self.unquiesced.extend(superblock.cloned().map(Unquiesced::Filesystem));
    }

    /// What a report means that is not the one that was waited for.
    fn unexpected(&self, report: Report) -> Error {
        match report {
            Report::NotFrozen { index, errno: 0 } => Error::Late { superblock: self.name(index) },
            Report::NotFrozen { index, errno } if errno == u64::from(libc::EBUSY.unsigned_abs()) => {
                Error::AlreadyFrozen { superblock: self.name(index) }
            }
            Report::NotFrozen { index, errno } => {
                Error::Freeze { superblock: self.name(index), source: error_of(errno) }
            }
            Report::Busy { errno } => Error::WatchdogBusy { source: error_of(errno) },
            _ => Error::WatchdogBusy { source: error_of(u64::from(libc::EPROTO.unsigned_abs())) },
        }
    }

    /// Removes the record, if nothing of it is frozen any more.
    fn close(&mut self) -> Result<(), Error> {
        self.is_over = true;
        super::recover::close(self.watchdog.state())
    }
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let _let_go = self.watchdog.order(Order::Thaw, None);
            // A record that stays is found at the next cut, and said.
            let _closed = self.close();
        }
    }
}

fn error_of(errno: u64) -> std::io::Error {
    std::io::Error::from_raw_os_error(i32::try_from(errno).unwrap_or(libc::EIO))
}

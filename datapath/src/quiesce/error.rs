//! What can go wrong around a freeze, and what to do about it.

use std::io;
use std::path::PathBuf;

use super::watchdog::Cause;
use crate::disk::storage::StorageError;
use crate::error::{Remediable, Remedy};
use crate::limits;

/// An error of the room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine cannot be looked at.
    #[error("cannot read {} ({source}): see that /proc and /sys are mounted and run as root", path.display())]
    Unseen {
        /// What was to be read.
        path: PathBuf,
        /// Why it could not be.
        source: io::Error,
    },
    /// What a device is could not be found out.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// More filesystems than can be frozen together.
    #[error(
        "{found} filesystems rest on the disks, and at most {} are frozen together: protect fewer disks in one set",
        limits::SUPERBLOCKS_MAX
    )]
    TooMany {
        /// How many there are.
        found: usize,
    },
    /// No place of the filesystem can be opened.
    #[error(
        "{superblock}: no place where it is mounted can be opened ({source}), so it cannot be frozen: \
        unmount it, or what covers it"
    )]
    Unreachable {
        /// The filesystem.
        superblock: String,
        /// Why the last place could not be.
        source: io::Error,
    },
    /// The freeze record would lie on what is frozen.
    #[error("the freeze record in {} would lie on {superblock}, which is to be frozen: name a folder in memory, as /run/failback",
        folder.display())]
    RecordWithin {
        /// The folder of the record.
        folder: PathBuf,
        /// What it lies on.
        superblock: String,
    },
    /// A recorded freeze was not undone.
    #[error("{} tells of a freeze that was not undone: another agent runs, or this one must recover first", path.display())]
    RecordExists {
        /// The record.
        path: PathBuf,
    },
    /// The record cannot be read or written.
    #[error("the freeze record {}: {source}; see that its folder is there and writable", path.display())]
    Record {
        /// The record, or its folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The record is none of ours.
    #[error("the freeze record {} cannot be read: {what}; thaw what is frozen with `fsfreeze --unfreeze`, then remove it",
        path.display())]
    RecordDamaged {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// No watchdog could be started.
    #[error("the freeze watchdog does not start ({source}): without one nothing is frozen")]
    NoWatchdog {
        /// Why.
        source: io::Error,
    },
    /// The watchdog did not answer; nothing is frozen any more.
    #[error(
        "the freeze watchdog is lost ({source}); it was ended and everything is thawed: start another one"
    )]
    WatchdogLost {
        /// What was seen of it.
        source: io::Error,
    },
    /// The watchdog did not answer, and something may still be frozen.
    #[error(
        "the freeze watchdog is lost ({source}), and thawing failed: {undoing}; \
        look for frozen filesystems and thaw them with `fsfreeze --unfreeze`"
    )]
    StillFrozen {
        /// What was seen of the watchdog.
        source: io::Error,
        /// Why thawing failed.
        undoing: Box<Error>,
    },
    /// The watchdog cannot follow an order now.
    #[error(
        "the freeze watchdog cannot begin ({source}): an earlier freeze is not done yet; try again later"
    )]
    WatchdogBusy {
        /// What it said.
        source: io::Error,
    },
    /// Somebody else has frozen it.
    #[error(
        "{superblock} is frozen already, by somebody else (a snapshot? fsfreeze?): \
        that freeze is left alone, and the cut is for later"
    )]
    AlreadyFrozen {
        /// The filesystem.
        superblock: String,
    },
    /// The time was over before everything was frozen.
    #[error(
        "{superblock} was not frozen within the budget, so everything was thawed: \
        write less during cuts, or allow them more time"
    )]
    Late {
        /// What was being frozen.
        superblock: String,
    },
    /// The kernel refuses to freeze.
    #[error("{superblock} cannot be frozen: {source}")]
    Freeze {
        /// The filesystem.
        superblock: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel refuses to thaw.
    #[error(
        "{superblock} cannot be thawed ({source}): see what its device says in the kernel's log, \
        and thaw it with `fsfreeze --unfreeze`"
    )]
    Thaw {
        /// The filesystem.
        superblock: String,
        /// Why.
        source: io::Error,
    },
    /// The freeze was over before the machine could be powered off.
    #[error("the filesystems were thawed before the machine was powered off ({}), so the final point is void: finish again",
        cause_text(*cause))]
    NotFrozenAnyMore {
        /// Why they were.
        cause: Cause,
    },
    /// The kernel does not power the machine off.
    #[error(
        "the kernel does not power the machine off: {source}; power it off by hand while it is frozen, or finish again"
    )]
    PowerOff {
        /// Why.
        source: io::Error,
    },
}

fn cause_text(cause: Cause) -> &'static str {
    match cause {
        Cause::Asked => "it was asked for",
        Cause::Deadline => "the time was over",
        Cause::Broken => "somebody else thawed one of them",
    }
}

impl Remediable for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::AlreadyFrozen { .. }
            | Self::Late { .. }
            | Self::WatchdogLost { .. }
            | Self::WatchdogBusy { .. }
            | Self::NotFrozenAnyMore { .. } => Remedy::Retry,
            Self::TooMany { .. } | Self::RecordWithin { .. } | Self::RecordExists { .. } => Remedy::Refused,
            Self::Storage(error) => error.remedy(),
            Self::Unseen { .. }
            | Self::Unreachable { .. }
            | Self::Record { .. }
            | Self::RecordDamaged { .. }
            | Self::NoWatchdog { .. }
            | Self::StillFrozen { .. }
            | Self::Freeze { .. }
            | Self::Thaw { .. }
            | Self::PowerOff { .. } => Remedy::Stop,
        }
    }
}

//! What can go wrong on the way onto a target.

use std::io;
use std::path::PathBuf;

use crate::disk;
use crate::error::{Remediable, Remedy};

/// An error of landing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target itself failed.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// The state of targets cannot be kept.
    #[error("{}: cannot {action} the state of a target: {source}; name another folder with --state", path.display())]
    State {
        /// The file or folder.
        path: PathBuf,
        /// `read`, `write` or `remove`.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A state file that makes no sense.
    #[error("{}: is no state file of failback ({reason}); remove it after looking at it: the next run then compares everything", path.display())]
    StateCorrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A master target owns the disk, running or not.
    #[error(
        "{}: belongs to the master target that keeps its journal in {} (disk {disk} of {machine}): anything written \
         past it would make its recovery points wrong; name another target, or end that protection first: \
         `failback master-target remove {machine}/{disk}`, and take the pair out of its settings (where its host is \
         gone for good, take {} away)",
        target.display(), retention.display(), mark.display()
    )]
    Owned {
        /// The disk, as its owner names it.
        target: PathBuf,
        /// Where the owner keeps its journal.
        retention: PathBuf,
        /// Whose disk it replicates.
        machine: String,
        /// Which of them.
        disk: String,
        /// The mark that says so.
        mark: PathBuf,
    },
    /// A flush failed before; what was written before it is unknown.
    #[error(
        "an earlier flush of the target failed, so nothing that was written since the last good one is sure"
    )]
    FlushFailed,
    /// A master target that runs has the disk.
    #[error(
        "{} is the target of a master target that runs here, with another state folder: stop that one, or name its \
         folder (`--state`) to see whose it is; nothing was changed",
        .target.display()
    )]
    Claimed {
        /// The disk.
        target: PathBuf,
    },
    /// A buffer or a write was lost with its ring.
    #[error("a write was lost: {source}")]
    Lost {
        /// Why.
        source: io::Error,
    },
}

impl Remediable for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Disk(error) => error.remedy(),
            Self::State { .. } | Self::StateCorrupt { .. } | Self::Owned { .. } | Self::Claimed { .. } => {
                Remedy::Refused
            }
            Self::FlushFailed => Remedy::Stop,
            Self::Lost { .. } => Remedy::Retry,
        }
    }
}

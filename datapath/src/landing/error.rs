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
    /// A flush failed before; what was written before it is unknown.
    #[error(
        "an earlier flush of the target failed, so nothing that was written since the last good one is sure"
    )]
    FlushFailed,
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
            Self::State { .. } | Self::StateCorrupt { .. } => Remedy::Refused,
            Self::FlushFailed => Remedy::Stop,
            Self::Lost { .. } => Remedy::Retry,
        }
    }
}

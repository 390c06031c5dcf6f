//! How protecting a disk fails.

use crate::error::{Remediable, Remedy};
use crate::{disk, pipeline, ring, track, wire};

/// An error of a role.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection, or the other end.
    #[error(transparent)]
    Wire(#[from] wire::Error),
    /// The source cannot be read.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// There is no ring.
    #[error(transparent)]
    Ring(#[from] ring::Unavailable),
    /// No memory for buffers.
    #[error("no memory for the buffers of a lane: {0}")]
    Memory(#[source] std::io::Error),
    /// The tracker may have missed a change.
    #[error("{disk}: {doubt}; it is compared with its target as a whole")]
    Doubt {
        /// The disk.
        disk: String,
        /// What was missed.
        doubt: track::Doubt,
    },
    /// A delta whose chunks are not what was read at the source.
    #[error("{peer}: {source}; nothing of it was written")]
    Damaged {
        /// Who sent it.
        peer: String,
        /// What is wrong.
        source: pipeline::UnsealError,
    },
    /// The target found a delta damaged.
    #[error("{peer} found delta {number} of epoch {epoch} damaged: {reason}; it is read and sent again")]
    Remarked {
        /// Who.
        peer: String,
        /// The epoch.
        epoch: u64,
        /// The delta.
        number: u64,
        /// What it found.
        reason: String,
    },
    /// The two ends do not mean the same state of the disk.
    #[error("{peer}: {reason}")]
    Unfit {
        /// The other end.
        peer: String,
        /// What does not fit, and what helps.
        reason: String,
    },
    /// Something at the target's host is in the way; it may be gone later.
    #[error("{pair} cannot be served now: {source}")]
    Unready {
        /// Which pair.
        pair: String,
        /// What is in the way.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The target or its journal.
    #[error(transparent)]
    Landing(#[from] LandingError),
    /// A message that has no place where the disk stands.
    #[error("{peer} sent {what}, which has no place now")]
    OutOfPlace {
        /// Who.
        peer: String,
        /// What.
        what: &'static str,
    },
    /// An operator wants the disk compared.
    #[error("the disk is compared as ordered")]
    Ordered,
    /// The operation was asked to stop.
    #[error("stopped")]
    Stopped,
}

impl Remediable for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Wire(error) => error.remedy(),
            Self::Disk(error) => error.remedy(),
            Self::Ring(error) => error.remedy(),
            Self::Landing(error) => error.remedy(),
            Self::Memory(_) | Self::Stopped | Self::Ordered | Self::Unready { .. } => Remedy::Retry,
            Self::Doubt { .. } => Remedy::Resync,
            Self::Damaged { .. } | Self::Remarked { .. } => Remedy::Reconnect,
            Self::Unfit { .. } => Remedy::Refused,
            Self::OutOfPlace { .. } => Remedy::Stop,
        }
    }
}

/// What a target says when it does not take something.
#[derive(Debug, thiserror::Error)]
pub enum LandingError {
    /// The retention volume has no room; nothing was changed, and the same may
    /// be tried again.
    #[error(transparent)]
    Full(Box<dyn std::error::Error + Send + Sync>),
    /// It does not follow on what is there; nothing was changed.
    #[error(transparent)]
    Unfit(Box<dyn std::error::Error + Send + Sync>),
    /// The target or its journal failed.
    #[error(transparent)]
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl Remediable for LandingError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Full(_) => Remedy::Retry,
            Self::Unfit(_) => Remedy::Reconnect,
            Self::Failed(_) => Remedy::Stop,
        }
    }
}

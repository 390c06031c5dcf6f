//! How the agent of a machine fails, and what to do about it.

use std::io;
use std::path::PathBuf;

use crate::error::{Remediable, Remedy};
use crate::{disk, limits, quiesce, ring, track};

/// An error of a machine's agent. None of them changes anything at the target.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The state cannot be kept.
    #[error("{}: the agent's state cannot be used ({source}): see that the folder is there and writable", path.display())]
    State {
        /// What of it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The state is none of ours.
    #[error("{}: not written by this version of failback ({reason}): move it away, and the disk is compared anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A name that no point may have.
    #[error(
        "{name:?} cannot be the name of a point: up to {} bytes of one line, and neither a number nor `newest` or \
         `latest`, which mean other points",
        limits::POINT_NAME_MAX
    )]
    PointName {
        /// It.
        name: String,
    },
    /// It was bound to a machine, and it is not known to which.
    #[error(
        "{} is gone, and this agent has protected disks: on the machine that it belongs to, start it once with \
         `--bind-anew`, and every disk is compared",
        path.display()
    )]
    Unbound {
        /// Where it was.
        path: PathBuf,
    },
    /// Another agent has the state.
    #[error("{} is held by a running agent: stop it first", path.display())]
    Running {
        /// The lock.
        path: PathBuf,
    },
    /// A name that cannot be one.
    #[error("{name:?} is no name: use letters, digits, dots, hyphens and underscores")]
    Name {
        /// The name.
        name: String,
    },
    /// Two disks of one name, or one disk twice.
    #[error("{what} is given twice")]
    Twice {
        /// What.
        what: String,
    },
    /// Not a whole disk.
    #[error("disk {disk}: {} is no whole disk ({what}): name the disk itself", device.display())]
    NotWhole {
        /// The disk's name.
        disk: String,
        /// What was given.
        device: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// Another disk than the one that was bound.
    #[error("disk {disk}: {} is {found}, and {bound} is protected by that name: attach that one, or give it another name", device.display())]
    OtherDisk {
        /// The disk's name.
        disk: String,
        /// Where it is.
        device: PathBuf,
        /// What is there.
        found: String,
        /// What was there.
        bound: String,
    },
    /// The kernel does not count the disk's requests.
    #[error(
        "disk {disk}: queue/iostats is 0 and cannot be set, so what tracking misses would go unseen: set it to 1, or track by digest"
    )]
    Uncounted {
        /// The disk's name.
        disk: String,
    },
    /// No disk of that name.
    #[error("no disk {disk} is protected here: `failback agent status` lists them")]
    Unknown {
        /// The name.
        disk: String,
    },
    /// A disk that is still wanted.
    #[error("disk {disk} is still protected: take it out of the configuration and reload first")]
    InUse {
        /// The name.
        disk: String,
    },
    /// What only a new agent takes up.
    #[error("{what} cannot change while the agent runs: start it again")]
    Fixed {
        /// What.
        what: &'static str,
    },
    /// Nothing can be done now.
    #[error("{reason}")]
    NotNow {
        /// Why, and what helps.
        reason: String,
    },
    /// The disk cannot be opened.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// What a disk is cannot be told.
    #[error(transparent)]
    Storage(#[from] disk::storage::StorageError),
    /// The disk cannot be tracked.
    #[error("disk {disk}: {source}")]
    Track {
        /// The disk's name.
        disk: String,
        /// Why.
        source: track::Error,
    },
    /// Freezing.
    #[error(transparent)]
    Quiesce(#[from] quiesce::Error),
    /// No thread or ring.
    #[error(transparent)]
    Ring(#[from] ring::Unavailable),
    /// No thread is to be had.
    #[error("no thread for disk {disk}: {source}")]
    Thread {
        /// The disk's name.
        disk: String,
        /// Why.
        source: io::Error,
    },
}

impl Remediable for MachineError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::State { .. } | Self::Damaged { .. } | Self::Thread { .. } => Remedy::Stop,
            Self::Running { .. }
            | Self::Unbound { .. }
            | Self::PointName { .. }
            | Self::Name { .. }
            | Self::Twice { .. }
            | Self::NotWhole { .. }
            | Self::OtherDisk { .. }
            | Self::Uncounted { .. }
            | Self::Unknown { .. }
            | Self::InUse { .. }
            | Self::Fixed { .. } => Remedy::Refused,
            Self::NotNow { .. } => Remedy::Retry,
            Self::Disk(error) => error.remedy(),
            Self::Storage(error) => error.remedy(),
            Self::Track { source, .. } => source.remedy(),
            Self::Quiesce(error) => error.remedy(),
            Self::Ring(error) => error.remedy(),
        }
    }
}

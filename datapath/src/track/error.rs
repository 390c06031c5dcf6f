//! Why a disk is not tracked.

use std::io;
use std::path::PathBuf;

use super::btf::TypesError;
use super::device::Untrackable;
use super::kernel::LayoutError;
use super::program::Event;
use crate::error::{Remediable, Remedy};
use crate::limits;

/// An error of the tracker. Unlike a [`Doubt`](super::Doubt) it says nothing
/// about marks: there are none, or they are as they were.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a disk that can be tracked.
    #[error(transparent)]
    Untrackable(#[from] Untrackable),
    /// Not a kernel on which it can be done.
    #[error(transparent)]
    Kernel(#[from] LayoutError),
    /// Too large for its chunk.
    #[error(
        "{}: {chunks} chunks are more than {}: choose a larger chunk size",
        device.display(),
        limits::TRACKED_CHUNKS_MAX
    )]
    TooManyChunks {
        /// The disk.
        device: PathBuf,
        /// What it would have.
        chunks: u64,
    },
    /// Another agent has it.
    #[error("{} is held by another agent: a disk is tracked by one", path.display())]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// The lock itself.
    #[error("the lock {} cannot be used", path.display())]
    Lock {
        /// The lock.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No BPF filesystem.
    #[error("no BPF filesystem at {}, and none can be mounted there", path.display())]
    Filesystem {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A pin.
    #[error("the pin {} cannot be made, opened or removed", path.display())]
    Pin {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The map.
    #[error("the kernel gives no map of {pages} pages (it takes root, or CAP_BPF and CAP_PERFMON)")]
    Map {
        /// Its size.
        pages: u32,
        /// Why.
        source: io::Error,
    },
    /// A program that the kernel refuses.
    #[error("the kernel refuses the tracker's program for the {event} of requests: {log}")]
    Program {
        /// Which.
        event: Event,
        /// Why.
        source: io::Error,
        /// The end of what the verifier wrote.
        log: String,
    },
    /// A tracepoint that cannot be attached to.
    #[error("the tracker cannot be attached to the {event} of requests")]
    Attach {
        /// Which.
        event: Event,
        /// Why.
        source: io::Error,
    },
    /// The kernel does not tell what is needed.
    #[error("{what} cannot be told")]
    Facts {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Remediable for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Locked { .. } => Remedy::Retry,
            Self::Untrackable(_) | Self::Kernel(_) | Self::TooManyChunks { .. } => Remedy::Refused,
            _ => Remedy::Stop,
        }
    }
}

impl Remediable for LayoutError {
    fn remedy(&self) -> Remedy {
        Remedy::Refused
    }
}

impl Remediable for TypesError {
    fn remedy(&self) -> Remedy {
        Remedy::Refused
    }
}

//! Why nothing was measured, or not all.

use std::io;
use std::path::PathBuf;

use failback_datapath::disk::attach::AttachError;
use failback_datapath::disk::image::ImageError;
use failback_datapath::error::Remediable;
use failback_datapath::pipeline::{Cancelled, LanePanicked, UnpackError};
use failback_datapath::wire::{identity, peers, tls};
use failback_datapath::{disk, landing, resync, ring};
use indicatif::BinaryBytes;

use crate::exit::Exit;

/// An error of a measurement.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A target without the word that it may be destroyed.
    #[error(
        "everything on {} would be overwritten, and nothing was done; if you mean it, name it twice: \
         --target {} --i-know-this-destroys {}", path.display(), path.display(), path.display()
    )]
    Unconfirmed {
        /// The target.
        path: PathBuf,
    },
    /// Source and target are one storage.
    #[error("{} and {} are the same storage: {overlap}; nothing was written", source_path.display(), target.display())]
    SameStorage {
        /// The source.
        source_path: PathBuf,
        /// The target.
        target: PathBuf,
        /// What they share.
        overlap: String,
    },
    /// A disk with less than one window.
    #[error("{}: has {size_bytes} bytes, too few to measure anything", path.display())]
    TooSmall {
        /// The disk.
        path: PathBuf,
        /// Its size.
        size_bytes: u64,
    },
    /// No space for temporary disks.
    #[error(
        "{}: temporary disks need {}, and {} are free; name another --directory or a smaller --size",
        path.display(), BinaryBytes(*needed_bytes), BinaryBytes(*free_bytes)
    )]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// What they need.
        needed_bytes: u64,
        /// What is free.
        free_bytes: u64,
    },
    /// The folder for temporary disks does not do.
    #[error("{}: no temporary disk can be made there: {source}; name another --directory", path.display())]
    Directory {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The two ends of a connection found no way to each other.
    #[error("no connection on loopback: {0}")]
    Loopback(#[source] io::Error),
    /// Bytes that are not as they were written.
    #[error("{chunks} chunks of {} do not hold what was just copied there: the disk is not to be trusted", path.display())]
    Differs {
        /// The target.
        path: PathBuf,
        /// How many chunks.
        chunks: u64,
    },
    /// No memory for buffers.
    #[error("no memory for buffers: {0}")]
    Memory(#[source] io::Error),
    /// Signals cannot be handled.
    #[error("cannot handle signals: {0}")]
    Signals(#[source] io::Error),
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A disk.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// An image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A loop device.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Writing.
    #[error(transparent)]
    Landing(#[from] landing::Error),
    /// Unpacking.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// A connection.
    #[error(transparent)]
    Channel(#[from] tls::Error),
    /// A throw-away identity.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// A throw-away list of peers.
    #[error(transparent)]
    Peers(#[from] peers::Error),
    /// The pipeline.
    #[error("{}", failure.error)]
    Run {
        /// How it failed; the target held nothing worth telling of.
        failure: resync::Failure,
    },
    /// io_uring is not to be had.
    #[error(transparent)]
    Ring(#[from] ring::Unavailable),
    /// A defect, or no thread to be had.
    #[error(transparent)]
    Lane(#[from] LanePanicked),
}

impl Error {
    /// How the program ends with it.
    pub fn exit(&self) -> Exit {
        let remedy = match self {
            Self::Unconfirmed { .. }
            | Self::SameStorage { .. }
            | Self::TooSmall { .. }
            | Self::NoSpace { .. }
            | Self::Directory { .. } => return Exit::Refused,
            Self::Loopback(_) | Self::Memory(_) | Self::Signals(_) | Self::Lane(_) => return Exit::Failed,
            Self::Differs { .. } => return Exit::Differs,
            Self::Interrupted => return Exit::Interrupted,
            Self::Run { failure } => return Exit::of(failure),
            Self::Disk(error) => error.remedy(),
            Self::Image(error) => error.remedy(),
            Self::Attach(error) => error.remedy(),
            Self::Landing(error) => error.remedy(),
            Self::Unpack(error) => error.remedy(),
            Self::Channel(error) => error.remedy(),
            Self::Identity(error) => error.remedy(),
            Self::Peers(error) => error.remedy(),
            Self::Ring(error) => error.remedy(),
        };
        Exit::of_remedy(remedy)
    }
}

impl From<resync::Failure> for Error {
    fn from(failure: resync::Failure) -> Self {
        Self::Run { failure }
    }
}

impl From<Cancelled> for Error {
    fn from(_: Cancelled) -> Self {
        Self::Interrupted
    }
}

//! How a measurement fails.

use std::path::PathBuf;

use failback_datapath::disk::attach::AttachError;
use failback_datapath::disk::image::ImageError;
use failback_datapath::journal::DirectoryError;
use failback_datapath::landing::replica;
use failback_datapath::track::Untrackable;
use failback_datapath::{disk, journal, ring, track};

/// An error of the harness.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or a program.
    #[error("cannot {action} {}: {source}", path.display())]
    System {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The user has enough.
    #[error("interrupted; nothing is left behind")]
    Interrupted,
    /// A program ended badly.
    #[error("{command}: {status}\n{said}")]
    Failed {
        /// What was run.
        command: String,
        /// How it ended.
        status: String,
        /// What it said.
        said: String,
    },
    /// A program says something else than what is expected.
    #[error("{program} says nothing of {what}")]
    Answer {
        /// Which.
        program: &'static str,
        /// What is missing.
        what: &'static str,
    },
    /// It takes too long.
    #[error("waited in vain for {what}: {said}")]
    Late {
        /// For what.
        what: &'static str,
        /// The last that was seen.
        said: String,
    },
    /// There is no failback to measure.
    #[error("{}: no failback there; build it, or name one with --failback", path.display())]
    NoFailback {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The disk is not large enough for a single delta of its chunks.
    #[error("a delta without room for a chunk: the chunk size does not fit")]
    NoRoom,
    /// A delta that does not open again.
    #[error("a delta of ours does not open: {0}")]
    Delta(String),
    /// The image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The loop device.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// The retention directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The replica.
    #[error(transparent)]
    Replica(#[from] replica::Error),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// There is no ring.
    #[error(transparent)]
    Ring(#[from] ring::Unavailable),
    /// The disk cannot be tracked.
    #[error(transparent)]
    Untrackable(#[from] Untrackable),
    /// The tracker.
    #[error(transparent)]
    Track(#[from] track::Error),
}

impl Error {
    /// For `map_err`.
    pub fn at(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::System { action, path, source }
    }
}

//! How a measurement fails.

use std::path::PathBuf;

use failback_datapath::disk::attach::AttachError;
use failback_datapath::disk::image::ImageError;
use failback_datapath::journal::DirectoryError;
use failback_datapath::landing::replica;
use failback_datapath::{disk, ring};

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
    /// fio ended badly, or said something else than figures.
    #[error("fio: {0}")]
    Fio(String),
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
    /// There is no ring.
    #[error(transparent)]
    Ring(#[from] ring::Unavailable),
}

impl Error {
    /// For `map_err`.
    pub fn at(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::System { action, path, source }
    }
}

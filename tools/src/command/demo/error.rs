//! How a demo fails.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use failback_datapath::disk::attach::AttachError;
use failback_datapath::disk::image::ImageError;
use failback_datapath::error::Remediable;
use failback_datapath::resync::Failure;
use failback_datapath::wire::peers::InvalidAddress;
use failback_datapath::wire::{identity, pairing};
use failback_datapath::{disk, ring};

use super::compare::Difference;
use crate::exit::Exit;

/// An error of the demo.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    System { action: &'static str, path: PathBuf, source: io::Error },
    /// A file to be kept would take the place of another.
    #[error("{}: is there already; name another folder with --keep, or remove it first", path.display())]
    Exists { path: PathBuf },
    /// Too little room for the images.
    #[error(
        "{}: {free} bytes are free, and the demo may need {needed}; choose a smaller --size, or another place with TMPDIR",
        folder.display()
    )]
    Space { folder: PathBuf, free: u64, needed: u64 },
    /// A program of the system failed.
    #[error("{program} ended with {status}: {said}")]
    Program { program: &'static str, status: std::process::ExitStatus, said: String },
    /// A program of the system is not installed.
    #[error("{program} is not installed (Debian: {package})")]
    Missing { program: &'static str, package: &'static str },
    /// A loop device.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The source image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// An identity of one of the two hosts.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The address of the serving end.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// The pairing of the two hosts.
    #[error(transparent)]
    Pairing(#[from] pairing::Error),
    /// No ring for the pairing.
    #[error(transparent)]
    Ring(#[from] ring::Unavailable),
    /// The thread that serves ended by a defect.
    #[error("the serving thread ended by a defect: see the messages above")]
    Serving,
    /// A synchronization.
    #[error(transparent)]
    Sync(#[from] Box<Failure>),
    /// A disk cannot be read.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// One of this program's own processes or commands.
    #[error("failback {command}: {said}")]
    Failback { command: String, said: String },
    /// A point holds another moment than that of its cut.
    #[error("the point's last line is {last}, and it was cut between lines {before} and {after}")]
    OtherPoint { last: u64, before: u64, after: u64 },
    /// What came home is not what left.
    #[error("the copy differs from its source: {}", Listed(.0))]
    Differs(Vec<Difference>),
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// What makes a refusal of the system at `path` an error.
    pub fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::System { action, path, source }
    }

    /// The code that the program ends with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Interrupted => Exit::Interrupted,
            Self::Differs(_) | Self::OtherPoint { .. } => Exit::Differs,
            Self::Exists { .. } | Self::Space { .. } => Exit::Refused,
            Self::Sync(failure) => Exit::of(failure),
            Self::Attach(error) => Exit::of_remedy(error.remedy()),
            Self::Ring(error) => Exit::of_remedy(error.remedy()),
            _ => Exit::Failed,
        }
    }
}

struct Listed<'a>(&'a [Difference]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, difference) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{difference}")?;
        }
        Ok(())
    }
}

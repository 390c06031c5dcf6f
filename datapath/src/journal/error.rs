//! What can go wrong with a retention journal.

use std::io;

use super::pair::PairState;
use crate::error::{Remediable, Remedy};
use crate::unit::{Epoch, Generation};

/// An error of the journal. Each names its file on the retention volume.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on a file of the journal failed.
    #[error("cannot {action} {file} of the journal: {source}")]
    File {
        /// The file, in the pair's directory.
        file: String,
        /// What was tried.
        action: &'static str,
        /// The system's word.
        source: io::Error,
    },
    /// Bytes that were proven to be on the volume are damaged.
    #[error(
        "{file} of the journal is damaged at byte {offset}: {reason}; keep the directory, look at it with \
         `failback inspect journal`, and start the protection of this disk anew beside it"
    )]
    Damaged {
        /// The file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A file is of a version that this failback does not know.
    #[error("{file} of the journal is of version {found}; this failback knows {known}: use a newer one")]
    Version {
        /// The file.
        file: String,
        /// Its version.
        found: u16,
        /// Ours.
        known: u16,
    },
    /// The directory holds no journal.
    #[error("there is no journal here: {file} is missing")]
    Missing {
        /// The file that every journal has.
        file: String,
    },
    /// The directory holds a journal already.
    #[error("there is a journal here already; remove it or choose another directory")]
    AlreadyThere,
    /// The retention volume is full.
    #[error(
        "the retention volume is full: {needed_bytes} bytes are needed and {free_bytes} are free; \
         free space on it, shorten the retention, or unpin points"
    )]
    Full {
        /// What was needed.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// An earlier flush or write failed, so that what is on the volume is unknown.
    #[error("an earlier write to the journal failed, so its end is unknown: open it anew")]
    Broken,
    /// There is no such point, or not any more.
    #[error("there is no recovery point {epoch}; the oldest is {oldest}, the newest {newest}")]
    NoSuchPoint {
        /// Asked for.
        epoch: Epoch,
        /// The oldest there is; zero where there is none.
        oldest: Epoch,
        /// The newest there is.
        newest: Epoch,
    },
    /// Too many points are pinned.
    #[error("{pinned} points are pinned already, the most there can be: unpin one first")]
    TooManyPins {
        /// How many.
        pinned: usize,
    },
    /// A value that a pair or point cannot have.
    #[error("{what} cannot be journaled: {reason}")]
    Unfit {
        /// The thing.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// A record of another generation.
    #[error("the journal holds generation {held}, this is of {given}: compare the disks again")]
    WrongGeneration {
        /// The journal's.
        held: Generation,
        /// The record's.
        given: Generation,
    },
    /// A step out of turn.
    #[error("{what} is not possible while the pair is {state}")]
    OutOfTurn {
        /// The step.
        what: &'static str,
        /// The state of the pair.
        state: PairState,
    },
    /// A before-image does not have the digest that was recorded with it.
    #[error("the before-image of chunk {chunk} in {file} at byte {offset} is damaged")]
    DamagedImage {
        /// The chunk.
        chunk: u64,
        /// Where its image lies.
        file: String,
        /// At which byte.
        offset: u64,
    },
}

impl Error {
    pub(super) fn file(file: &str, action: &'static str, source: io::Error) -> Self {
        Self::File { file: file.to_owned(), action, source }
    }

    pub(super) fn damaged(file: &str, offset: u64, reason: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_owned(), offset, reason: reason.into() }
    }
}

impl Remediable for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::File { .. } | Self::Full { .. } => Remedy::Retry,
            Self::Damaged { .. } | Self::DamagedImage { .. } | Self::Version { .. } | Self::Broken => {
                Remedy::Stop
            }
            Self::WrongGeneration { .. } => Remedy::Resync,
            Self::Missing { .. }
            | Self::AlreadyThere
            | Self::NoSuchPoint { .. }
            | Self::TooManyPins { .. }
            | Self::Unfit { .. }
            | Self::OutOfTurn { .. } => Remedy::Refused,
        }
    }
}

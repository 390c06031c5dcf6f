//! How a synchronization fails, and what state it leaves the target in.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Remediable, Remedy};
use crate::pipeline::{Cancelled, LanePanicked};
use crate::unit::Extent;
use crate::wire::{Code, Refused};
use crate::{disk, landing, ring, wire};

/// An error of a synchronization.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A disk failed or was refused.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// The target could not be written, or its state not be kept.
    #[error(transparent)]
    Landing(#[from] landing::Error),
    /// The target is too small.
    #[error(
        "target {target} is smaller than source {source_name}: {target_bytes} bytes against {source_bytes}; \
         grow it by {} bytes or choose a larger one", source_bytes - target_bytes
    )]
    TargetSmaller {
        /// The target's name.
        target: String,
        /// Its size.
        target_bytes: u64,
        /// The source's name.
        source_name: String,
        /// Its size.
        source_bytes: u64,
    },
    /// The target is of another kind than the one asked for.
    #[error(
        "target {target} is there already and is no {wanted}, but: {found}; leave --format out to write to it as \
         it is, or name a new one"
    )]
    OtherKind {
        /// The target's name.
        target: String,
        /// What it is.
        found: disk::Kind,
        /// What `--format` asks for.
        wanted: disk::Kind,
    },
    /// Source and target are one storage.
    #[error("source {source_name} and target {target} are the same storage: {overlap}; nothing was written")]
    SameStorage {
        /// The source's name.
        source_name: String,
        /// The target's name.
        target: String,
        /// What they share.
        overlap: String,
    },
    /// The verification found bytes that are not the source's.
    #[error("{}: verification failed: {} of the target do not hold what was read from the source: {}", target.display(), count(*extents_total, "segment"), list(extents))]
    Differs {
        /// The target.
        target: PathBuf,
        /// The first of them.
        extents: Vec<Extent>,
        /// How many there are.
        extents_total: usize,
    },
    /// The other host, or the way to it.
    #[error(transparent)]
    Wire(#[from] wire::Error),
    /// An export that there is not, or that must not be used so.
    #[error("{reason}")]
    Export {
        /// Why, and what to do.
        reason: String,
    },
    /// A new image could not be made.
    #[error(transparent)]
    Image(#[from] disk::image::ImageError),
    /// A lane of the run never came.
    #[error("the other end announced more connections than it made; its lanes, or ours, are cut off")]
    LaneMissing,
    /// A run of a peer that did not end well, with what became of the target.
    #[error("{0}")]
    Failed(Box<Failure>),
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// No memory for buffers.
    #[error("no memory for the buffers of a lane: {0}")]
    Memory(#[source] io::Error),
    /// The buffers of this process are lent to other runs.
    #[error(
        "all memory for runs is lent to others that go on here; try again when one of them has ended, \
         or with fewer --streams"
    )]
    Busy,
    /// No random numbers from the system.
    #[error("the system gives no random numbers: {0}")]
    Random(#[source] io::Error),
    /// io_uring is not to be had.
    #[error(transparent)]
    Ring(#[from] ring::Unavailable),
    /// A defect, or no thread to be had.
    #[error(transparent)]
    Lane(#[from] LanePanicked),
}

/// Extents that an error lists.
const LISTED_MAX: usize = 8;

impl Error {
    pub(super) const fn memory(source: io::Error) -> Self {
        Self::Memory(source)
    }

    pub(super) fn differs(target: &Path, mut extents: Vec<Extent>) -> Self {
        let extents_total = extents.len();
        extents.truncate(LISTED_MAX);
        Self::Differs { target: target.to_owned(), extents, extents_total }
    }

    /// What to tell the other end; `None` where it knows, or is gone.
    pub(super) fn reason_for_peer(&self) -> Option<Refused> {
        let code = match self {
            Self::Failed(failure) => {
                let unfinished_cursor = failure.target.cursor_bytes();
                return failure.error.reason_for_peer().map(|reason| Refused { unfinished_cursor, ..reason });
            }
            Self::Wire(wire::Error::Refused { .. } | wire::Error::Channel(_)) => return None,
            // It broke no rule that it knows of: it may come again.
            Self::Wire(wire::Error::Slow { .. } | wire::Error::Idle { .. }) => Code::Interrupted,
            Self::Wire(_) => Code::Protocol,
            Self::Differs { .. } => Code::Differs,
            Self::Interrupted => Code::Interrupted,
            _ if self.remedy() == Remedy::Refused => Code::Refused,
            _ => Code::Failed,
        };
        let message =
            if self.is_interruption() { "it was asked to stop".to_owned() } else { self.to_string() };
        Some(Refused { code, message, unfinished_cursor: None })
    }

    /// Whether it only says that the run was asked to stop.
    #[must_use]
    pub const fn is_interruption(&self) -> bool {
        matches!(self, Self::Interrupted)
    }
}

impl From<Cancelled> for Error {
    fn from(_: Cancelled) -> Self {
        Self::Interrupted
    }
}

impl Remediable for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Disk(error) => error.remedy(),
            Self::Landing(error) => error.remedy(),
            Self::Ring(error) => error.remedy(),
            Self::Wire(error) => error.remedy(),
            Self::Failed(failure) => failure.error.remedy(),
            Self::Image(error) => error.remedy(),
            Self::LaneMissing => Remedy::Reconnect,
            Self::TargetSmaller { .. }
            | Self::SameStorage { .. }
            | Self::Export { .. }
            | Self::OtherKind { .. }
            | Self::Busy => Remedy::Refused,
            Self::Differs { .. } => Remedy::Resync,
            Self::Interrupted | Self::Memory(_) | Self::Random(_) => Remedy::Retry,
            Self::Lane(_) => Remedy::Stop,
        }
    }
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn list(extents: &[Extent]) -> String {
    extents.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The state of a target after a run that did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetState {
    /// Not a byte of it was changed by this run, and no earlier run left it unfinished.
    Untouched,
    /// It holds some of the source and is marked as unfinished; everything
    /// before the cursor (bytes) is on it.
    Unfinished {
        /// The durable cursor.
        cursor_bytes: u64,
    },
    /// It is on another host that did not say; if it was changed, that host has
    /// it marked as unfinished.
    Remote,
}

impl TargetState {
    /// The durable cursor of an unfinished target.
    #[must_use]
    pub const fn cursor_bytes(self) -> Option<u64> {
        match self {
            Self::Unfinished { cursor_bytes } => Some(cursor_bytes),
            Self::Untouched | Self::Remote => None,
        }
    }

    /// What is known of a target on another host after `error`; before a run
    /// has `begun` there, what refuses it leaves the target as it was.
    pub(super) fn of_remote(error: &Error, begun: bool) -> Self {
        let Error::Wire(wire::Error::Refused { refused, .. }) = error else {
            let refused = !begun && error.remedy() == Remedy::Refused;
            return if refused { Self::Untouched } else { Self::Remote };
        };
        match refused.unfinished_cursor {
            Some(cursor_bytes) => Self::Unfinished { cursor_bytes },
            None if refused.code == Code::Refused => Self::Untouched,
            None => Self::Remote,
        }
    }
}

impl fmt::Display for TargetState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untouched => f.write_str("the target was not changed"),
            Self::Remote => f.write_str(
                "the target's host has it marked as unfinished if anything was written; \
                 the same command again goes on from there",
            ),
            Self::Unfinished { cursor_bytes } => write!(
                f,
                "the target is unfinished and must not be used as a disk: everything before byte {cursor_bytes} \
                 is on it, the rest is not; the same command again goes on from there"
            ),
        }
    }
}

/// A run that did not end well: why, and what became of the target.
#[derive(Debug, thiserror::Error)]
#[error("{error}; {target}")]
pub struct Failure {
    /// Why.
    #[source]
    pub error: Error,
    /// What became of the target.
    pub target: TargetState,
}

/// The results of all lanes, or the error that started their end.
pub(super) fn first_error<T>(results: Vec<Result<T, Error>>) -> Result<Vec<T>, Error> {
    let mut values = Vec::with_capacity(results.len());
    let mut interrupted = None;
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(error) if error.is_interruption() => interrupted = Some(error),
            Err(error) => return Err(error),
        }
    }
    interrupted.map_or(Ok(values), Err)
}

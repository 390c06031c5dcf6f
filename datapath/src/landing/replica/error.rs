//! What can go wrong between a delta and a recovery point.

use std::io;

use crate::error::{Remediable, Remedy};
use crate::journal::{self, PairState};
use crate::unit::{Chain, DeltaNumber, Epoch, Extent, Generation};
use crate::{delta, disk};

/// An error of a replica.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target failed.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// The journal failed, or is full.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The target is not as long as the disk it replicates.
    #[error(
        "the target has {found_bytes} bytes and the disk it replicates {expected_bytes}: nothing was changed; \
         give the target the size of the disk, or protect the disk anew"
    )]
    Size {
        /// The target's.
        found_bytes: u64,
        /// The disk's.
        expected_bytes: u64,
    },
    /// A delta or a cut for another state of the target.
    #[error(
        "this is for generation {given}, and the target holds generation {held}: nothing was changed; \
         compare the two disks again"
    )]
    Generation {
        /// The delta's.
        given: Generation,
        /// The target's.
        held: Generation,
    },
    /// A delta or a cut of another epoch.
    #[error(
        "this is of epoch {given}, and epoch {open} is open: nothing was changed; go on from where the target is"
    )]
    Epoch {
        /// The delta's.
        given: Epoch,
        /// The one that is open.
        open: Epoch,
    },
    /// A gap, or a delta that landed before.
    #[error(
        "delta {given} of epoch {epoch} came where {expected} was due: nothing was changed; go on from there"
    )]
    Number {
        /// The delta's.
        given: DeltaNumber,
        /// The next.
        expected: DeltaNumber,
        /// Of this epoch.
        epoch: Epoch,
    },
    /// A delta of another disk, chunk size or digest.
    #[error("delta {place} is made for a disk of another shape ({what}): nothing was changed")]
    Shape {
        /// Which delta.
        place: delta::Place,
        /// What differs.
        what: &'static str,
    },
    /// A cut that is not the sum of what landed.
    #[error(
        "the cut of epoch {epoch} does not stand for the deltas that landed ({what}): no point was made; \
         the epoch goes on"
    )]
    Cut {
        /// The epoch.
        epoch: Epoch,
        /// What differs.
        what: &'static str,
    },
    /// A cut that continues another chain.
    #[error(
        "the cut of epoch {epoch} leads the chain to {given}, here it leads to {expected}: no point was made; \
         compare the two disks again"
    )]
    Chain {
        /// The epoch.
        epoch: Epoch,
        /// The cut's.
        given: Chain,
        /// Ours.
        expected: Chain,
    },
    /// Something that the state of the pair does not allow.
    #[error("{what} is refused while the pair is {state}: nothing was changed; {remedy}")]
    OutOfTurn {
        /// What was asked.
        what: &'static str,
        /// The state.
        state: PairState,
        /// What would help.
        remedy: &'static str,
    },
    /// An extent that is not whole chunks of the disk.
    #[error("{extent} is not whole chunks of the disk, or more than one operation takes")]
    Unaligned {
        /// The extent.
        extent: Extent,
    },
    /// Somebody else wrote to the target while it was left to itself.
    #[error(
        "{chunks} chunks of the target, the first at {first}, do not hold, or cannot be shown to hold, what was \
         written to them here: somebody else has written since, and no journal has what they held. Nothing was changed; points that share \
         them are no longer exact. Settle on what is there (`failback points commit --accept-writes`), or give the \
         target up (`failback master-target remove`) and protect the disk anew"
    )]
    ForeignWrites {
        /// How many.
        chunks: u64,
        /// The first of them.
        first: Extent,
    },
    /// A point that others wrote into.
    #[error(
        "point {point} is not exact: somebody else wrote to the target while it was left alone after it, and no \
         journal has what those chunks held. Points that were made since are exact (`failback points list` marks \
         those that are not). Where this one is good enough, take it as it is with --accept-writes"
    )]
    Inexact {
        /// The point.
        point: Epoch,
    },
    /// A before-image that the journal should have and has not.
    #[error(
        "the journal does not know what chunk {chunk} held at point {point}: stop using this journal and keep it"
    )]
    NoImage {
        /// The chunk.
        chunk: u64,
        /// The point.
        point: Epoch,
    },
    /// The pair has stopped; only opening it anew tells what is on the target.
    #[error(
        "this pair has stopped ({reason}): see to that, then open it anew; it goes on from what is durable"
    )]
    Stopped {
        /// Why.
        reason: String,
    },
    /// No memory for windows, or a window was lost with its ring.
    #[error("memory for the target's reads and writes is missing: {source}")]
    Memory {
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Whether what is on target and journal is unknown after it, so that
    /// nothing may be acknowledged before the pair was opened anew.
    pub(super) const fn stops(&self) -> bool {
        match self {
            Self::Disk(_) | Self::Memory { .. } | Self::NoImage { .. } => true,
            Self::Journal(error) => !matches!(
                error,
                journal::Error::Full { .. }
                    | journal::Error::NoSuchPoint { .. }
                    | journal::Error::TooManyPins { .. }
                    | journal::Error::Unfit { .. }
                    | journal::Error::OutOfTurn { .. }
            ),
            _ => false,
        }
    }

    /// Whether it is only that the retention volume has no room: the same step
    /// may be tried again once it has.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.needed_bytes().is_some()
    }

    /// What the retention volume had no room for.
    #[must_use]
    pub const fn needed_bytes(&self) -> Option<u64> {
        match self {
            Self::Journal(journal::Error::Full { needed_bytes, .. }) => Some(*needed_bytes),
            _ => None,
        }
    }
}

impl Remediable for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Disk(error) => error.remedy(),
            Self::Journal(error) => error.remedy(),
            Self::Generation { .. } | Self::Chain { .. } => Remedy::Resync,
            Self::Epoch { .. } | Self::Number { .. } | Self::Cut { .. } => Remedy::Reconnect,
            Self::Size { .. }
            | Self::Shape { .. }
            | Self::OutOfTurn { .. }
            | Self::Unaligned { .. }
            | Self::Inexact { .. }
            | Self::ForeignWrites { .. } => Remedy::Refused,
            Self::NoImage { .. } | Self::Stopped { .. } | Self::Memory { .. } => Remedy::Stop,
        }
    }
}

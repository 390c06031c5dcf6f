//! Why marks can no longer be trusted.

use std::path::PathBuf;

use super::program::Event;
use crate::error::{Remediable, Remedy};

/// Something may have been missed: the disk must be compared with its target
/// before anything else. What it says completes the state `ResyncRequired(…)`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// Events passed a program by, because it was at work on that processor.
    #[error("the kernel passed {events} {event} of requests by")]
    Missed {
        /// Of which kind.
        event: Event,
        /// How many.
        events: u64,
    },
    /// A command whose place the kernel does not know (SCSI or NVMe passthrough).
    #[error("{writes} commands wrote to the disk without saying where")]
    UnknownWrite {
        /// How many.
        writes: u64,
    },
    /// A write past the end of the disk as it was when tracking began.
    #[error("{writes} writes went past the end of the disk as it was known")]
    OutOfRange {
        /// How many.
        writes: u64,
    },
    /// A discard of more pieces than one event can mark.
    #[error("{requests} discards had more pieces than could be marked")]
    Overrun {
        /// How many.
        requests: u64,
    },
    /// The disk has another size.
    #[error("the disk was {known_bytes} bytes and now is {now_bytes}")]
    Resized {
        /// When tracking began.
        known_bytes: u64,
        /// Now.
        now_bytes: u64,
    },
    /// Another disk, or another medium, under the same device number.
    #[error("another disk is attached as {}", device.display())]
    Replaced {
        /// The device.
        device: PathBuf,
    },
    /// The device is gone.
    #[error("{} is gone", device.display())]
    Gone {
        /// The device.
        device: PathBuf,
    },
    /// The kernel has counted more than was seen.
    #[error("the kernel counted {missing_sectors} sectors more {what} than were tracked")]
    SectorCount {
        /// `written` or `discarded`.
        what: &'static str,
        /// By how many sectors of 512 bytes.
        missing_sectors: u64,
    },
    /// The kernel does not count, so that what was missed stays unseen.
    #[error("the kernel does not count the disk's sectors (queue/iostats is 0); write 1 there")]
    Uncounted,
    /// A program is no longer attached, or another one is in its place.
    #[error("the tracker's program for the {event} of requests is no longer attached")]
    Detached {
        /// Which one.
        event: Event,
    },
    /// An earlier agent died while it marked everything.
    #[error("marking the whole disk was interrupted")]
    Interrupted,
    /// What must be looked at cannot be.
    #[error("{} cannot be read: {reason}", path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl Doubt {
    /// Whether this is not the disk that it was: no marks make that good.
    #[must_use]
    pub const fn is_of_another_disk(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::Replaced { .. } | Self::Resized { .. })
    }
}

impl Remediable for Doubt {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Gone { .. } => Remedy::Stop,
            _ => Remedy::Resync,
        }
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

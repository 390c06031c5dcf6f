//! What an agent tells whoever watches it.

use super::status::CutStatus;
use crate::role::Disk;
use crate::telemetry::Notice;

/// Something that happened. Told while writers may wait, so whoever hears it must
/// not write to a disk before the call returns.
#[derive(Clone, Debug)]
pub enum Event {
    /// The agent is at work.
    Started {
        /// The machine's name.
        machine: String,
        /// Its disks.
        disks: Vec<String>,
    },
    /// A disk stands elsewhere.
    Disk {
        /// Which.
        disk: String,
        /// Where.
        state: Disk,
        /// Why, where there is something to say.
        reason: Option<String>,
    },
    /// Changes of a disk may have been missed.
    Doubt {
        /// Which.
        disk: String,
        /// What was missed.
        doubt: String,
    },
    /// Something went wrong and is being got over.
    Trouble {
        /// With which disk.
        disk: String,
        /// What.
        text: String,
    },
    /// Something worth knowing.
    Notice(Notice),
    /// A cut became a point of all disks, or did not.
    Cut(CutStatus),
    /// Somebody has to look.
    Alarm {
        /// Why.
        text: String,
    },
}

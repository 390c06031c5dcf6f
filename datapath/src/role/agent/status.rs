//! What is known of a protected disk at this moment, as its lane tells it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use crate::role::Disk;
use crate::unit::Epoch;
use crate::wire::{Position, Progress};

/// A protected disk at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneStatus {
    /// Where it stands.
    pub state: Disk,
    /// Why, where the state alone does not say: the doubt, the refusal.
    pub reason: Option<String>,
    /// What went wrong last and is being got over; nothing while all is well.
    pub trouble: Option<String>,
    /// What the target waits for, while it takes nothing in.
    pub waiting: Option<String>,
    /// Where the target stood when it was last heard of.
    pub position: Option<Position>,
    /// The newest point.
    pub newest: Option<NewestPoint>,
    /// How far a synchronization is.
    pub progress: Option<Progress>,
    /// Bytes of chunks that are marked.
    pub dirty_bytes: u64,
    /// Bytes of chunks that are sent, or about to be, and in no point yet.
    pub in_transit_bytes: u64,
    /// How the whole disk is passed, where its changes are not known.
    pub passes: Option<Passes>,
    /// What the lane has moved since it began.
    pub traffic: Traffic,
}

/// Passes over a disk whose changes are not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Passes {
    /// How long the last whole one took; `None` before its end.
    pub took_ms: Option<u64>,
    /// Whether nobody has written the disk since that one began.
    pub is_current: bool,
}

/// The newest point of a disk, as far as its agent knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewestPoint {
    /// The epoch that it closed.
    pub epoch: Epoch,
    /// When its cut was, in milliseconds of Unix time; `None` where an agent
    /// before this one made it.
    pub cut_unix_ms: Option<u64>,
}

/// Bytes that a lane has moved since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Read from the disk; holes are not read.
    pub read_bytes: u64,
    /// Offered to the target by their digests.
    pub offered_bytes: u64,
    /// Sent in deltas, as packed.
    pub sent_bytes: u64,
    /// Of chunks that were in transit when a connection broke, or when an
    /// earlier agent ended: what is read again because of it.
    pub reread_bytes: u64,
    /// Of what was offered: what the target did not hold, and was sent. Of chunks that
    /// are read again it is what is sent again, and what changed meanwhile.
    pub wanted_bytes: u64,
}

impl Traffic {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            read_bytes: self.read_bytes.saturating_add(other.read_bytes),
            offered_bytes: self.offered_bytes.saturating_add(other.offered_bytes),
            sent_bytes: self.sent_bytes.saturating_add(other.sent_bytes),
            reread_bytes: self.reread_bytes.saturating_add(other.reread_bytes),
            wanted_bytes: self.wanted_bytes.saturating_add(other.wanted_bytes),
        }
    }
}

impl LaneStatus {
    /// A disk that stands at `state`, and nothing more is known.
    #[must_use]
    pub const fn at(state: Disk) -> Self {
        Self {
            state,
            reason: None,
            trouble: None,
            waiting: None,
            position: None,
            newest: None,
            progress: None,
            dirty_bytes: 0,
            in_transit_bytes: 0,
            passes: None,
            traffic: Traffic {
                read_bytes: 0,
                offered_bytes: 0,
                sent_bytes: 0,
                reread_bytes: 0,
                wanted_bytes: 0,
            },
        }
    }
}

/// What a lane counts while it works.
#[derive(Debug, Default)]
pub(super) struct Counters {
    read: AtomicU64,
    offered: AtomicU64,
    sent: AtomicU64,
    repeated: AtomicU64,
    wanted: AtomicU64,
    /// Bytes of the disk that the present round has dealt with.
    pub(super) passed: AtomicU64,
}

/// What is counted.
#[derive(Clone, Copy)]
pub(super) enum Count {
    Read,
    Offered,
    Sent,
    Repeated,
    Wanted,
    /// Dealt with, whether read or not.
    Passed,
}

impl Counters {
    pub(super) fn add(&self, what: Count, bytes: u64) {
        let counter = match what {
            Count::Read => &self.read,
            Count::Offered => &self.offered,
            Count::Sent => &self.sent,
            Count::Repeated => &self.repeated,
            Count::Wanted => &self.wanted,
            Count::Passed => &self.passed,
        };
        counter.fetch_add(bytes, Relaxed);
    }

    /// A round that deals with the whole disk begins.
    pub(super) fn begin_pass(&self) {
        self.passed.store(0, Relaxed);
    }

    pub(super) fn traffic(&self) -> Traffic {
        Traffic {
            read_bytes: self.read.load(Relaxed),
            offered_bytes: self.offered.load(Relaxed),
            sent_bytes: self.sent.load(Relaxed),
            reread_bytes: self.repeated.load(Relaxed),
            wanted_bytes: self.wanted.load(Relaxed),
        }
    }
}

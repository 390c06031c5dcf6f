//! A replica: the target of a protected disk, together with its journal.
//!
//! In: deltas, offers and cuts of a source. Out: the disk as it is now, and as
//! it was at each recovery point. Invariants: what a chunk held is durable in the
//! journal before its first byte is overwritten; a point exists only after the
//! target's flush, and is what the source cut; what is refused changes nothing;
//! a number is called durable only after both flushes. Never: reads the source,
//! guesses what a crash left, acknowledges after an error.
//! Limits: `limits::QUEUE_DEPTH` windows and `limits::SMALL_WINDOWS` short operations
//! of a kind in flight, `limits::BATCH_CHUNKS_MAX` chunks a stroke,
//! `limits::STROKES_AHEAD` of them prepared, `limits::STROKES_IN_HAND` falling.
//!
//! ```text
//!          Ahead: nothing changed     InHand: side by side, one flush for several
//!          ┌───────────────────┐      ┌──────────────────────────────────────────┐
//! deltas ─>│ read old, pack    │─────>│ write journal ─> flush it ─> overwrite   │
//!          └───────────────────┘ place└──────────────────────────────────────────┘
//! checkpoint: settle ──> flush target ──> landed
//! cut:        settle ──> flush target ──> point
//! rewind:     recall what a point held ──> the same strokes ──> point
//! ```
//!
//! A step whose future is dropped before its end leaves the replica stopped:
//! opening it anew finds out what happened, as after a crash.

mod ahead;
mod error;
mod fall;
mod foreign;
mod in_flight;
mod in_hand;
mod keep;
mod land;
mod offer;
mod open;
mod overwrites;
mod point;
mod reading;
mod recall;
mod restore;
mod retention;
mod rewind;
mod step;
mod stroke;
mod view;
mod windows;

use std::rc::Rc;

use roaring::RoaringBitmap;

pub use error::Error;
pub use foreign::{ForeignWrites, OnForeignWrites};
pub use point::Cut;

use crate::delta::Manifest;
use crate::disk::Blocks;
use crate::journal::{Journal, PairState, Volume};
use crate::unit::{DeltaNumber, Epoch, Generation};
use fall::Batches;
use in_hand::InHand;
use stroke::ZeroDigests;
use windows::Windows;

/// A target disk with its journal, in the hands of one lane.
pub struct Replica<B, V: Volume> {
    disk: Rc<B>,
    journal: Journal<V>,
    /// On their way into journal and target.
    in_hand: InHand,
    /// For reads of the target; writes and reads of before-images have their own, so
    /// that none of them waits for the others.
    windows: Windows,
    writes: Windows,
    recalls: Windows,
    /// To be filled again; gone where a stroke failed half prepared.
    batches: Batches,
    zeroes: ZeroDigests,
    course: Course,
    /// Chunks of strokes since the last flush of the target.
    undurable: RoaringBitmap,
    /// What a rewind leaves free on the retention volume.
    leaves_free_bytes: u64,
    on_foreign_writes: OnForeignWrites,
    /// Why nothing goes on until it is opened anew.
    stopped: Option<String>,
    /// Hears how far a restoration is.
    restored: Option<Box<Restored>>,
}

/// Hears how many bytes of how many were looked at.
type Restored = dyn Fn(u64, u64);

/// How far the open epoch has come.
#[derive(Clone, Copy, Default)]
struct Course {
    /// The last delta that is written, durable or not.
    landed: DeltaNumber,
    /// Of all deltas up to it.
    manifest: Manifest,
}

/// Where a source goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The state that the target holds.
    pub generation: Generation,
    /// The epoch that is open.
    pub epoch: Epoch,
    /// Everything up to this delta of it has landed.
    pub landed: DeltaNumber,
    /// Everything up to this delta of it survives a power cut.
    pub durable: DeltaNumber,
    /// Of the deltas that have landed.
    pub manifest: Manifest,
    /// What may be done.
    pub state: PairState,
}

impl<B: Blocks + 'static, V: Volume> Replica<B, V> {
    /// Where it is.
    pub fn position(&self) -> Position {
        Position {
            generation: self.journal.pair().generation,
            epoch: self.journal.open_epoch(),
            landed: self.course.landed,
            durable: self.journal.landed_delta(),
            manifest: self.course.manifest,
            state: self.state(),
        }
    }

    /// Has a rewind leave so much free on the retention volume, for the other
    /// journals there: none where nobody says so.
    pub const fn leave_free(&mut self, bytes: u64) {
        self.leaves_free_bytes = bytes;
    }

    /// Its journal, to look at: points, space, the pair.
    pub const fn journal(&self) -> &Journal<V> {
        &self.journal
    }

    /// Why it has stopped, if it has: the target or the journal failed, or a
    /// step was abandoned halfway. It then does nothing until it is opened anew.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    fn state(&self) -> PairState {
        self.journal.pair().state
    }

    /// Refuses `what` in the states where deltas do not land.
    fn check_landing(&self, what: &'static str) -> Result<(), Error> {
        let remedy = match self.state() {
            PairState::Initial | PairState::Protected | PairState::Resyncing => return Ok(()),
            PairState::Corrupted => "begin its first synchronization anew",
            PairState::RollingBack => "wait until it is back at its last point",
            PairState::Fenced => "lift the fence, if the source goes on after all",
            PairState::Rewinding { .. } | PairState::Rewound { .. } => "commit a point first",
            PairState::Committed => "compare the two disks first",
        };
        Err(Error::OutOfTurn { what, state: self.state(), remedy })
    }
}

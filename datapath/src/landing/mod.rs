//! Onto the target: write, zero, flush, and remember how far it got.
//!
//! In: extents with their bytes, zero ranges, finished segments; in `replica`,
//! deltas, offers and cuts. Out: a durable target, and a cursor behind which
//! everything is on it; in `replica`, recovery points. Invariants: the cursor
//! moves only after a flush that began after its segments were written; a
//! target that is being changed is marked as unfinished before the first byte
//! is written, and the mark goes only after the last flush; a disk that a master
//! target owns is written by nobody else. Never: reads the
//! source, decides what differs from it for a run.
//! Limits: `limits::QUEUE_DEPTH` writes in flight a lane, `limits::CHECKPOINT_EVERY`.
//!
//! ```text
//! a run:           resync ──> Writer ──> target          Checkpoint, Mark: how far, unfinished
//! live protection: deltas ──> Replica ──> journal ──> target ──> point     Owner: whose it is
//! ```

pub mod replica;

mod checkpoint;
mod claim;
mod error;
mod mark;
mod owner;
mod progress;
mod writer;

pub use checkpoint::Checkpoint;
pub use claim::Claim;
pub use error::Error;
pub use mark::{Body as MarkBody, Mark, StateDirectory};
pub(crate) use mark::{make_folder, remove, replace};
pub use owner::{Owner, Ownership};
pub use progress::{Progress, Ticket};
pub use writer::Writer;

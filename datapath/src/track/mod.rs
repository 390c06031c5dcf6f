//! Which chunks of a protected disk changed, without a kernel module.
//!
//! In: requests of the kernel's block layer, seen by two small programs; points
//! from whoever sends. Out: chunks to read. Invariants: a mark is forgotten only
//! when its epoch is a point; what may have been missed is a [`Doubt`], never
//! passed over; whatever kills the agent, marks stay in the kernel. Never: reads
//! or writes a disk, calls anything good by itself after a doubt, grows after it
//! was opened. Limits: `limits::TRACKED_CHUNKS_MAX` chunks, of which the kernel
//! holds three bits each, and a 63rd of that for coarse marks.
//!
//! ```text
//! issue ──program──┐                    ┌─> in transit (even epochs) ─┐
//!                  ├─> dirty ──drain──> │                             ├─ confirmed ─> forgotten
//! completion ──────┘      ^             └─> in transit (odd epochs) ──┘
//!                         └──── give_back, restart ────┘
//! ```
//!
//! A chunk is marked when a request for it completes (from then on somebody may
//! count on it), and when it is issued (from then on it may change). Drain, then
//! read: what changes after the read is marked anew.

mod assembler;
mod attached;
mod btf;
mod chunk_set;
mod count;
mod device;
mod digest_only;
mod doubt;
mod error;
mod header;
mod install;
mod kernel;
mod layout;
mod look;
mod marks;
mod pins;
mod probe;
mod program;
mod source;
mod tracker;

pub use btf::TypesError;
pub use chunk_set::ChunkSet;
pub use device::{Device, Untrackable};
pub use digest_only::DigestOnly;
pub use doubt::Doubt;
pub use error::Error;
pub use kernel::LayoutError;
pub use layout::Geometry;
pub use look::Look;
pub use marks::Parity;
pub use pins::Place;
pub use probe::{Fact, facts};
pub use program::Event;
pub use source::{ChangeSource, Drained, Statistics};
pub use tracker::Tracker;

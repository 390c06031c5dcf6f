//! Which chunks of a protected disk changed, without a kernel module.
//!
//! In: requests of the kernel's block layer, seen by two small programs; points
//! from whoever sends. Out: chunks to read. Invariants: a mark is forgotten only
//! when its epoch is a point; what may have been missed is a [`Doubt`], never
//! passed over; whatever kills the agent, marks stay in the kernel. Never: reads
//! or writes a disk, calls anything good by itself after a doubt, grows after it
//! was opened. Limits: `limits::TRACKED_CHUNKS_MAX` chunks, of which the kernel
//! holds three bits each.
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
mod btf;
mod chunk_set;
mod kernel;
mod layout;
mod program;

pub use btf::TypesError;
pub use chunk_set::ChunkSet;
pub use kernel::LayoutError;
pub use layout::Geometry;
pub use program::Event;

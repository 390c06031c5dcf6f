//! One door to everything that holds blocks: block devices, loop devices, raw
//! images, VMDK images with flat extents.
//!
//! In: a path and what it is wanted for. Out: a [`Disk`], whose bytes a lane
//! reads and writes by [`RingDisk`]. Invariants: a target that is mounted, held,
//! read-only or somebody else's is refused before it is opened for writing; a
//! claim on it is held until the last clone of the [`Disk`] is gone; a
//! descriptor is never written. Never: changes a target's size, follows a
//! descriptor out of its directory, guesses.
//! Limits: `limits::PIECES_MAX` pieces, `limits::DESCRIPTOR_BYTES_MAX`.
//!
//! ```text
//! disk offset ──Piece──> file index, file offset ──Backing──> direct fd │ buffered fd
//! ```

pub mod attach;
pub mod guard;
pub mod image;
pub mod storage;
pub mod vmdk;

mod allocate;
mod backing;
mod blocks;
mod error;
mod holes;
mod kind;
mod open;
mod piece;
mod ring_disk;
mod writes;

pub use blocks::Blocks;
pub use error::Error;
pub use holes::HoleCursor;
pub use kind::Kind;
pub use open::{Disk, Purpose, open};
pub use piece::{Piece, Place};
pub use ring_disk::RingDisk;
pub use writes::{WriteMark, Written};

//! The parcel in which changed chunks travel: one delta of one epoch.
//!
//! In: chunks as they were read, with the digests made from just those bytes.
//! Out: the same chunks at the target, verified, or an error. Invariants: a
//! delta names the state that it applies to and its number there; its entries
//! ascend and never overlap; an [`Opened`] exists only after the bytes of each
//! data entry had their digest. Never: does I/O, compresses, chooses a digest
//! (the pipeline does, [`crate::pipeline::seal`] and [`crate::pipeline::unseal`]).
//! Limits: `limits::DELTA_BYTES_MAX` of plain bytes, `limits::DELTA_ENTRIES_MAX`.
//!
//! ```text
//! Filling ──place──> Filled ──packed──> Packed ──wire──> Packed ──verified──> Opened
//!  chunks            head + plain       head + packed                         head + plain
//! ```
//!
//! A delta in bytes, little-endian; what is packed is the plain bytes of all data
//! entries, one after the other:
//!
//! ```text
//! header, 80 bytes                          entry, 40 bytes, 1 to 1024 of them
//!  0  "FBDELTA", version 1                   0  offset, u64
//!  8  codec u8, digest algorithm u8,         8  length, u64
//!     log2 of the chunk u8, zero u8         16  kind: 1 data (one chunk), 2 zero (any)
//! 12  entries, u32                          17  zero, 7 bytes
//! 16  generation: incarnation u64,          24  digest of the chunk; zero for kind 2
//! 24              number u64
//! 32  epoch, u64, from 1 on                then the packed bytes
//! 40  number in the epoch, u64, from 1 on
//! 48  plain bytes u32, packed bytes u32
//! 56  size of the disk, u64
//! 64  checksum: BLAKE3 of bytes 0 to 64 and of all entries, 16 bytes of it
//! ```

mod algorithm;
mod codec;
mod entry;
mod error;
mod filling;
mod head;
mod header;
mod manifest;
mod packed;
#[cfg(test)]
mod tests;

pub use algorithm::DigestAlgorithm;
pub use codec::Codec;
pub use entry::{Content, ENTRY_BYTES, Entry};
pub use error::Error;
pub use filling::{Filled, Filling, NoRoom};
pub use head::Head;
pub use header::{HEADER_BYTES, Header, Place, Shape};
pub use manifest::Manifest;
pub use packed::{Opened, Packed};

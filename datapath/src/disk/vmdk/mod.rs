//! VMDK images with flat extents: a text file that names the files which hold
//! the disk's bytes.
//!
//! In: the bytes of a descriptor, and its path. Out: a [`Descriptor`], and where
//! each of its extents lies ([`locate`]); for a new image, the text and the files
//! to make ([`Layout`]). Invariants: what a descriptor does not say clearly is
//! refused, never guessed; no extent lies outside the descriptor's directory, in
//! the descriptor itself, or in the bytes of another extent. Never: writes a
//! file, reads an extent, follows a snapshot to its parent.
//! Limits: `limits::DESCRIPTOR_BYTES_MAX`, `limits::PIECES_MAX`,
//! `limits::DISK_BYTES_MAX`.
//!
//! ```text
//! # Disk DescriptorFile
//! version=1                                  disk ┌──────────┬──────────┬────────┐
//! CID=764899c3                                    │ extent 0 │ extent 1 │ zeroes │
//! parentCID=ffffffff                              └────┬─────┴────┬─────┴────────┘
//! createType="twoGbMaxExtentFlat"                      │          │
//! RW 4194304 FLAT "disk-f001.vmdk" 0   ────────────────┘          │
//! RW 4194304 FLAT "disk-f002.vmdk" 0   ───────────────────────────┘
//! RW 2097152 ZERO
//! ```
//!
//! The format: VMware, *Virtual Disk Format 5.0*; where that is silent, what
//! VMware's products and qemu write and read. Key words are read without regard
//! to case. One sector is 512 bytes, whatever the sector size of the disk.

mod create;
mod descriptor;
mod encoding;
mod error;
mod extent_line;
mod locate;
mod sniff;

pub use create::{Layout, LayoutError, LayoutFile};
pub use descriptor::{CreateType, Descriptor, Entry};
pub use encoding::Encoding;
pub use error::{Advice, DescriptorError, Field};
pub use extent_line::{Access, ExtentKind, ExtentLine};
pub use locate::{FileIdentity, LocateError, LocateFault, Located, locate};
pub use sniff::{Sniff, is_descriptor, sniff};

/// Bytes of a sector, the unit of every size and offset in a descriptor.
pub const SECTOR_BYTES: u64 = 512;

#[cfg(test)]
pub(in crate::disk) mod tests;

//! The one room with `unsafe`: memory for direct I/O, and system calls that no
//! safe crate offers.
//!
//! In: sizes, file descriptors. Out: safe values. Invariants: each `unsafe`
//! block states why it is sound; nothing here keeps a pointer past the value
//! that owns the memory. Never: decides anything, retries, prints.
//! Limits: an [`Arena`] is as large as its caller asks, and callers ask for
//! `limits::BUFFERS_PER_RUN` windows at most.

pub mod bpf;
pub mod loopback;

mod arena;
mod clock;
mod descriptors;
mod device;
mod file;
mod freezing;
mod locking;
mod process;

pub use arena::{Arena, BUFFER_ALIGNMENT, Buffer};
pub use clock::clock_is_synchronized;
pub use descriptors::{receive_message, send_message};
pub use device::{MappedLine, device_is_read_only, device_size_bytes, logical_sector_bytes, mapped_lines};
pub use file::{
    OpenMode, direct_alignment, forget_cached, next_data, open_disk_file, punch_hole_flags, zero_range_flags,
};
pub use freezing::{freeze, thaw};
pub use locking::{lock_memory, lock_process};
pub use process::{IoPriority, process_descriptor, rank_cpu, rank_io};

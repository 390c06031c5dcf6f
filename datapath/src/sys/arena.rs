//! Aligned memory for direct I/O: one mapping cut into equal buffers.
//!
//! One mapping, because the kernel pins the pages of every direct operation:
//! with huge pages a window of 1 MiB is one page to pin, not 256.

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::Arc;

use tokio_uring::buf::{IoBuf, IoBufMut};

/// Every buffer starts at a multiple of this many bytes, which satisfies
/// `O_DIRECT` on every device with sectors up to 4096 bytes.
pub const BUFFER_ALIGNMENT: usize = 4096;

const HUGE_PAGE: usize = 2 << 20;

/// An anonymous mapping, unmapped when its last buffer is gone.
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping is plain memory that belongs to no thread; the buffers
// cut from it never overlap, so no two threads reach the same byte through it.
unsafe impl Send for Mapping {}
// SAFETY: as above; `Mapping` itself offers no access to its bytes.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(length: usize) -> io::Result<Self> {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice
        // touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start =
            NonNull::new(start.cast::<u8>()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        // SAFETY: the range is the mapping just made. A kernel without huge
        // pages refuses the advice, which costs speed only.
        unsafe { libc::madvise(start.as_ptr().cast(), length, libc::MADV_HUGEPAGE) };
        Ok(Self { start, length })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping that this value made and nobody
        // else unmaps; the last buffer is gone, because buffers hold an `Arc`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// Makes buffers for direct I/O.
pub struct Arena;

impl Arena {
    /// Maps `count` buffers of `size` bytes each, all zero, each aligned to
    /// [`BUFFER_ALIGNMENT`]. `size` is rounded up to that alignment.
    ///
    /// # Errors
    /// Those of `mmap(2)`, and `InvalidInput` where the product overflows.
    pub fn buffers(count: usize, size: NonZeroUsize) -> io::Result<Vec<Buffer>> {
        let overflow =
            || io::Error::new(io::ErrorKind::InvalidInput, "buffers larger than the address space");
        let size = size.get().checked_next_multiple_of(BUFFER_ALIGNMENT).ok_or_else(overflow)?;
        let length = size.checked_mul(count.max(1)).ok_or_else(overflow)?;
        let with_slack = length.checked_add(HUGE_PAGE).ok_or_else(overflow)?;
        let mapping = Arc::new(Mapping::new(with_slack)?);
        let first = mapping.start.as_ptr().align_offset(HUGE_PAGE).min(HUGE_PAGE);
        Ok((0..count)
            .map(|index| Buffer { mapping: Arc::clone(&mapping), begin: first + index * size, size })
            .collect())
    }
}

/// A piece of an [`Arena`]: owned, aligned, always initialised.
pub struct Buffer {
    mapping: Arc<Mapping>,
    begin: usize,
    size: usize,
}

impl Buffer {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the range lies in the mapping, is initialised (anonymous
        // mappings are zero), and belongs to this buffer alone.
        unsafe { std::slice::from_raw_parts(self.pointer(), self.size) }
    }

    /// Its bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(), self.size) }
    }

    fn pointer(&self) -> *mut u8 {
        // SAFETY: `begin` lies within the mapping (`Arena::buffers` cut it so).
        unsafe { self.mapping.start.as_ptr().add(self.begin) }
    }
}

// SAFETY: the pointer is into a mapping that stays where it is until the last
// buffer is dropped, and moving the `Buffer` moves none of its bytes. All of
// its bytes are initialised from the start.
unsafe impl IoBuf for Buffer {
    fn stable_ptr(&self) -> *const u8 {
        self.pointer()
    }

    fn bytes_init(&self) -> usize {
        self.size
    }

    fn bytes_total(&self) -> usize {
        self.size
    }
}

// SAFETY: as for `IoBuf`; there is nothing to record about initialised bytes.
unsafe impl IoBufMut for Buffer {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.pointer()
    }

    unsafe fn set_init(&mut self, _length: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_zero_and_apart() -> io::Result<()> {
        let mut buffers = Arena::buffers(3, NonZeroUsize::new(5000).ok_or(io::ErrorKind::Other)?)?;
        for (index, buffer) in buffers.iter_mut().enumerate() {
            assert_eq!(buffer.pointer() as usize % BUFFER_ALIGNMENT, 0);
            assert_eq!(buffer.bytes().len(), 8192);
            assert!(buffer.bytes().iter().all(|byte| *byte == 0));
            buffer.bytes_mut().fill(u8::try_from(index + 1).unwrap_or(9));
        }
        for (index, buffer) in buffers.iter().enumerate() {
            assert!(buffer.bytes().iter().all(|byte| usize::from(*byte) == index + 1));
        }
        Ok(())
    }

    #[test]
    fn impossible_sizes_are_errors() {
        assert!(Arena::buffers(usize::MAX, NonZeroUsize::MAX).is_err());
    }
}

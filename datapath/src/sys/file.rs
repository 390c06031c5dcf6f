//! Opening files for disk I/O, where their data lies, and how they must be aligned.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek64};

/// How a file of a disk is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenMode {
    /// Open for writing too.
    pub write: bool,
    /// Bypass the page cache.
    pub direct: bool,
    /// Claim a block device for this process alone (`O_EXCL`).
    pub exclusive: bool,
}

/// Opens `path` for disk I/O. Never creates, never truncates, never waits for
/// a peer (a FIFO would block an ordinary open for ever).
///
/// # Errors
/// Those of `open(2)`: `EBUSY` for a block device in use where `exclusive`,
/// `EINVAL` where the filesystem has no direct I/O.
pub fn open_disk_file(path: &Path, mode: OpenMode) -> io::Result<File> {
    let mut flags = libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    if mode.direct {
        flags |= libc::O_DIRECT;
    }
    if mode.exclusive {
        flags |= libc::O_EXCL;
    }
    OpenOptions::new().read(true).write(mode.write).custom_flags(flags).open(path)
}

/// The alignment in bytes that direct I/O on `file` needs for offsets, lengths
/// and memory; `None` where the kernel does not say (before Linux 6.1, or no
/// direct I/O on this filesystem).
#[must_use]
pub fn direct_alignment(file: &File) -> Option<u32> {
    let mut status = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is a valid empty string, AT_EMPTY_PATH makes the call
    // about the descriptor, and `status` is memory of the right size.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            status.as_mut_ptr(),
        )
    };
    if result != 0 {
        return None;
    }
    // SAFETY: the structure was zeroed, and every bit pattern of it is valid.
    let status = unsafe { status.assume_init() };
    if status.stx_mask & libc::STATX_DIOALIGN == 0 || status.stx_dio_offset_align == 0 {
        return None;
    }
    Some(status.stx_dio_offset_align.max(status.stx_dio_mem_align))
}

/// The first byte at or after `offset` that may hold data, by `SEEK_DATA`;
/// `None` where only a hole follows. A file that knows no holes answers
/// `offset` itself.
///
/// # Errors
/// Those of `lseek(2)` other than "no data" and "not supported".
pub fn next_data(file: &File, offset: u64) -> io::Result<Option<u64>> {
    let Ok(position) = i64::try_from(offset) else { return Ok(None) };
    match lseek64(file.as_fd(), position, Whence::SeekData) {
        Ok(found) => Ok(Some(u64::try_from(found).unwrap_or(offset).max(offset))),
        Err(Errno::ENXIO) => Ok(None),
        Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ESPIPE) => Ok(Some(offset)),
        Err(errno) => Err(errno.into()),
    }
}

/// Flags for `fallocate(2)` that turn a range into a hole: on a block device
/// that is a write of zeroes that may discard.
#[must_use]
pub const fn punch_hole_flags() -> i32 {
    libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE
}

/// Flags for `fallocate(2)` that zero a range and keep it allocated.
#[must_use]
pub const fn zero_range_flags() -> i32 {
    libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE
}

/// Asks the kernel to forget clean cached pages of `file`. Where it declines,
/// later reads may come from memory, which is all that is lost.
pub fn forget_cached(file: &File) {
    let advice = nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED;
    let _declined = nix::fcntl::posix_fadvise(file, 0, 0, advice);
}

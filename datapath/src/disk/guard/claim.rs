//! Claims: the kernel's word that nobody else writes while we do.
//!
//! | | block device | regular file |
//! | --- | --- | --- |
//! | target | opened with `O_EXCL` besides: keeps out mounts, swap, volumes and other targets, on its partitions and its disk too | write lock on the whole file |
//! | source | nothing (readers do not disturb each other) | read lock on qemu's bytes "somebody reads" and, unless live, "nobody may write" |
//!
//! File locks are open file description locks (`F_OFD_SETLK`), as qemu takes
//! them: bytes from 100 on say what a program does with an image (100 reads, 101
//! writes), bytes from 200 on what it does not let others do. A source therefore
//! locks just two of them, so that a virtual machine may go on reading beside
//! us; the target locks all, so that no virtual machine starts on it. Locks are
//! advisory: `dd` does not ask. Each claim opens the file anew, so that its lock is
//! its own and ends with it.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use super::{Access, Refusal, explain_open};
use crate::disk::storage::is_block_device;
use crate::sys::{self, OpenMode};
use crate::telemetry::Notice;

/// qemu's byte for "I read consistent data".
const READS: i64 = 100;
/// qemu's byte for "I write".
const WRITES: i64 = 101;
/// qemu's byte for "nobody else may write".
const NO_OTHER_WRITES: i64 = 201;

/// A process that only asks whether a device is held holds it for that moment;
/// after this pause it is done.
const PROBE_PAUSE: Duration = Duration::from_millis(50);

/// A claim on a file or device, given back when dropped.
#[derive(Debug)]
pub struct Claim {
    /// Opened by and for the claim alone: closing it gives up the lock.
    _held: Option<File>,
    notice: Option<Notice>,
}

impl Claim {
    /// What it could not do.
    #[must_use]
    pub const fn notice(&self) -> Option<&Notice> {
        self.notice.as_ref()
    }
}

/// Claims a target for this run. `file` is open in any way, not exclusively.
///
/// # Errors
/// [`Refusal::HeldExclusively`], [`Refusal::Locked`], [`Refusal::Claim`], and
/// those of [`explain_open`] for opening it.
pub fn claim_target(path: &Path, file: &File) -> Result<Claim, Refusal> {
    if is_block_device(&metadata(path, file)?) {
        // For reading: the claim is the same, and no closed writer wakes up udev.
        let mode = OpenMode { write: false, direct: false, exclusive: true };
        let held = open_again(file, mode).map_err(|error| explain_open(path, Access::Writing, error))?;
        return Ok(Claim { _held: Some(held), notice: None });
    }
    let mode = OpenMode { write: true, direct: false, exclusive: false };
    let held = open_again(file, mode).map_err(|error| explain_open(path, Access::Writing, error))?;
    lock_file(path, held, libc::F_WRLCK, &[(0, 0)])
}

/// Claims a source for this run: others may read, a target may not be made of
/// it; and unless `live`, virtual machines that would write do not start.
///
/// # Errors
/// [`Refusal::Locked`], [`Refusal::Claim`], and those of [`explain_open`].
pub fn claim_source(path: &Path, file: &File, live: bool) -> Result<Claim, Refusal> {
    if is_block_device(&metadata(path, file)?) {
        return Ok(Claim { _held: None, notice: None });
    }
    let mode = OpenMode { write: false, direct: false, exclusive: false };
    let held = open_again(file, mode).map_err(|error| explain_open(path, Access::Reading, error))?;
    let bytes: &[_] = if live { &[(READS, 1)] } else { &[(READS, 1), (NO_OTHER_WRITES, 1)] };
    lock_file(path, held, libc::F_RDLCK, bytes)
}

fn metadata(path: &Path, file: &File) -> Result<Metadata, Refusal> {
    file.metadata().map_err(|source| Refusal::Claim { path: path.to_owned(), source })
}

/// Locks these bytes of `file`, an open file of our own.
fn lock_file(path: &Path, file: File, kind: i32, bytes: &[(i64, i64)]) -> Result<Claim, Refusal> {
    for (start, length) in bytes {
        let wanted = lock(kind, *start, *length);
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&wanted)) {
            Ok(_) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => {
                let process = holder(&file, wanted).and_then(|other| u32::try_from(other.l_pid).ok());
                let process = process.filter(|process| *process > 0);
                return Err(Refusal::Locked { path: path.to_owned(), process });
            }
            Err(Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => {
                let text = format!(
                    "{}: its filesystem has no file locks, so nothing keeps others from writing to it",
                    path.display()
                );
                return Ok(Claim { _held: None, notice: Some(Notice::new("no-locks", text)) });
            }
            Err(errno) => return Err(Refusal::Claim { path: path.to_owned(), source: errno.into() }),
        }
    }
    Ok(Claim { _held: Some(file), notice: None })
}

/// Whether a program holds the lock of somebody who writes to the file. One
/// who locks the whole file for reading is none.
pub(super) fn is_being_written(file: &File) -> bool {
    holder(file, lock(libc::F_WRLCK, WRITES, 1))
        .is_some_and(|other| other.l_type == lock_kind(libc::F_WRLCK) || other.l_start >= READS)
}

/// Whether somebody holds the block device exclusively.
pub(super) fn is_held_exclusively(file: &File) -> bool {
    let mode = OpenMode { write: false, direct: false, exclusive: true };
    let busy = || open_again(file, mode).is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY));
    busy() && {
        std::thread::sleep(PROBE_PAUSE);
        busy()
    }
}

/// Opens the very file that is open already, whatever its path names by now.
fn open_again(file: &File, mode: OpenMode) -> io::Result<File> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    sys::open_disk_file(&path, mode)
}

/// The lock that stands against `wanted`, if any.
fn holder(file: &File, wanted: libc::flock) -> Option<libc::flock> {
    let mut other = wanted;
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut other)).ok()?;
    (other.l_type != lock_kind(libc::F_UNLCK)).then_some(other)
}

/// A lock on `length` bytes from `start`; a length of zero is "all that follow".
fn lock(kind: i32, start: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: lock_kind(kind),
        l_whence: lock_kind(libc::SEEK_SET),
        l_start: start,
        l_len: length,
        l_pid: 0,
    }
}

/// The constants are `int`s below three, the fields `short`s.
fn lock_kind(constant: i32) -> i16 {
    i16::try_from(constant).unwrap_or(i16::MAX)
}

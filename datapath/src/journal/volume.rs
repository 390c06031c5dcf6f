//! What the journal asks of the retention volume: one flat directory of files.

use std::future::Future;
use std::io;
use std::ops::Range;

use crate::limits;
use crate::sys::Buffer;

/// A directory on the retention volume. The seam under which crash tests put a
/// directory that forgets what was not flushed.
///
/// A file's bytes are durable after [`VolumeFile::flush`]; its name, its size and
/// its renaming after [`Volume::flush_directory`] as well.
pub trait Volume: Clone + 'static {
    /// One of its files.
    type File: VolumeFile + 'static;

    /// Makes a new file of `size_bytes` zeroes with their space allocated.
    ///
    /// # Errors
    /// `AlreadyExists`; `StorageFull`, and then no file is left.
    fn create(&self, name: &str, size_bytes: u64) -> io::Result<Self::File>;

    /// Opens a file; for reading only where `writable` is false.
    ///
    /// # Errors
    /// `NotFound` and others of `open(2)`.
    fn open(&self, name: &str, writable: bool) -> io::Result<Self::File>;

    /// Gives `from` the name `to`, in place of the file that had it.
    ///
    /// # Errors
    /// Those of `rename(2)`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Takes a file away.
    ///
    /// # Errors
    /// Those of `unlink(2)`.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of all files, in no order.
    ///
    /// # Errors
    /// Those of `readdir(3)`.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Makes names durable: creations, renamings, removals.
    ///
    /// # Errors
    /// Those of `fsync(2)`.
    fn flush_directory(&self) -> io::Result<()>;

    /// What is left on the volume for this user, in bytes.
    ///
    /// # Errors
    /// Those of `statvfs(3)`.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Entries of the open epoch that are kept in memory before they are written
    /// here as a run.
    fn open_entries_max(&self) -> usize {
        limits::OPEN_ENTRIES_MAX
    }
}

/// A file on the retention volume.
pub trait VolumeFile {
    /// Its size.
    ///
    /// # Errors
    /// Those of `fstat(2)`.
    fn size_bytes(&self) -> io::Result<u64>;

    /// Fills `range` of `buffer` from `position` on: whole, or an error.
    fn read(
        &self,
        position: u64,
        buffer: Buffer,
        range: Range<usize>,
    ) -> impl Future<Output = (io::Result<()>, Buffer)>;

    /// Writes `range` of `buffer` at `position`, growing the file where it ends
    /// before: whole, or an error.
    fn write(
        &self,
        position: u64,
        buffer: Buffer,
        range: Range<usize>,
    ) -> impl Future<Output = (io::Result<()>, Buffer)>;

    /// Makes its completed writes and its size durable.
    fn flush(&self) -> impl Future<Output = io::Result<()>>;
}

//! A disk on this lane's ring: reads, writes, zeroes and flushes by extent.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;

use super::piece::{Place, parts};
use super::{Disk, Error};
use crate::limits;
use crate::ring;
use crate::sys::{self, Arena, Buffer};
use crate::unit::{Extent, to_u64, to_usize};

/// Files of a composite disk that a lane keeps on its ring. Lanes walk a disk
/// in order, so more would only cost descriptors.
const FILES_ON_RING: usize = 16;

/// A disk on this thread's ring.
#[derive(Clone)]
pub struct RingDisk {
    disk: Arc<Disk>,
    files: Rc<RefCell<HashMap<usize, Rc<RingFile>>>>,
}

struct RingFile {
    direct: Option<ring::File>,
    buffered: ring::File,
    zeroing: Cell<Zeroing>,
}

/// Ways to zero a range, the cheapest first: of each file, the first that it has
/// not refused yet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Zeroing {
    Punch,
    Range,
    Write,
}

impl RingDisk {
    /// Puts `disk` on this thread's ring.
    #[must_use]
    pub fn new(disk: Arc<Disk>) -> Self {
        Self { disk, files: Rc::default() }
    }

    /// The disk itself.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Reads `extent` into the start of `buffer`.
    ///
    /// The buffer comes back whatever happens.
    pub async fn read(&self, extent: Extent, mut buffer: Buffer) -> (Result<(), Error>, Buffer) {
        for part in parts(&self.disk.pieces, extent) {
            let begin = to_usize(part.extent.offset() - extent.offset());
            let end = begin + to_usize(part.extent.length());
            match part.place {
                Place::Zero => buffer.bytes_mut()[begin..end].fill(0),
                Place::File { index, position, .. } => {
                    let file = match self.file(index) {
                        Ok(file) => file,
                        Err(source) => return (Err(self.failed("read", index, part.extent, source)), buffer),
                    };
                    let chosen = self.choose(&file, index, position, begin, end);
                    let (result, back) = chosen.read(buffer, begin..end, position).await;
                    buffer = back;
                    if let Err(source) = result {
                        return (Err(self.failed("read", index, part.extent, source)), buffer);
                    }
                }
            }
        }
        (Ok(()), buffer)
    }

    /// Writes `extent` from `buffer`, beginning at its byte `from`.
    ///
    /// The buffer comes back whatever happens; after an error the extent holds
    /// old bytes, new bytes, or some of each.
    pub async fn write(
        &self,
        extent: Extent,
        mut buffer: Buffer,
        from: usize,
    ) -> (Result<(), Error>, Buffer) {
        for part in parts(&self.disk.pieces, extent) {
            let begin = from + to_usize(part.extent.offset() - extent.offset());
            let end = begin + to_usize(part.extent.length());
            let (index, position) = match part.place {
                Place::File { index, position, writable: true } => (index, position),
                Place::File { writable: false, .. } => {
                    return (Err(self.unwritable(part.extent, "read-only")), buffer);
                }
                // A chunk may reach over the border of such an extent.
                Place::Zero if buffer.bytes()[begin..end].iter().all(|byte| *byte == 0) => continue,
                Place::Zero => return (Err(self.unwritable(part.extent, "ZERO")), buffer),
            };
            let file = match self.file(index) {
                Ok(file) => file,
                Err(source) => return (Err(self.failed("write", index, part.extent, source)), buffer),
            };
            let chosen = self.choose(&file, index, position, begin, end);
            let (result, back) = chosen.write(buffer, begin..end, position).await;
            buffer = back;
            if let Err(source) = result {
                return (Err(self.failed("write", index, part.extent, source)), buffer);
            }
        }
        (Ok(()), buffer)
    }

    /// Makes `extent` read as zero: as a hole or a discard where file or device
    /// guarantees zeroes after it, else by zeroing in place, else by writing.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Unwritable`].
    pub async fn zero(&self, extent: Extent) -> Result<(), Error> {
        self.zero_from(extent, Zeroing::Punch).await
    }

    /// Makes `extent` read as zero and keeps its space allocated.
    ///
    /// # Errors
    /// As [`Self::zero`].
    pub async fn zero_in_place(&self, extent: Extent) -> Result<(), Error> {
        self.zero_from(extent, Zeroing::Range).await
    }

    async fn zero_from(&self, extent: Extent, cheapest: Zeroing) -> Result<(), Error> {
        for part in parts(&self.disk.pieces, extent) {
            match part.place {
                Place::Zero => {}
                Place::File { writable: false, .. } => return Err(self.unwritable(part.extent, "read-only")),
                Place::File { index, position, writable: true } => {
                    self.zero_in_file(index, position, part.extent, cheapest)
                        .await
                        .map_err(|source| self.failed("zeroing", index, part.extent, source))?;
                }
            }
        }
        Ok(())
    }

    /// Makes every completed write durable, on all files of the disk.
    ///
    /// # Errors
    /// [`Error::Io`]; what was written since the last flush is then unknown.
    pub async fn flush(&self) -> Result<(), Error> {
        for index in 0..self.disk.files.len() {
            let whole = Extent::between(0, self.disk.size_bytes());
            let flushed = match self.file(index) {
                Ok(file) => file.buffered.flush().await,
                Err(source) => Err(source),
            };
            flushed.map_err(|source| self.failed("flush", index, whole, source))?;
        }
        Ok(())
    }

    /// The first byte at or after `offset` that may hold data; the disk's size
    /// where only zeroes follow.
    ///
    /// # Errors
    /// [`Error::Io`] where the search fails.
    pub fn next_data(&self, offset: u64) -> Result<u64, Error> {
        let rest = Extent::between(offset, self.disk.size_bytes());
        for part in parts(&self.disk.pieces, rest) {
            let Place::File { index, position, .. } = part.place else { continue };
            let found = sys::next_data(&self.disk.files[index].buffered, position)
                .map_err(|source| self.failed("search for data", index, part.extent, source))?;
            if let Some(found) = found
                && found - position < part.extent.length()
            {
                return Ok(part.extent.offset() + (found - position));
            }
        }
        Ok(self.disk.size_bytes())
    }

    async fn zero_in_file(
        &self,
        index: usize,
        position: u64,
        extent: Extent,
        cheapest: Zeroing,
    ) -> io::Result<()> {
        let file = self.file(index)?;
        loop {
            let flags = match file.zeroing.get().max(cheapest) {
                Zeroing::Punch => sys::punch_hole_flags(),
                Zeroing::Range => sys::zero_range_flags(),
                Zeroing::Write => return self.zero_by_writing(&file, index, position, extent).await,
            };
            match file.buffered.fallocate(position, extent.length(), flags).await {
                Ok(()) => return Ok(()),
                Err(error) if is_unsupported(&error) => {
                    file.zeroing.set(match file.zeroing.get().max(cheapest) {
                        Zeroing::Punch => Zeroing::Range,
                        Zeroing::Range | Zeroing::Write => Zeroing::Write,
                    })
                }
                // An end that lies inside a sector of the device.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    return self.zero_by_writing(&file, index, position, extent).await;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn zero_by_writing(
        &self,
        file: &RingFile,
        index: usize,
        position: u64,
        extent: Extent,
    ) -> io::Result<()> {
        let window = to_usize(u64::from(limits::WINDOW_BYTES));
        let mut zeroes = Arena::buffers(1, NonZeroUsize::new(window).unwrap_or(NonZeroUsize::MIN))?;
        let Some(mut buffer) = zeroes.pop() else { return Err(io::ErrorKind::OutOfMemory.into()) };
        for piece in extent.split_at_multiples(to_u64(window)) {
            let at = position + (piece.offset() - extent.offset());
            let length = to_usize(piece.length());
            let (result, back) = self.choose(file, index, at, 0, length).write(buffer, 0..length, at).await;
            buffer = back;
            result?;
        }
        Ok(())
    }

    /// The descriptor that an operation may use: direct where everything aligns.
    fn choose<'a>(
        &self,
        file: &'a RingFile,
        index: usize,
        position: u64,
        begin: usize,
        end: usize,
    ) -> &'a ring::File {
        match (&file.direct, &self.disk.files[index].direct) {
            (Some(on_ring), Some(direct)) if direct.fits(position, to_u64(end - begin), to_u64(begin)) => {
                on_ring
            }
            _ => &file.buffered,
        }
    }

    fn file(&self, index: usize) -> io::Result<Rc<RingFile>> {
        let mut files = self.files.borrow_mut();
        if let Some(file) = files.get(&index) {
            return Ok(Rc::clone(file));
        }
        if files.len() >= FILES_ON_RING {
            files.retain(|_, file| Rc::strong_count(file) > 1);
        }
        let backing = &self.disk.files[index];
        let direct = backing.direct.as_ref().map(|direct| ring::File::attach(&direct.file)).transpose()?;
        let buffered = ring::File::attach(&backing.buffered)?;
        let file = Rc::new(RingFile { direct, buffered, zeroing: Cell::new(Zeroing::Punch) });
        files.insert(index, Rc::clone(&file));
        Ok(file)
    }

    fn failed(&self, operation: &'static str, index: usize, extent: Extent, source: io::Error) -> Error {
        Error::Io { path: self.disk.files[index].path.clone(), operation, extent, source }
    }

    fn unwritable(&self, extent: Extent, what: &'static str) -> Error {
        Error::Unwritable { path: self.disk.path().to_owned(), extent, what }
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::ENODEV))
}

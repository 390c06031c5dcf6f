//! The files of one journal: those that are read stay open, their pages stay in
//! memory, and buffers come from a small stock; each within its bound.

use std::cell::{Cell, RefCell};
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::rc::Rc;

use lru::LruCache;

use super::record::BLOCK;
use super::reserve::Reserve;
use super::{Error, Volume, VolumeFile};
use crate::limits;
use crate::sys::{Arena, Buffer};
use crate::unit::to_u64;

/// The largest read or write of an index or of the digests, in bytes.
pub(super) const RUN_BYTES: usize = 1 << 20;

/// A buffer on loan: a run, or a packed image that begins and ends within blocks.
pub const LEASE_BYTES: usize = RUN_BYTES + 2 * BLOCK;

/// Buffers that are kept for the next one who needs one.
const BUFFERS_KEPT: usize = 4;

/// A page of an index or of the digest file, verified.
pub(super) type Page = Rc<[u8]>;

/// What names a page: the number of its table (new for each file that is
/// written or opened, so that no page outlives its file) and its place there.
pub(super) type PageKey = (u64, u32);

/// What all records of a journal have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    /// Of its checksums.
    pub seed: u64,
    /// Of the pair.
    pub incarnation: u64,
}

pub(super) struct Files<V: Volume> {
    pub volume: V,
    pub identity: Identity,
    open: RefCell<LruCache<String, Rc<V::File>>>,
    pages: RefCell<LruCache<PageKey, Page>>,
    buffers: RefCell<Vec<Buffer>>,
    tables: Cell<u64>,
    pub reserve: Reserve,
}

const fn at_least_one(count: usize) -> NonZeroUsize {
    match NonZeroUsize::new(count) {
        Some(count) => count,
        None => NonZeroUsize::MIN,
    }
}

impl<V: Volume> Files<V> {
    pub fn new(volume: V, identity: Identity) -> Self {
        Self {
            volume,
            identity,
            open: RefCell::new(LruCache::new(at_least_one(limits::JOURNAL_FILES_OPEN))),
            pages: RefCell::new(LruCache::new(at_least_one(limits::JOURNAL_PAGES_CACHED))),
            buffers: RefCell::default(),
            tables: Cell::new(0),
            reserve: Reserve::default(),
        }
    }

    /// A number for a table that was written or opened.
    pub fn next_table(&self) -> u64 {
        self.tables.set(self.tables.get() + 1);
        self.tables.get()
    }

    /// A buffer of [`LEASE_BYTES`]; it comes back when the lease ends.
    pub fn lease(&self) -> Result<Lease<'_>, Error> {
        let kept = self.buffers.borrow_mut().pop();
        let buffer = match kept {
            Some(buffer) => buffer,
            None => new_buffer(LEASE_BYTES)?,
        };
        Ok(Lease { buffer: Some(buffer), home: &self.buffers })
    }

    /// A file, opened for reading now or earlier.
    pub fn open(&self, name: &str) -> Result<Rc<V::File>, Error> {
        if let Some(file) = self.open.borrow_mut().get(name) {
            return Ok(Rc::clone(file));
        }
        let file = self.volume.open(name, false).map_err(|source| Error::file(name, "open", source))?;
        let file = Rc::new(file);
        self.open.borrow_mut().put(name.to_owned(), Rc::clone(&file));
        Ok(file)
    }

    /// Forgets an open file: it was renamed, or will be removed.
    pub fn forget(&self, name: &str) {
        self.open.borrow_mut().pop(name);
    }

    /// Removes a file; one that is gone already is none.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        self.forget(name);
        match self.volume.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file(name, "remove", error)),
            _ => Ok(()),
        }
    }

    /// Makes names durable.
    pub fn flush_names(&self) -> Result<(), Error> {
        self.volume.flush_directory().map_err(|source| Error::file("the directory", "flush", source))
    }

    /// Makes a file that its space was allocated for.
    pub fn create(&self, name: &str, size_bytes: u64) -> Result<Rc<V::File>, Error> {
        self.forget(name);
        if let Some(file) = self.of_reserve(name, size_bytes)? {
            return Ok(file);
        }
        loop {
            match self.volume.create(name, size_bytes) {
                Ok(file) => return Ok(Rc::new(file)),
                Err(error) if self.makes_way(&error)? => {}
                Err(error) => return Err(self.no_room(name, "create", size_bytes, error)),
            }
        }
    }

    /// [`Error::Full`] where that is what `error` says.
    pub fn no_room(&self, name: &str, action: &'static str, needed_bytes: u64, error: io::Error) -> Error {
        if is_full(&error) {
            Error::Full { needed_bytes, free_bytes: self.volume.free_bytes().unwrap_or(0) }
        } else {
            Error::file(name, action, error)
        }
    }

    /// Reads `length` bytes, at most [`LEASE_BYTES`], both numbers whole blocks.
    pub async fn read(&self, name: &str, position: u64, length: usize) -> Result<Lease<'_>, Error> {
        let file = self.open(name)?;
        let mut lease = self.lease()?;
        let read = lease.read(&*file, position, length).await;
        read.map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => Error::damaged(name, position, "it ends before"),
            _ => Error::file(name, "read", source),
        })?;
        Ok(lease)
    }

    pub fn cached(&self, key: PageKey) -> Option<Page> {
        self.pages.borrow_mut().get(&key).map(Rc::clone)
    }

    pub fn cache(&self, key: PageKey, page: &Page) {
        self.pages.borrow_mut().put(key, Rc::clone(page));
    }

    pub fn uncache(&self, key: PageKey) {
        self.pages.borrow_mut().pop(&key);
    }
}

/// Whether the volume, or this user's part of it, is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

pub(super) fn new_buffer(bytes: usize) -> Result<Buffer, Error> {
    let made = Arena::buffers(1, at_least_one(bytes));
    let buffer = made
        .map(|mut buffers| buffers.pop())
        .and_then(|one| one.ok_or_else(|| io::ErrorKind::OutOfMemory.into()));
    buffer.map_err(|source| Error::file("a buffer", "take memory for", source))
}

/// A buffer on loan.
pub(super) struct Lease<'a> {
    buffer: Option<Buffer>,
    home: &'a RefCell<Vec<Buffer>>,
}

impl Lease<'_> {
    pub fn bytes(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| buffer.bytes())
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.as_mut().map_or(&mut [], |buffer| buffer.bytes_mut())
    }

    /// Lends its memory to an operation.
    pub async fn lend<T>(
        &mut self,
        operation: impl AsyncFnOnce(Buffer) -> (Result<T, Error>, Buffer),
    ) -> Result<T, Error> {
        let lost = || Error::file("a buffer", "take memory for", io::ErrorKind::OutOfMemory.into());
        let (result, buffer) = operation(self.buffer.take().ok_or_else(lost)?).await;
        self.buffer = Some(buffer);
        result
    }

    /// Fills its first `length` bytes from `file`.
    pub async fn read<F: VolumeFile>(&mut self, file: &F, position: u64, length: usize) -> io::Result<()> {
        let buffer = self.buffer.take().ok_or(io::ErrorKind::OutOfMemory)?;
        let (result, buffer) = file.read(position, buffer, 0..length).await;
        self.buffer = Some(buffer);
        result
    }

    /// Writes `range` of its bytes.
    pub async fn write<F: VolumeFile>(
        &mut self,
        file: &F,
        position: u64,
        range: Range<usize>,
    ) -> io::Result<()> {
        let buffer = self.buffer.take().ok_or(io::ErrorKind::OutOfMemory)?;
        let (result, buffer) = file.write(position, buffer, range).await;
        self.buffer = Some(buffer);
        result
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut home = self.home.borrow_mut();
        if let Some(buffer) = self.buffer.take().filter(|_| home.len() < BUFFERS_KEPT) {
            home.push(buffer);
        }
    }
}

/// The byte at which block `block` of a file begins.
pub(super) const fn block_offset(block: u32) -> u64 {
    block as u64 * to_u64(BLOCK)
}

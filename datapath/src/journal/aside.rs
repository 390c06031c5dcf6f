//! A volume that nobody changes: what is written to it stays in memory.
//!
//! ```text
//! read ──> blocks written since ──else──> the file on the volume
//! ```
//!
//! Opening a journal brings what a crash left to an end. Whoever only looks lets
//! that happen here, and leaves the volume as it found it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::rc::Rc;

use super::record::BLOCK;
use super::{Volume, VolumeFile};
use crate::limits;
use crate::sys::Buffer;
use crate::unit::{to_u64, to_usize};

/// A volume, and what would have been changed on it.
pub struct Aside<V: Volume> {
    inner: V,
    changes: Rc<RefCell<Changes<V::File>>>,
}

/// Files by name: those that were opened or made, and `None` for those removed.
struct Changes<F> {
    names: BTreeMap<String, Option<Rc<Content<F>>>>,
}

/// A file, and what would have been written to it.
struct Content<F> {
    /// `None` where it was made here.
    base: Option<(F, u64)>,
    written: RefCell<Written>,
}

struct Written {
    size: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
}

/// A file of such a volume.
pub struct AsideFile<F> {
    content: Rc<Content<F>>,
}

impl<V: Volume> Clone for Aside<V> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), changes: Rc::clone(&self.changes) }
    }
}

impl<V: Volume> Aside<V> {
    /// Looks at `inner`, which is only read.
    #[must_use]
    pub fn new(inner: V) -> Self {
        Self { inner, changes: Rc::new(RefCell::new(Changes { names: BTreeMap::new() })) }
    }

    fn insert(&self, name: &str, base: Option<(V::File, u64)>, size: u64) -> AsideFile<V::File> {
        let written = RefCell::new(Written { size, blocks: BTreeMap::new() });
        let content = Rc::new(Content { base, written });
        self.changes.borrow_mut().names.insert(name.to_owned(), Some(Rc::clone(&content)));
        AsideFile { content }
    }

    fn take(&self, name: &str) -> io::Result<Rc<Content<V::File>>> {
        let content = self.open(name, true)?.content;
        self.changes.borrow_mut().names.insert(name.to_owned(), None);
        Ok(content)
    }
}

impl<V: Volume> Volume for Aside<V> {
    type File = AsideFile<V::File>;

    fn create(&self, name: &str, size_bytes: u64) -> io::Result<Self::File> {
        match self.open(name, true) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(self.insert(name, None, size_bytes)),
            Err(error) => Err(error),
        }
    }

    fn open(&self, name: &str, _writable: bool) -> io::Result<Self::File> {
        if let Some(known) = self.changes.borrow().names.get(name) {
            let known = known.as_ref().ok_or(io::ErrorKind::NotFound)?;
            return Ok(AsideFile { content: Rc::clone(known) });
        }
        let file = self.inner.open(name, false)?;
        let size = file.size_bytes()?;
        Ok(self.insert(name, Some((file, size)), size))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let content = self.take(from)?;
        self.changes.borrow_mut().names.insert(to.to_owned(), Some(content));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.take(name).map(drop)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names: BTreeSet<String> = self.inner.names()?.into_iter().collect();
        for (name, content) in &self.changes.borrow().names {
            match content {
                Some(_) => names.insert(name.clone()),
                None => names.remove(name),
            };
        }
        Ok(names.into_iter().collect())
    }

    fn flush_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.inner.free_bytes()
    }

    fn open_entries_max(&self) -> usize {
        self.inner.open_entries_max()
    }
}

impl<F: VolumeFile> VolumeFile for AsideFile<F> {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.content.written.borrow().size)
    }

    async fn read(&self, position: u64, mut buffer: Buffer, range: Range<usize>) -> (io::Result<()>, Buffer) {
        let end = position.saturating_add(to_u64(range.len()));
        if end > self.content.written.borrow().size {
            return (Err(io::ErrorKind::UnexpectedEof.into()), buffer);
        }
        let mut filled = range.start;
        if let Some((base, size)) = self.content.base.as_ref().filter(|(_, size)| *size > position) {
            filled += to_usize(end.min(*size) - position);
            let (read, back) = base.read(position, buffer, range.start..filled).await;
            buffer = back;
            if read.is_err() {
                return (read, buffer);
            }
        }
        let bytes = &mut buffer.bytes_mut()[range.start..range.end];
        bytes[filled - range.start..].fill(0);
        let block = to_u64(BLOCK);
        let written = self.content.written.borrow();
        for (number, new) in written.blocks.range(position / block..end.div_ceil(block)) {
            let from = to_usize((number * block).saturating_sub(position));
            if let Some(place) = bytes.get_mut(from..from + BLOCK) {
                place.copy_from_slice(new);
            }
        }
        (Ok(()), buffer)
    }

    async fn write(&self, position: u64, buffer: Buffer, range: Range<usize>) -> (io::Result<()>, Buffer) {
        let mut written = self.content.written.borrow_mut();
        let bytes = &buffer.bytes()[range];
        if written.blocks.len() + bytes.len() / BLOCK > limits::ASIDE_BLOCKS_MAX {
            return (Err(io::ErrorKind::StorageFull.into()), buffer);
        }
        written.size = written.size.max(position.saturating_add(to_u64(bytes.len())));
        for (number, block) in (position / to_u64(BLOCK)..).zip(bytes.chunks_exact(BLOCK)) {
            written.blocks.insert(number, block.into());
        }
        drop(written);
        (Ok(()), buffer)
    }

    async fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

//! A volume that counts what is read from it.

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::rc::Rc;

use crate::journal::{Volume, VolumeFile};
use crate::sys::Buffer;

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    pub times: u64,
    pub bytes: u64,
}

#[derive(Clone)]
pub struct Counted<V> {
    inner: V,
    reads: Rc<Cell<Reads>>,
}

pub struct CountedFile<F> {
    inner: F,
    reads: Rc<Cell<Reads>>,
}

impl<V> Counted<V> {
    pub fn new(inner: V) -> Self {
        Self { inner, reads: Rc::default() }
    }

    /// What was read since this was last asked.
    pub fn take_reads(&self) -> Reads {
        self.reads.take()
    }
}

impl<V: Volume> Counted<V> {
    fn file(&self, inner: V::File) -> CountedFile<V::File> {
        CountedFile { inner, reads: Rc::clone(&self.reads) }
    }
}

impl<V: Volume> Volume for Counted<V> {
    type File = CountedFile<V::File>;

    fn create(&self, name: &str, size_bytes: u64) -> io::Result<Self::File> {
        self.inner.create(name, size_bytes).map(|file| self.file(file))
    }

    fn open(&self, name: &str, writable: bool) -> io::Result<Self::File> {
        self.inner.open(name, writable).map(|file| self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.inner.names()
    }

    fn flush_directory(&self) -> io::Result<()> {
        self.inner.flush_directory()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.inner.free_bytes()
    }

    fn open_entries_max(&self) -> usize {
        self.inner.open_entries_max()
    }
}

impl<F: VolumeFile> VolumeFile for CountedFile<F> {
    fn size_bytes(&self) -> io::Result<u64> {
        self.inner.size_bytes()
    }

    async fn read(&self, position: u64, buffer: Buffer, range: Range<usize>) -> (io::Result<()>, Buffer) {
        let Reads { times, bytes } = self.reads.get();
        self.reads.set(Reads { times: times + 1, bytes: bytes + range.len() as u64 });
        self.inner.read(position, buffer, range).await
    }

    async fn write(&self, position: u64, buffer: Buffer, range: Range<usize>) -> (io::Result<()>, Buffer) {
        self.inner.write(position, buffer, range).await
    }

    async fn flush(&self) -> io::Result<()> {
        self.inner.flush().await
    }
}

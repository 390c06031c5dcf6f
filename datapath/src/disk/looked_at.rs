//! A disk that is only looked at.

use std::io;

use super::{Blocks, Error, RingDisk, WriteMark};
use crate::sys::Buffer;
use crate::unit::Extent;

/// A disk on which every write is refused, and a flush does nothing.
pub struct LookedAt(RingDisk);

impl LookedAt {
    /// Looks at `disk`.
    #[must_use]
    pub const fn new(disk: RingDisk) -> Self {
        Self(disk)
    }

    fn refuse(&self, operation: &'static str, extent: Extent) -> Error {
        let source = io::ErrorKind::ReadOnlyFilesystem.into();
        Error::Io { path: self.0.disk().path().to_owned(), operation, extent, source }
    }
}

impl Blocks for LookedAt {
    fn size_bytes(&self) -> u64 {
        self.0.disk().size_bytes()
    }

    async fn read(&self, extent: Extent, buffer: Buffer) -> (Result<(), Error>, Buffer) {
        self.0.read(extent, buffer).await
    }

    async fn write(&self, extent: Extent, buffer: Buffer, _from: usize) -> (Result<(), Error>, Buffer) {
        (Err(self.refuse("write", extent)), buffer)
    }

    async fn zero_in_place(&self, extent: Extent) -> Result<(), Error> {
        Err(self.refuse("zeroing", extent))
    }

    async fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn write_mark(&self) -> WriteMark {
        self.0.disk().write_mark()
    }
}

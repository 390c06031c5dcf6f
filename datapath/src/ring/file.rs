//! A file on this thread's ring: whole reads, whole writes, holes, flushes.

use std::io;
use std::ops::Range;

use tokio_uring::buf::BoundedBuf;

use crate::sys::Buffer;

/// A file whose operations go through this thread's ring.
pub struct File {
    inner: tokio_uring::fs::File,
}

impl File {
    /// Takes a duplicate of `file` onto this thread's ring.
    ///
    /// # Errors
    /// Those of `dup(2)`.
    pub fn attach(file: &std::fs::File) -> io::Result<Self> {
        Ok(Self { inner: tokio_uring::fs::File::from_std(file.try_clone()?) })
    }

    /// Fills `range` of `buffer` from `position` on. Bytes past the end of the
    /// file are an error, never zeroes.
    pub async fn read(
        &self,
        mut buffer: Buffer,
        range: Range<usize>,
        position: u64,
    ) -> (io::Result<()>, Buffer) {
        let mut done = range.start;
        while done < range.end {
            let at = position + (done - range.start) as u64;
            let (result, slice) = self.inner.read_at(buffer.slice(done..range.end), at).await;
            buffer = slice.into_inner();
            match result {
                Ok(0) => return (Err(io::ErrorKind::UnexpectedEof.into()), buffer),
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (Err(error), buffer),
            }
        }
        (Ok(()), buffer)
    }

    /// Writes `range` of `buffer` at `position`, all of it or an error.
    pub async fn write(
        &self,
        mut buffer: Buffer,
        range: Range<usize>,
        position: u64,
    ) -> (io::Result<()>, Buffer) {
        let mut done = range.start;
        while done < range.end {
            let at = position + (done - range.start) as u64;
            let (result, slice) = self.inner.write_at(buffer.slice(done..range.end), at).submit().await;
            buffer = slice.into_inner();
            match result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buffer),
                Ok(written) => done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (Err(error), buffer),
            }
        }
        (Ok(()), buffer)
    }

    /// `fallocate(2)` with `flags` over `length` bytes from `position`.
    ///
    /// # Errors
    /// Those of the call: `EOPNOTSUPP` where file or device cannot do it.
    pub async fn fallocate(&self, position: u64, length: u64, flags: i32) -> io::Result<()> {
        self.inner.fallocate(position, length, flags).await
    }

    /// Makes all completed writes durable.
    ///
    /// # Errors
    /// Those of `fdatasync(2)`; after one, what was written is unknown.
    pub async fn flush(&self) -> io::Result<()> {
        self.inner.sync_data().await
    }
}

//! What a protected target must be able to do, whatever it is made of.

use std::future::Future;

use super::{Error, RingDisk, WriteMark};
use crate::sys::Buffer;
use crate::unit::Extent;

/// A disk that is written by extents and keeps its allocation. The seam under
/// which crash tests put a disk that forgets what was not flushed.
pub trait Blocks {
    /// Its size in bytes.
    fn size_bytes(&self) -> u64;

    /// Reads `extent` into the start of `buffer`, which comes back whatever happens.
    fn read(&self, extent: Extent, buffer: Buffer) -> impl Future<Output = (Result<(), Error>, Buffer)>;

    /// Writes `extent` from `buffer`, beginning at its byte `from`. After an
    /// error the extent holds old bytes, new bytes, or some of each.
    fn write(
        &self,
        extent: Extent,
        buffer: Buffer,
        from: usize,
    ) -> impl Future<Output = (Result<(), Error>, Buffer)>;

    /// Makes `extent` read as zero and keeps its space: going back to an earlier
    /// point must never fail because the disk that holds it has filled up.
    fn zero_in_place(&self, extent: Extent) -> impl Future<Output = Result<(), Error>>;

    /// Makes every completed write durable. After an error, what was written
    /// since the last flush is unknown.
    fn flush(&self) -> impl Future<Output = Result<(), Error>>;

    /// What it shows of its writes, whoever makes them; empty where that is nothing.
    fn write_mark(&self) -> WriteMark {
        WriteMark::default()
    }
}

impl Blocks for RingDisk {
    fn size_bytes(&self) -> u64 {
        self.disk().size_bytes()
    }

    async fn read(&self, extent: Extent, buffer: Buffer) -> (Result<(), Error>, Buffer) {
        self.read(extent, buffer).await
    }

    async fn write(&self, extent: Extent, buffer: Buffer, from: usize) -> (Result<(), Error>, Buffer) {
        self.write(extent, buffer, from).await
    }

    async fn zero_in_place(&self, extent: Extent) -> Result<(), Error> {
        self.zero_in_place(extent).await
    }

    async fn flush(&self) -> Result<(), Error> {
        self.flush().await
    }

    fn write_mark(&self) -> WriteMark {
        self.disk().write_mark()
    }
}

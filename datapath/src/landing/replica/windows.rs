//! Memory for operations on target and journal: windows, and smaller ones.

use std::io;

use crate::limits;
use crate::pipeline::{Pool, PooledBuffer};
use crate::unit::to_usize;

/// Buffers of one kind of operations. Short ones have their own: of them more must
/// be in flight for a disk to have as much to do.
#[derive(Clone)]
pub(super) struct Windows {
    small: Pool,
    large: Pool,
}

impl Windows {
    /// Operations that may be in flight.
    pub const COUNT: usize = limits::QUEUE_DEPTH + limits::SMALL_WINDOWS;

    /// `limits::QUEUE_DEPTH` of `bytes` each, and small ones.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let small = Pool::sized(limits::SMALL_WINDOWS, to_usize(u64::from(limits::SMALL_WINDOW_BYTES)))?;
        Ok(Self { small, large: Pool::sized(limits::QUEUE_DEPTH, bytes)? })
    }

    fn of(&self, bytes: u64) -> &Pool {
        if bytes <= u64::from(limits::SMALL_WINDOW_BYTES) { &self.small } else { &self.large }
    }

    /// A buffer for an operation of `bytes`, if one is left.
    pub fn try_take(&self, bytes: u64) -> Option<PooledBuffer> {
        self.of(bytes).try_take()
    }

    /// A buffer for an operation of `bytes`, as soon as one is left.
    pub async fn take(&self, bytes: u64) -> PooledBuffer {
        self.of(bytes).take().await
    }
}

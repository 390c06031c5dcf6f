//! A lane's buffers: a fixed number of windows, lent and given back.

use std::cell::RefCell;
use std::io;
use std::num::NonZeroUsize;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::limits;
use crate::sys::{Arena, Buffer};
use crate::unit::to_usize;

/// Buffers of one window each, or of another size. An empty pool makes its users wait, which is
/// what bounds the memory of a lane.
#[derive(Clone)]
pub struct Pool(Rc<Shelf>);

struct Shelf {
    buffers: RefCell<Vec<Buffer>>,
    returned: Notify,
}

impl Pool {
    /// A pool of `count` windows.
    ///
    /// # Errors
    /// `OutOfMemory` and others of `mmap(2)`.
    pub fn new(count: usize) -> io::Result<Self> {
        Self::sized(count, to_usize(u64::from(limits::WINDOW_BYTES)))
    }

    /// A pool of `count` buffers of `bytes` each.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn sized(count: usize, bytes: usize) -> io::Result<Self> {
        let bytes = NonZeroUsize::new(bytes).unwrap_or(NonZeroUsize::MIN);
        let buffers = RefCell::new(Arena::buffers(count.max(1), bytes)?);
        Ok(Self(Rc::new(Shelf { buffers, returned: Notify::new() })))
    }

    /// A buffer, if one is left.
    #[must_use]
    pub fn try_take(&self) -> Option<PooledBuffer> {
        let buffer = self.0.buffers.borrow_mut().pop()?;
        Some(PooledBuffer { buffer: Some(buffer), shelf: Rc::clone(&self.0) })
    }

    /// A buffer, as soon as one is left.
    pub async fn take(&self) -> PooledBuffer {
        loop {
            if let Some(buffer) = self.try_take() {
                return buffer;
            }
            self.0.returned.notified().await;
        }
    }
}

/// A buffer on loan: dropping it gives it back.
pub struct PooledBuffer {
    /// `None` only while the kernel has it, or after it was lost with the ring.
    buffer: Option<Buffer>,
    shelf: Rc<Shelf>,
}

impl PooledBuffer {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], Buffer::bytes)
    }

    /// Its bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.as_mut().map_or(&mut [], Buffer::bytes_mut)
    }

    /// Lends the memory to the kernel for one operation.
    pub async fn lend<T, F>(&mut self, operation: F) -> Option<T>
    where
        F: AsyncFnOnce(Buffer) -> (T, Buffer),
    {
        let (result, buffer) = operation(self.buffer.take()?).await;
        self.buffer = Some(buffer);
        Some(result)
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.shelf.buffers.borrow_mut().push(buffer);
            self.shelf.returned.notify_one();
        }
    }
}

//! Memory for what a frozen machine's disks still have to read: there before the
//! freeze, because taking some meanwhile may have to wait for what is frozen, and
//! shared by all disks, because they are frozen together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits;
use crate::sys;
use crate::unit::{to_u64, to_usize};

/// A piece of it: one window, so that every chunk fits in one.
pub(super) type Block = Box<[u8]>;

/// The memory of one machine; cheap to clone, one memory for all clones.
#[derive(Clone)]
pub struct Reserve(Arc<Shelf>);

struct Shelf {
    blocks: Mutex<Vec<Block>>,
    bytes: u64,
    is_locked: bool,
}

impl Reserve {
    /// Takes `bytes`, at least one window and at most
    /// [`limits::REMAINDER_BYTES_MAX`], every page of it touched and, where the
    /// machine allows that, locked.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let block_bytes = u64::from(limits::WINDOW_BYTES);
        let count = bytes.min(limits::REMAINDER_BYTES_MAX).div_ceil(block_bytes).max(1);
        // Not zeroes, whose pages come only when they are written.
        let block = || vec![0xff; to_usize(block_bytes)].into_boxed_slice();
        let blocks: Vec<Block> = (0..count).map(|_| block()).collect();
        let is_locked = blocks.iter().all(|block| sys::lock_memory(block).is_ok());
        Self(Arc::new(Shelf { blocks: Mutex::new(blocks), bytes: count * block_bytes, is_locked }))
    }

    /// How much it is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Whether all of it is locked. Otherwise a freeze under memory pressure may
    /// last until its deadline.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.0.is_locked
    }

    /// Bytes that nobody has taken.
    pub(super) fn free_bytes(&self) -> u64 {
        to_u64(self.shelf().len()) * u64::from(limits::WINDOW_BYTES)
    }

    pub(super) fn take(&self) -> Option<Block> {
        self.shelf().pop()
    }

    pub(super) fn give_back(&self, blocks: impl IntoIterator<Item = Block>) {
        self.shelf().extend(blocks);
    }

    fn shelf(&self) -> MutexGuard<'_, Vec<Block>> {
        self.0.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

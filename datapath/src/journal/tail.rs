//! The segment that is written: several writes in flight, and flushes that they share.
//!
//! ```text
//! begin ──> write 1 ─────┐
//! begin ──> write 2 ───┐ ├──> one flush, once all before it are written ──> proven
//! begin ──> write 3 ─────┘
//! ```
//!
//! Whoever waits for durable bytes flushes for everybody, unless somebody does
//! already. After a failed or abandoned write or flush nobody knows what is on the
//! volume: the tail is broken, and stays so.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::rc::Rc;

use tokio::sync::Notify;

use super::files::Lease;
use super::{Error, VolumeFile};
use crate::sys::Buffer;

pub(super) struct Tail<F> {
    file: Rc<F>,
    name: String,
    state: RefCell<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Where each write ends, and whether it has: those before are written.
    writes: VecDeque<(u32, bool)>,
    /// Everything before this byte is written.
    written: u32,
    /// Everything before this byte is flushed.
    proven: u32,
    is_flushing: bool,
    is_broken: bool,
}

/// What somebody who waits for durable bytes does next.
enum Next {
    Return,
    GiveUp,
    Wait,
    /// Flush: everything before this byte.
    Flush(u32),
}

/// The place of a write in a tail, which breaks where it is not written.
pub(super) struct Ticket<F> {
    tail: Rc<Tail<F>>,
    position: u32,
    end: u32,
    is_used: bool,
}

impl<F> Drop for Ticket<F> {
    fn drop(&mut self) {
        if !self.is_used {
            self.tail.give_up();
        }
    }
}

impl<F: VolumeFile> Ticket<F> {
    /// Writes `range` of `buffer`, which comes back.
    pub async fn write(mut self, buffer: Buffer, range: Range<usize>) -> (Result<(), Error>, Buffer) {
        let (written, buffer) = self.tail.file.write(u64::from(self.position), buffer, range).await;
        (self.used(written), buffer)
    }

    /// Writes `range` of a lease.
    pub async fn write_lease(mut self, lease: &mut Lease<'_>, range: Range<usize>) -> Result<(), Error> {
        let written = lease.write(&*self.tail.file, u64::from(self.position), range).await;
        self.used(written)
    }

    fn used(&mut self, written: io::Result<()>) -> Result<(), Error> {
        // A write that failed leaves the ticket unused.
        written.map_err(|source| Error::file(&self.tail.name, "write", source))?;
        self.is_used = true;
        self.tail.wrote(self.end);
        Ok(())
    }

    /// Where it ends.
    pub fn mark(&self) -> Mark<F> {
        Mark { tail: Rc::clone(&self.tail), end: self.end }
    }
}

/// A place in a tail.
pub(super) struct Mark<F> {
    tail: Rc<Tail<F>>,
    end: u32,
}

impl<F: VolumeFile> Mark<F> {
    /// Waits until everything before it is durable.
    ///
    /// # Errors
    /// As [`Tail::durable`].
    pub async fn durable(&self) -> Result<(), Error> {
        self.tail.durable(self.end).await
    }
}

impl<F: VolumeFile> Tail<F> {
    /// The tail of a segment in which everything before `proven` is durable.
    pub fn new(file: Rc<F>, name: String, proven: u32) -> Self {
        let state = State { written: proven, proven, ..State::default() };
        Self { file, name, state: RefCell::new(state), changed: Notify::new() }
    }

    /// A write of the bytes from `position` to `end` is on its way. In the order of
    /// their places.
    pub fn begin(self: &Rc<Self>, position: u32, end: u32) -> Ticket<F> {
        self.state.borrow_mut().writes.push_back((end, false));
        Ticket { tail: Rc::clone(self), position, end, is_used: false }
    }

    fn wrote(&self, end: u32) {
        let mut state = self.state.borrow_mut();
        if let Some(write) = state.writes.iter_mut().find(|(of, _)| *of == end) {
            write.1 = true;
        }
        while let Some((end, true)) = state.writes.front().copied() {
            state.written = end;
            state.writes.pop_front();
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until everything before `end` can be read back.
    ///
    /// # Errors
    /// [`Error::Broken`].
    pub async fn written(&self, end: u32) -> Result<(), Error> {
        loop {
            let changed = self.changed.notified();
            match &*self.state.borrow() {
                state if state.is_broken => return Err(Error::Broken),
                state if state.written >= end => return Ok(()),
                _ => {}
            }
            changed.await;
        }
    }

    /// Waits until everything before `end` is durable, and flushes where nobody does.
    ///
    /// # Errors
    /// That of the flush; [`Error::Broken`] where another write or flush failed.
    pub async fn durable(&self, end: u32) -> Result<(), Error> {
        loop {
            let changed = self.changed.notified();
            let next = self.state.borrow().next(end);
            match next {
                Next::Return => return Ok(()),
                Next::GiveUp => return Err(Error::Broken),
                Next::Wait => changed.await,
                Next::Flush(end) => self.flush(end).await?,
            }
        }
    }

    async fn flush(&self, end: u32) -> Result<(), Error> {
        self.state.borrow_mut().is_flushing = true;
        let mut abandoned = Abandoned(Some(self));
        // The system tells a failed flush once: later ones prove nothing.
        let flushed = self.file.flush().await;
        flushed.map_err(|source| Error::file(&self.name, "flush", source))?;
        abandoned.0 = None;
        let mut state = self.state.borrow_mut();
        (state.is_flushing, state.proven) = (false, end);
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }
}

impl<F> Tail<F> {
    /// Everything before this byte is durable.
    pub fn proven(&self) -> u32 {
        self.state.borrow().proven
    }

    pub fn is_broken(&self) -> bool {
        self.state.borrow().is_broken
    }

    /// Nothing may be written any more.
    pub fn give_up(&self) {
        self.state.borrow_mut().is_broken = true;
        self.changed.notify_waiters();
    }
}

impl State {
    const fn next(&self, end: u32) -> Next {
        if self.is_broken {
            Next::GiveUp
        } else if self.proven >= end {
            Next::Return
        } else if self.is_flushing || self.written < end {
            Next::Wait
        } else {
            Next::Flush(self.written)
        }
    }
}

/// Breaks a tail where a flush of it failed or was abandoned.
struct Abandoned<'a, F>(Option<&'a Tail<F>>);

impl<F> Drop for Abandoned<'_, F> {
    fn drop(&mut self) {
        if let Some(tail) = self.0 {
            tail.give_up();
        }
    }
}

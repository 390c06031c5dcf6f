//! What a source has been told of its target's windows, in their order.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use tokio::sync::Notify;

use crate::limits;
use crate::unit::{Digest, Extent};

/// What is known of a window of the target.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// It reads as zero.
    Hole,
    /// The digests of its chunks.
    Digests(Vec<Digest>),
}

/// Why the other end's account of its target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// More windows than were granted.
    TooMany,
    /// Not the window that is next.
    OutOfOrder(Extent),
    /// It has ended, and this window is missing.
    Ended,
}

/// A bounded queue of what the target said, between the task that receives it
/// and the task that compares.
#[derive(Default)]
pub struct View {
    known: RefCell<VecDeque<(Extent, Known)>>,
    arrived: Notify,
    taken: Cell<u64>,
    has_ended: Cell<bool>,
}

impl View {
    /// Takes in what the target says of `extent`.
    pub fn push(&self, extent: Extent, known: Known) -> Result<(), Misfit> {
        let mut queue = self.known.borrow_mut();
        if queue.len() as u64 >= limits::DIGEST_CREDIT_WINDOWS {
            return Err(Misfit::TooMany);
        }
        queue.push_back((extent, known));
        self.arrived.notify_one();
        Ok(())
    }

    /// The target says nothing more.
    pub fn end(&self) {
        self.has_ended.set(true);
        self.arrived.notify_one();
    }

    /// What is known of `window`, as soon as the target has said it.
    pub async fn take(&self, window: Extent) -> Result<Known, Misfit> {
        loop {
            if let Some(known) = self.try_take(window)? {
                return Ok(known);
            }
            if self.has_ended.get() {
                return Err(Misfit::Ended);
            }
            self.arrived.notified().await;
        }
    }

    fn try_take(&self, window: Extent) -> Result<Option<Known>, Misfit> {
        let mut queue = self.known.borrow_mut();
        let Some((extent, known)) = queue.front() else { return Ok(None) };
        let extent = *extent;
        let within_hole =
            *known == Known::Hole && extent.offset() == window.offset() && extent.end() > window.end();
        if within_hole {
            queue[0].0 = Extent::between(window.end(), extent.end());
            return Ok(Some(Known::Hole));
        }
        if extent != window {
            return Err(Misfit::OutOfOrder(extent));
        }
        self.taken.set(self.taken.get() + 1);
        Ok(queue.pop_front().map(|(_, known)| known))
    }

    /// How many frames of the target were used up since it was last asked, once
    /// they are enough to be worth telling it.
    pub fn credit(&self) -> Option<u64> {
        let taken = self.taken.get();
        (taken >= limits::DIGEST_CREDIT_WINDOWS / 4).then(|| self.taken.replace(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn holes_are_used_up_window_by_window() {
        let view = View::default();
        assert_eq!(view.push(Extent::between(0, 2 * MIB), Known::Hole), Ok(()));
        assert_eq!(view.try_take(Extent::between(0, MIB)), Ok(Some(Known::Hole)));
        assert_eq!(view.try_take(Extent::between(MIB, 2 * MIB)), Ok(Some(Known::Hole)));
        assert_eq!(view.try_take(Extent::between(2 * MIB, 3 * MIB)), Ok(None));
    }

    #[test]
    fn another_window_than_the_next_is_refused() {
        let view = View::default();
        assert_eq!(view.push(Extent::between(MIB, 2 * MIB), Known::Digests(vec![])), Ok(()));
        let misfit = view.try_take(Extent::between(0, MIB));
        assert_eq!(misfit, Err(Misfit::OutOfOrder(Extent::between(MIB, 2 * MIB))));
    }

    #[test]
    fn a_target_cannot_fill_the_memory() {
        let view = View::default();
        let pushes = (0..=limits::DIGEST_CREDIT_WINDOWS)
            .map(|index| view.push(Extent::between(index * MIB, (index + 1) * MIB), Known::Hole));
        assert_eq!(pushes.filter(Result::is_err).count(), 1);
    }
}

//! Which segments are written, and the cursor behind which all of them are.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use crate::pipeline::Segments;

/// The segments of a target that are dealt with, shared by all lanes.
#[derive(Clone)]
pub struct Progress {
    segments: Segments,
    done: Arc<Mutex<Done>>,
}

#[derive(Default)]
struct Done {
    /// All segments below this one.
    before: u64,
    /// Those above it, as lanes run ahead of each other.
    beyond: BTreeSet<u64>,
}

impl Progress {
    /// Nothing is done yet.
    #[must_use]
    pub fn new(segments: Segments) -> Self {
        Self { segments, done: Arc::default() }
    }

    /// Segment `index` is on the target, though not yet durable.
    pub fn complete(&self, index: u64) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.beyond.insert(index);
        while let Some(first) = done.beyond.first().copied()
            && first <= done.before
        {
            done.beyond.pop_first();
            done.before = done.before.max(first + 1);
        }
    }

    /// The byte before which every segment is done.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        let before = self.done.lock().unwrap_or_else(PoisonError::into_inner).before;
        self.segments.extent(before.saturating_sub(1)).end() * u64::from(before > 0)
    }

    /// A ticket for segment `index`: once its last clone is dropped, the
    /// segment is done, unless one of them was spoiled.
    #[must_use]
    pub fn ticket(&self, index: u64) -> Ticket {
        Ticket(Rc::new(Open { progress: self.clone(), index, spoiled: Cell::new(false) }))
    }
}

/// Held by every write of a segment of this lane, and by the lane while more
/// may come.
#[derive(Clone)]
pub struct Ticket(Rc<Open>);

struct Open {
    progress: Progress,
    index: u64,
    spoiled: Cell<bool>,
}

impl Ticket {
    /// A write failed, or the lane stops in the middle: the segment never counts as done.
    pub fn spoil(&self) {
        self.0.spoiled.set(true);
    }

    /// Whether both are tickets of the same segment.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.spoiled.get() {
            self.progress.complete(self.index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SEGMENT_BYTES;

    #[test]
    fn the_cursor_waits_for_the_slowest_lane() {
        let size = 3 * SEGMENT_BYTES + 5;
        let progress = Progress::new(Segments::new(size));
        assert_eq!(progress.cursor(), 0);
        progress.complete(1);
        progress.complete(3);
        assert_eq!(progress.cursor(), 0);
        progress.complete(0);
        assert_eq!(progress.cursor(), 2 * SEGMENT_BYTES);
        progress.complete(2);
        assert_eq!(progress.cursor(), size);
    }

    #[test]
    fn a_spoiled_ticket_completes_nothing() {
        let progress = Progress::new(Segments::new(SEGMENT_BYTES));
        let ticket = progress.ticket(0);
        ticket.clone().spoil();
        drop(ticket);
        assert_eq!(progress.cursor(), 0);
        drop(progress.ticket(0));
        assert_eq!(progress.cursor(), SEGMENT_BYTES);
    }
}

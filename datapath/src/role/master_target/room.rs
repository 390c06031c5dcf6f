//! Room on the retention volume that a journal needs and could not make of its
//! own points: the others of this host give up theirs for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::unit::Epoch;

/// What is asked for; its clones ask the same. One journal at a time takes it up,
/// and leaves what it had no points for.
#[derive(Clone, Default)]
pub struct SharedRoom(Arc<Mutex<Asked>>);

#[derive(Default)]
struct Asked {
    bytes: u64,
    is_new: bool,
}

impl SharedRoom {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody waits for `bytes`.
    pub(super) fn ask(&self, bytes: u64) {
        let mut asked = self.asked();
        *asked = Asked { bytes: bytes.max(asked.bytes), is_new: true };
    }

    /// Has `give_up` give up points for what is asked for, if anything is; which
    /// those are.
    pub(super) async fn give<E>(
        &self,
        give_up: impl AsyncFnOnce(u64) -> Result<(Vec<Epoch>, u64), E>,
    ) -> Result<Vec<Epoch>, E> {
        let asked = self.take();
        if asked == 0 {
            return Ok(Vec::new());
        }
        let (points, given_bytes) = give_up(asked).await?;
        self.leave(asked.saturating_sub(given_bytes));
        Ok(points)
    }

    /// What to give up points for.
    pub(super) fn take(&self) -> u64 {
        std::mem::take(&mut self.asked().bytes)
    }

    /// What nobody gave up points for yet; who comes next may have some.
    fn leave(&self, bytes: u64) {
        let mut asked = self.asked();
        asked.bytes = bytes.max(asked.bytes);
    }

    /// Whether somebody has asked since this was last asked.
    #[must_use]
    pub fn is_newly_asked(&self) -> bool {
        std::mem::take(&mut self.asked().is_new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_given_once() {
        let (room, other) = {
            let room = SharedRoom::default();
            (room.clone(), room)
        };
        room.ask(5);
        room.ask(3);
        assert!(other.is_newly_asked() && !room.is_newly_asked());
        assert_eq!(other.take(), 5);
        other.leave(2);
        assert!(!room.is_newly_asked(), "nobody asked again");
        assert_eq!((room.take(), room.take()), (2, 0));
    }
}

//! How often strangers may try to pair with a server, all of them together.
//!
//! In: the moments of attempts. Out: whether one may go on. Invariants: at most
//! [`BURST`] attempts at once and one more each [`REFILL_EVERY`] after that,
//! whoever makes them. Never: sleeps, remembers who came.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A person pairing several machines one after the other is not slowed.
const BURST: u32 = 10;
/// Thirty a minute cost a server less than one percent of a processor.
const REFILL_EVERY: Duration = Duration::from_secs(2);

/// The gate of one serving process; shared by its threads.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    left: u32,
    refilled: Instant,
}

impl Gate {
    pub(crate) fn new(now: Instant) -> Self {
        Self { state: Mutex::new(State { left: BURST, refilled: now }) }
    }

    /// Whether an attempt at `now` may go on.
    pub(crate) fn admit(&self, now: Instant) -> bool {
        // The state is two plain numbers, valid even where a holder panicked.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.left < BURST && now.saturating_duration_since(state.refilled) >= REFILL_EVERY {
            state.left += 1;
            state.refilled += REFILL_EVERY;
        }
        if state.left == BURST {
            state.refilled = now;
        }
        let admitted = state.left > 0;
        state.left = state.left.saturating_sub(1);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_each_interval() {
        let start = Instant::now();
        let gate = Gate::new(start);
        assert_eq!((0..100).filter(|_| gate.admit(start)).count(), 10);
        assert!(!gate.admit(start + REFILL_EVERY / 2));
        assert!(gate.admit(start + REFILL_EVERY));
        assert!(!gate.admit(start + REFILL_EVERY));
        let later = start + REFILL_EVERY * 1000;
        assert_eq!((0..100).filter(|_| gate.admit(later)).count(), 10);
    }
}

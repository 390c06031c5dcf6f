//! The window buffers of a process, and how the runs in it share them.
//!
//! ```text
//! Budget ── share ──> Share of a run ── queue ──> pools of its lanes
//!    ▲                      │
//!    └──── given back ──────┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits;

/// What a lane holds beside its pools, in windows: to pack, to seal, digests.
const BESIDE_POOLS: usize = 1;

/// The pools of a lane: into how many parts each of them divides the buffers.
pub type Pools<'a> = &'a [usize];

/// A queue of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Operations in flight.
    pub depth: usize,
    /// Buffers: one more, to be worked on, unless memory is short.
    pub buffers: usize,
}

/// The buffers of one run, and the lanes that divide them.
#[derive(Debug)]
pub struct Share {
    lanes: usize,
    buffers: usize,
    _held: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// All of them, for the only run of a process.
    #[must_use]
    pub const fn whole(lanes: usize) -> Self {
        Self::of(lanes, limits::BUFFERS_PER_RUN)
    }

    const fn of(lanes: usize, buffers: usize) -> Self {
        Self { lanes: if lanes == 0 { 1 } else { lanes }, buffers, _held: None }
    }

    /// The lanes of the run.
    #[must_use]
    pub const fn lanes(&self) -> usize {
        self.lanes
    }

    /// The queue of a lane that divides its buffers into `parts`.
    #[must_use]
    pub fn queue(&self, parts: usize) -> Queue {
        let part = self.buffers / (self.lanes * parts.max(1));
        let depth = part.clamp(1, limits::QUEUE_DEPTH);
        Queue { depth, buffers: if part == 0 { 1 } else { depth + 1 } }
    }

    /// The windows that a run with this share holds in memory.
    fn windows(&self, pools: Pools<'_>) -> usize {
        let pooled: usize = pools.iter().map(|parts| self.queue(*parts).buffers).sum();
        self.lanes * (pooled + BESIDE_POOLS)
    }
}

/// The buffers of all runs of a process.
#[derive(Debug)]
pub struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(limits::WINDOWS_PER_PROCESS)))
    }
}

impl Budget {
    /// A share for a run of `lanes` lanes with `pools` each. A run alone gets
    /// all that helps it; a further one half of what is left, so that others
    /// find some, or the least that it can work with. `None` where that is not
    /// to be had `within` a time.
    pub async fn share(&self, lanes: usize, pools: Pools<'_>, within: Duration) -> Option<Share> {
        let free = self.0.available_permits();
        let allowed = if free == limits::WINDOWS_PER_PROCESS { free } else { free / 2 };
        let fits = |share: &Share| share.windows(pools) <= allowed;
        let sizes = (1..=limits::BUFFERS_PER_RUN).rev();
        let share = sizes.map(|buffers| Share::of(lanes, buffers)).find(fits).unwrap_or(Share::of(lanes, 0));
        let windows = u32::try_from(share.windows(pools)).ok()?;
        let held = tokio::time::timeout(within, Arc::clone(&self.0).acquire_many_owned(windows)).await;
        Some(Share { _held: Some(held.ok()?.ok()?), ..share })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring;

    const SOURCE: Pools<'static> = &[1];
    const TARGET: Pools<'static> = &[3, 2];

    fn take(budget: &Budget, lanes: usize, pools: Pools<'_>) -> Option<Share> {
        ring::run(budget.share(lanes, pools, Duration::from_millis(1))).expect("there is io_uring")
    }

    #[test]
    fn shares_get_smaller_until_there_is_none_and_come_back() {
        for (lanes, pools) in [(1, SOURCE), (2, SOURCE), (2, TARGET), (4, TARGET)] {
            let budget = Budget::default();
            let mut held: Vec<Share> = Vec::new();
            while let Some(share) = take(&budget, lanes, pools) {
                held.push(share);
            }
            assert_eq!(held[0].buffers, limits::BUFFERS_PER_RUN, "the first one has all");
            assert!(held[held.len() - 1].buffers < held[0].buffers, "the last one has less");
            let windows: usize = held.iter().map(|share| share.windows(pools)).sum();
            assert!(windows <= limits::WINDOWS_PER_PROCESS, "{windows} windows");
            held.pop();
            assert!(take(&budget, lanes, pools).is_some(), "what was given back is lent again");
        }
    }

    #[test]
    fn a_run_of_the_most_lanes_fits_alone() {
        for pools in [SOURCE, TARGET] {
            assert!(take(&Budget::default(), limits::LANES_MAX, pools).is_some(), "{pools:?}");
        }
    }

    #[test]
    fn a_run_alone_reads_as_far_ahead_as_its_lanes_allow() {
        assert_eq!(Share::whole(2).queue(1), Queue { depth: 8, buffers: 9 });
        assert_eq!(Share::whole(2).queue(3), Queue { depth: 5, buffers: 6 });
        assert_eq!(Share::whole(16).queue(3), Queue { depth: 1, buffers: 1 });
    }
}

//! Lanes: threads with a ring each, which share the segments of a disk.

use std::future::Future;
use std::num::NonZeroUsize;
use std::thread;

use super::{Cancel, Share};
use crate::ring::{self, Unavailable};

/// As many lanes as there are cores, up to eight: storage is saturated by then.
#[must_use]
pub fn default_lanes() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get).min(8)
}

/// Windows that one of `lanes` lanes may read ahead so that all of them stay
/// within the memory of a process, when a lane holds `shares` pools.
#[must_use]
pub fn depth_for(lanes: usize, shares: usize) -> usize {
    Share::whole(lanes).queue(shares).depth
}

/// Runs `lane` once for each lane number, each on a thread and a ring of its
/// own, and gives their results in the order of their numbers. The first lane
/// that fails cancels the others, and its error is the first of the results
/// that are errors other than by being cancelled.
pub fn run_lanes<T, E, F, Fut>(lanes: usize, cancel: &Cancel, lane: F) -> Vec<Result<T, E>>
where
    T: Send,
    E: Send + From<Unavailable> + From<LanePanicked>,
    F: Fn(usize) -> Fut + Sync,
    Fut: Future<Output = Result<T, E>>,
{
    let run = |number| {
        let result = ring::run(lane(number)).map_err(E::from).and_then(|result| result);
        if result.is_err() {
            cancel.cancel();
        }
        result
    };
    thread::scope(|scope| {
        let start = |number: usize| {
            let run = &run;
            thread::Builder::new().name(format!("lane-{number}")).spawn_scoped(scope, move || run(number))
        };
        let threads: Vec<_> = (0..lanes).map(start).collect();
        let join = |spawned: std::io::Result<thread::ScopedJoinHandle<'_, Result<T, E>>>| match spawned {
            Ok(handle) => handle.join().unwrap_or_else(|_| Err(LanePanicked.into())),
            Err(_) => {
                cancel.cancel();
                Err(LanePanicked.into())
            }
        };
        threads.into_iter().map(join).collect()
    })
}

/// A lane ended without a result: a defect of failback, or no thread to be had.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("a lane ended without a result (no thread could be started, or a defect: see the messages above)")]
pub struct LanePanicked;

//! A thread's ring, and the tasks that share it.

use std::future::Future;
use std::io;

use crate::error::{Remediable, Remedy};
use crate::limits;

/// io_uring is not to be had here.
#[derive(Debug, thiserror::Error)]
#[error(
    "io_uring is not available: {source}; it needs Linux 5.11 or later, \
     `sysctl kernel.io_uring_disabled` at 0, and a container profile that allows it"
)]
pub struct Unavailable {
    source: io::Error,
}

impl Remediable for Unavailable {
    fn remedy(&self) -> Remedy {
        Remedy::Stop
    }
}

/// Runs `future` on this thread with a ring of its own, and the tasks it spawns.
///
/// The runtime is also an ordinary single-threaded tokio runtime: sockets and
/// timers of tokio work inside.
///
/// # Errors
/// [`Unavailable`] where the kernel refuses a ring.
pub fn run<F: Future>(future: F) -> Result<F::Output, Unavailable> {
    let mut builder = tokio_uring::builder();
    builder.entries(limits::RING_ENTRIES);
    let runtime = tokio_uring::Runtime::new(&builder).map_err(|source| Unavailable { source })?;
    Ok(runtime.block_on(future))
}

/// A task on this thread's ring.
pub struct Task<T>(tokio::task::JoinHandle<T>);

/// Starts `future` on this thread's ring at once; it runs whether or not
/// anybody waits for it.
pub fn spawn<F>(future: F) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    Task(tokio_uring::spawn(future))
}

impl<T> Task<T> {
    /// Waits for the task's result, which can be had once. Whoever stops waiting
    /// may wait again.
    ///
    /// # Errors
    /// An error where the task panicked or the runtime is going away: its
    /// result, and a buffer it held, are gone.
    pub async fn join(&mut self) -> io::Result<T> {
        (&mut self.0).await.map_err(io::Error::other)
    }

    /// Whether its result is there.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

//! Flushing a target now and then, and moving its cursor behind the flush.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::{Error, Mark, Progress};
use crate::disk::RingDisk;
use crate::limits;
use crate::telemetry::{Meter, Stage};

/// The checkpoints of a run, shared by its lanes: one of them at a time flushes.
#[derive(Clone)]
pub struct Checkpoint {
    progress: Progress,
    state: Arc<Mutex<State>>,
}

struct State {
    mark: Option<Mark>,
    last: Instant,
    running: bool,
    /// A flush failed: the system tells that once, so later flushes prove nothing.
    flush_failed: bool,
}

impl Checkpoint {
    /// Checkpoints of the run that `mark` marks; without a mark (a dry run)
    /// there is nothing to remember.
    #[must_use]
    pub fn new(progress: Progress, mark: Option<Mark>) -> Self {
        Self {
            progress,
            state: Arc::new(Mutex::new(State {
                mark,
                last: Instant::now(),
                running: false,
                flush_failed: false,
            })),
        }
    }

    /// The progress behind the checkpoints.
    #[must_use]
    pub const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Flushes and moves the cursor if it is time and no other lane does.
    ///
    /// # Errors
    /// A failed flush is the end of the run: what was written is unknown.
    pub async fn take_if_due(&self, disk: &RingDisk, meter: &Meter) -> Result<(), Error> {
        {
            let mut state = self.lock();
            if state.running || state.mark.is_none() || state.last.elapsed() < limits::CHECKPOINT_EVERY {
                return Ok(());
            }
            state.running = true;
        }
        let taken = self.take(disk, meter).await;
        let mut state = self.lock();
        state.running = false;
        state.last = Instant::now();
        taken
    }

    /// Flushes and moves the cursor now.
    ///
    /// # Errors
    /// As [`Self::take_if_due`].
    pub async fn take(&self, disk: &RingDisk, meter: &Meter) -> Result<(), Error> {
        // The cursor first: only what was written before the flush began counts.
        let cursor = self.progress.cursor();
        let start = Instant::now();
        let flushed = disk.flush().await;
        meter.time(Stage::Flush, start);
        let mut state = self.lock();
        state.flush_failed |= flushed.is_err();
        flushed?;
        if state.flush_failed {
            return Err(Error::FlushFailed);
        }
        state.mark.as_mut().map_or(Ok(()), |mark| mark.advance(cursor))
    }

    /// Moves the cursor back to where a verification found the target wrong.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn retreat(&self, cursor_bytes: u64) -> Result<(), Error> {
        self.lock().mark.as_mut().map_or(Ok(()), |mark| mark.retreat(cursor_bytes))
    }

    /// Takes the mark away after the last flush.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn clear(&self) -> Result<(), Error> {
        let mark = self.lock().mark.take();
        mark.map_or(Ok(()), Mark::clear)
    }

    /// The cursor that is durable; `None` where nothing is marked.
    #[must_use]
    pub fn durable_cursor(&self) -> Option<u64> {
        self.lock().mark.as_ref().map(|mark| mark.body().cursor_bytes)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

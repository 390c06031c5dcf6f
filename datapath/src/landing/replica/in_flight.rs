//! Operations that are in flight, oldest first.

use std::collections::VecDeque;

use super::Error;
use crate::ring::{self, Task};

/// Operations, each with what it is about.
pub(super) struct InFlight<T> {
    operations: VecDeque<(T, Task<Result<(), Error>>)>,
}

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        Self { operations: VecDeque::new() }
    }
}

impl<T> InFlight<T> {
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// What they are about.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.operations.iter().map(|(about, _)| about)
    }

    /// Begins one more.
    pub fn push(&mut self, about: T, operation: impl Future<Output = Result<(), Error>> + 'static) {
        self.operations.push_back((about, ring::spawn(operation)));
    }

    /// Waits until fewer than `most` are in flight, and none that `meets`.
    ///
    /// # Errors
    /// That of an operation; the others may still be in flight.
    pub async fn admit(&mut self, most: usize, meets: impl Fn(&T) -> bool) -> Result<(), Error> {
        while self.operations.len() >= most
            || self.all().any(&meets)
            || self.operations.front().is_some_and(|(_, task)| task.is_finished())
        {
            self.end_oldest().await?;
        }
        Ok(())
    }

    /// Waits for all of them.
    ///
    /// # Errors
    /// The first error, after all have ended.
    pub async fn settle(&mut self) -> Result<(), Error> {
        let mut result = Ok(());
        while !self.is_empty() {
            result = result.and(self.end_oldest().await);
        }
        result
    }

    /// Waits for the oldest.
    ///
    /// # Errors
    /// Its error.
    pub async fn end_oldest(&mut self) -> Result<(), Error> {
        let Some((_, task)) = self.operations.front_mut() else { return Ok(()) };
        let ended = task.join().await;
        self.operations.pop_front();
        ended.map_err(|source| Error::Memory { source })?
    }
}

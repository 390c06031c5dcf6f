//! One flag that asks every lane to stop where it stands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A request to stop, shared by all lanes of a run: made by a lane that fails,
/// or by somebody outside.
#[derive(Clone, Default)]
pub struct Cancel {
    inside: Arc<AtomicBool>,
    outside: Arc<AtomicBool>,
    above: Option<Arc<Self>>,
}

/// The run was asked to stop.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("interrupted")]
pub struct Cancelled;

impl Cancel {
    /// A flag that a signal handler may set.
    #[must_use]
    pub fn from_flag(flag: Arc<AtomicBool>) -> Self {
        Self { outside: flag, ..Self::default() }
    }

    /// A request of its own that is also made with this one, but not the other
    /// way round: one of several that stop together or alone.
    #[must_use]
    pub fn below(&self) -> Self {
        Self { above: Some(Arc::new(self.clone())), ..Self::default() }
    }

    /// Asks all lanes to stop.
    pub fn cancel(&self) {
        self.inside.store(true, Ordering::Relaxed);
    }

    /// Whether the request came from outside, not from a lane that failed.
    #[must_use]
    pub fn is_from_outside(&self) -> bool {
        self.outside.load(Ordering::Relaxed)
    }

    /// Whether somebody asked.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.inside.load(Ordering::Relaxed)
            || self.is_from_outside()
            || self.above.as_ref().is_some_and(|above| above.is_cancelled())
    }

    /// Goes on, or says that somebody asked to stop.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }

    /// Returns once somebody asked. Polls, because a signal handler may do no
    /// more than set a flag.
    pub async fn cancelled(&self) {
        while !self.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cancel;

    #[test]
    fn a_request_below_is_made_with_the_one_above_or_alone() {
        let above = Cancel::default();
        let (first, second) = (above.below(), above.below());
        first.cancel();
        assert!(first.is_cancelled() && !second.is_cancelled() && !above.is_cancelled());
        above.cancel();
        assert!(second.is_cancelled());
    }
}

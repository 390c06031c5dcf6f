//! Steps that happen whole, or stop the replica.

use super::{Error, Replica};
use crate::journal::Volume;

impl<B, V: Volume> Replica<B, V> {
    /// Runs a step. Where it fails in a way that leaves target or journal
    /// unknown, and where its future is dropped before the end, nothing else
    /// is done with this replica.
    pub(super) async fn step<T>(
        &mut self,
        step: impl AsyncFnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if let Some(reason) = &self.stopped {
            return Err(Error::Stopped { reason: reason.clone() });
        }
        self.stopped = Some("a step was abandoned halfway".to_owned());
        let result = step(self).await;
        self.stopped = result.as_ref().err().filter(|error| error.stops()).map(ToString::to_string);
        result
    }
}

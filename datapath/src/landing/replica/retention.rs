//! Giving points up: for their age, and for room.

use super::{Error, Replica};
use crate::disk::Blocks;
use crate::journal::{Expired, Paused, RetentionPolicy, Volume};
use crate::unit::Epoch;

impl<B: Blocks + 'static, V: Volume> Replica<B, V> {
    /// Drops points as `policy` says, by `time` as [`crate::journal::Journal::expire`]
    /// has it; none while one is being chosen.
    ///
    /// # Errors
    /// Those of the journal.
    pub async fn expire(
        &mut self,
        policy: &RetentionPolicy,
        time: Result<u64, Paused>,
    ) -> Result<Expired, Error> {
        self.step(async |replica| match replica.state() {
            state if state.keeps_all_points() => Ok(Expired::default()),
            _ => Ok(replica.journal.expire(policy, time)?),
        })
        .await
    }

    /// Drops points, oldest first, for `bytes` that the volume refused, as
    /// [`crate::journal::Journal::give_up`]; none while one is being chosen.
    ///
    /// # Errors
    /// Those of the journal.
    pub async fn give_up(&mut self, bytes: u64) -> Result<(Vec<Epoch>, u64), Error> {
        self.step(async |replica| match replica.state() {
            state if state.keeps_all_points() => Ok((Vec::new(), 0)),
            _ => Ok(replica.journal.give_up(bytes)?),
        })
        .await
    }
}

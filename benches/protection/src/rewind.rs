//! Opening a replica again that was left in the middle, and taking it back to
//! its first point.

use std::time::Instant;

use failback_datapath::ring;

use crate::error::Error;
use crate::field::Field;

/// Seconds until a replica that was left in the middle of an epoch takes deltas.
///
/// # Errors
/// Those of the replica.
pub fn recover(field: &Field) -> Result<f64, Error> {
    ring::run(async {
        let begun = Instant::now();
        let replica = field.enter().await?;
        drop(replica);
        Ok(begun.elapsed().as_secs_f64())
    })?
}

/// Seconds of a rewind over all that changed since the first point.
///
/// # Errors
/// Those of the replica.
pub fn rewind(field: &Field) -> Result<f64, Error> {
    ring::run(async {
        let mut replica = field.enter().await?;
        let first = replica.journal().points().next().map(|point| point.epoch).ok_or(Error::NoRoom)?;
        replica.fence().await?;
        let begun = Instant::now();
        replica.rewind(first).await?;
        Ok(begun.elapsed().as_secs_f64())
    })?
}

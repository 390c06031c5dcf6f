//! Taking a replica back to its first point.

use std::time::Instant;

use failback_datapath::ring;

use super::field::Field;
use crate::error::Error;

/// Seconds of a rewind over all that changed since the first point.
///
/// # Errors
/// Those of the replica.
pub fn rewind(field: &Field<'_>) -> Result<f64, Error> {
    ring::run(async {
        let mut replica = field.enter().await?;
        let first = replica.journal().points().next().map(|point| point.epoch).ok_or(Error::NoRoom)?;
        replica.fence().await?;
        let begun = Instant::now();
        replica.rewind(first).await?;
        Ok(begun.elapsed().as_secs_f64())
    })?
}

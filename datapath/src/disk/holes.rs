//! Walking a disk in order while knowing which ranges are holes.

use super::{Error, RingDisk};
use crate::unit::Extent;

/// Answers "is this range a hole?" for ranges asked in ascending order, with
/// one `SEEK_DATA` for each hole instead of one for each range.
#[derive(Default)]
pub struct HoleCursor {
    /// The last answer: no data from its start to its end.
    hole: Option<Extent>,
}

impl HoleCursor {
    /// Whether `extent` surely reads as zero, because nothing is stored there.
    ///
    /// # Errors
    /// [`Error::Io`] where the search itself fails.
    pub fn is_hole(&mut self, disk: &RingDisk, extent: Extent) -> Result<bool, Error> {
        if let Some(hole) = self.hole
            && hole.offset() <= extent.offset()
            && extent.offset() < hole.end()
        {
            return Ok(extent.end() <= hole.end());
        }
        let data = disk.next_data(extent.offset())?;
        self.hole = (data > extent.offset()).then(|| Extent::between(extent.offset(), data));
        Ok(data >= extent.end())
    }
}

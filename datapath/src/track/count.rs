//! The kernel's own count of written and discarded sectors against what was seen.
//!
//! The kernel tells the programs of a completed request first and counts it right
//! afterwards. So when its count is read before ours, it may lag, and must never
//! be further ahead than when tracking began: its *lead*. A lead that grows means
//! requests that were missed. This holds under any load; it cannot alarm falsely.
//!
//! How sharp it is depends on how well the lead is known. At first it includes
//! what completed while it was read. When the disk is found still and unchanged
//! twice, [`limits::STILL_FOR`](crate::limits::STILL_FOR) apart, the lead is exact
//! from then on, and nothing missed since then stays hidden past the next moment
//! in which the disk is still. Where the kernel does not count (`queue/iostats` is
//! 0) there is nothing to compare: such a disk is not tracked, and one whose count
//! is turned off is in doubt.
//!
//! A completion is unseen for certain where the kernel hides tasks from all
//! tracers ([`switches`](super::switches)). That is no false alarm: the mark that
//! such a request had from its issue may have been taken, and its chunk read,
//! before it was written.

use std::time::Instant;

use super::doubt::Doubt;
use crate::limits;

/// Sectors of 512 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) written: u64,
    pub(super) discarded: u64,
}

/// What the kernel shows in a disk's `stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KernelCounts {
    pub(super) sectors: Counts,
    /// Requests under way.
    pub(super) in_flight: u64,
}

impl KernelCounts {
    /// From the text of `/sys/block/…/stat` (Documentation/block/stat.rst);
    /// `None` where it is not as known.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let fields: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        // Discards are counted since 4.18.
        let sectors = Counts { written: *fields.get(6)?, discarded: *fields.get(13)? };
        Some(Self { sectors, in_flight: *fields.get(8)? })
    }
}

/// How far the kernel's counts are ahead of ours at most; below zero where it
/// did not count for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lead {
    pub(super) written: i64,
    pub(super) discarded: i64,
}

impl Lead {
    /// Of counts that belong together.
    pub(super) fn between(kernel: Counts, seen: Counts) -> Self {
        let lead = |kernel: u64, seen: u64| kernel.wrapping_sub(seen).cast_signed();
        Self {
            written: lead(kernel.written, seen.written),
            discarded: lead(kernel.discarded, seen.discarded),
        }
    }

    fn lower(self, other: Self) -> Self {
        Self { written: self.written.min(other.written), discarded: self.discarded.min(other.discarded) }
    }
}

/// Remembers when the disk was last seen still.
#[derive(Debug, Default)]
pub(super) struct StillWatch {
    since: Option<(Instant, KernelCounts, Counts)>,
}

impl StillWatch {
    /// Forgets what it saw.
    pub(super) fn reset(&mut self) {
        self.since = None;
    }

    /// Compares `kernel`, read before `seen`, with the greatest lead there may be.
    /// Returns that lead, lowered where it is now known better.
    ///
    /// # Errors
    /// [`Doubt::SectorCount`].
    pub(super) fn compare(
        &mut self,
        kernel: KernelCounts,
        seen: Counts,
        greatest: Lead,
        now: Instant,
    ) -> Result<Lead, Doubt> {
        let lead = Lead::between(kernel.sectors, seen);
        let kinds =
            [("written", lead.written, greatest.written), ("discarded", lead.discarded, greatest.discarded)];
        for (what, lead, greatest) in kinds {
            if lead > greatest {
                return Err(Doubt::SectorCount { what, missing_sectors: lead.abs_diff(greatest) });
            }
        }
        let is_same = self.since.is_some_and(|(_, before, ours)| before == kernel && ours == seen);
        if kernel.in_flight > 0 || !is_same {
            self.since = (kernel.in_flight == 0).then_some((now, kernel, seen));
            return Ok(greatest);
        }
        let is_still =
            self.since.is_some_and(|(since, ..)| now.saturating_duration_since(since) >= limits::STILL_FOR);
        Ok(if is_still { greatest.lower(lead) } else { greatest })
    }
}

#[cfg(test)]
mod tests;

//! Reading a target back from its device and holding it against the source's digests.

use std::sync::Arc;

use super::{Error, SegmentDigests};
use crate::disk::{Disk, RingDisk};
use crate::pipeline::{Cancel, Digester, Pool, ReadAhead, Segments, Share, run_lanes};
use crate::telemetry::{Counter, Latencies, Meter, Stage, Tally};
use crate::unit::{Digest, Extent, to_usize};

/// The digests of a source's segments, by segment number.
pub type Expected = Vec<Option<Digest>>;

/// Puts digests of segments to their places.
pub(super) fn place(expected: &mut Expected, digests: Vec<(u64, Digest)>) {
    for (index, digest) in digests {
        let index = to_usize(index);
        if expected.len() <= index {
            expected.resize(index + 1, None);
        }
        expected[index] = Some(digest);
    }
}

/// Reads `target` again and compares each segment.
///
/// # Errors
/// [`Error::Differs`] names the first extents that do not hold what the source
/// held; read errors and [`Error::Interrupted`] as they come.
pub fn verify(
    target: &Arc<Disk>,
    size_bytes: u64,
    digester: &Digester,
    expected: &Expected,
    share: &Share,
    cancel: &Cancel,
    tally: &Arc<Tally>,
) -> Result<Latencies, Error> {
    target.drop_cache();
    let segments = Segments::new(size_bytes);
    let lane = async |number: usize| {
        let meter = Meter::new(Arc::clone(tally));
        let disk = RingDisk::new(Arc::clone(target));
        let plan = segments.windows_of_lane(number as u64, share.lanes() as u64);
        // The lanes that wrote have given their buffers back.
        let queue = share.queue(1);
        let pool = Pool::new(queue.buffers).map_err(Error::memory)?;
        let mut windows = ReadAhead::new(disk, plan, pool, queue.depth);
        let mut digests = SegmentDigests::new(digester.clone(), segments);
        let mut differing = Vec::new();
        while let Some(window) = windows.next().await? {
            cancel.check()?;
            if window.bytes.is_some() {
                meter.count(Counter::BytesReadTarget, window.extent.length());
                meter.record(Stage::ReadTarget, window.elapsed);
            }
            let chunks = digests.window(window.extent, window.data());
            meter.count(Counter::BytesVerified, window.extent.length());
            if let Some((index, digest)) = digests.push(window.extent, &chunks)
                && expected.get(to_usize(index)).copied().flatten() != Some(digest)
            {
                differing.push(segments.extent(index));
            }
        }
        Ok::<_, Error>((differing, meter.take_latencies()))
    };
    let mut all: Vec<Extent> = Vec::new();
    let mut latencies = Latencies::default();
    for result in super::first_error(run_lanes(share.lanes(), cancel, lane))? {
        all.extend(result.0);
        latencies.merge(result.1);
    }
    all.sort_unstable();
    if all.is_empty() { Ok(latencies) } else { Err(Error::differs(target.path(), all)) }
}

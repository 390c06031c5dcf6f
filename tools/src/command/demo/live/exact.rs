//! Two disks byte by byte, read past every cache.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use failback_datapath::disk::{self, Disk, Purpose, RingDisk};
use failback_datapath::limits::WINDOW_BYTES;
use failback_datapath::ring;
use failback_datapath::sys::Arena;
use failback_datapath::unit::{Extent, to_usize};

use crate::command::demo::compare::Difference;
use crate::command::demo::error::Error;
use crate::command::demo::stage::Stage;

/// Holds the disk at `source` against that at `target`.
///
/// # Errors
/// [`Error::Differs`], [`Error::Disk`], [`Error::Interrupted`].
pub fn compare(source: &Path, target: &Path, stage: &Stage<'_>) -> Result<(), Error> {
    let open = |path: &Path, purpose| Ok::<Disk, Error>(disk::open(path, purpose)?);
    let (ours, theirs) = (open(source, Purpose::Source { live: true })?, open(target, Purpose::Inspection)?);
    let size_bytes = ours.size_bytes();
    if theirs.size_bytes() != size_bytes {
        return Err(Error::Differs(vec![Difference::new(target, "another size")]));
    }
    let disks = [ours, theirs].map(|disk| RingDisk::new(Arc::new(disk)));
    ring::run(async {
        let window = NonZeroUsize::new(to_usize(u64::from(WINDOW_BYTES))).unwrap_or(NonZeroUsize::MIN);
        let memory = |source| Error::at("take memory to read", target)(source);
        let mut buffers = Arena::buffers(2, window).map_err(memory)?.into_iter();
        let (Some(mut one), Some(mut other)) = (buffers.next(), buffers.next()) else { return Ok(()) };
        let mut offset = 0;
        while offset < size_bytes {
            stage.check()?;
            let end = (offset + u64::from(WINDOW_BYTES)).min(size_bytes);
            let extent = Extent::between(offset, end);
            let (left, right) = tokio::join!(disks[0].read(extent, one), disks[1].read(extent, other));
            (one, other) = (left.1, right.1);
            left.0.and(right.0)?;
            let length = to_usize(extent.length());
            if one.bytes()[..length] != other.bytes()[..length] {
                return Err(Error::Differs(vec![Difference::new(
                    target,
                    "other bytes than the disk in the cloud",
                )]));
            }
            offset = end;
        }
        Ok(())
    })?
}

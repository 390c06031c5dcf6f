//! The target's part in any run, local or over the network: its mark before
//! the first byte, its flush after the last, its verification.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::verify::{Expected, verify};
use super::{Error, Failure, Phase, Settings, TargetState, Watch};
use crate::disk::{Disk, RingDisk};
use crate::landing::{self, Checkpoint, Claim, MarkBody, Progress};
use crate::pipeline::{Digester, Segments, Share};
use crate::ring;
use crate::telemetry::{Latencies, Meter};

/// A target in a run.
pub struct TargetRun {
    pub(super) disk: Arc<Disk>,
    pub(super) checkpoint: Checkpoint,
    size_bytes: u64,
    /// The cursor of the interrupted run before this one.
    pub(super) resumed_from: Option<u64>,
    dry_run: bool,
    touched: AtomicBool,
}

impl TargetRun {
    /// Marks the target as unfinished, unless nothing will be written.
    pub fn begin(
        disk: Arc<Disk>,
        source_name: &str,
        size_bytes: u64,
        settings: &Settings,
        watch: &Watch,
    ) -> Result<Self, Error> {
        settings.state.check_unowned(disk.identity(), disk.size_bytes())?;
        // Where nobody can tell, only the state folder does.
        if Claim::is_taken(&disk.identity().to_string()).unwrap_or(false) {
            return Err(landing::Error::Claimed { target: disk.path().to_owned() }.into());
        }
        let earlier = settings.state.mark(disk.identity())?;
        let resumed_from = earlier.as_ref().map(|mark| mark.body().cursor_bytes);
        if let Some(cursor_bytes) = resumed_from {
            // After a flush that failed the page cache may hold what the device
            // does not: the comparison must see the device.
            disk.drop_cache();
            watch.notice(super::resuming(&disk.path().display().to_string(), cursor_bytes));
        }
        let mark = if settings.dry_run {
            None
        } else {
            let target_name = super::full_name(disk.path());
            let mut body = MarkBody::new(target_name, source_name.to_owned(), size_bytes, settings.whole);
            body.cursor_bytes =
                earlier.map(|mark| mark.body().clone()).map_or(0, |old| body.cursor_kept(&old));
            Some(settings.state.begin(disk.identity(), body)?)
        };
        let checkpoint = Checkpoint::new(Progress::new(Segments::new(size_bytes)), mark);
        Ok(Self {
            disk,
            checkpoint,
            size_bytes,
            resumed_from,
            dry_run: settings.dry_run,
            touched: AtomicBool::new(false),
        })
    }

    /// The end of a run whose lanes all ended well: flush, verify if digests
    /// are given, take the mark away.
    pub fn finish(
        &self,
        verification: Option<(&Digester, &Expected)>,
        share: &Share,
        watch: &Watch,
    ) -> Result<Latencies, Error> {
        if self.dry_run {
            return Ok(Latencies::default());
        }
        watch.enter(Phase::Flush);
        let mut latencies = self.checkpoint_now(watch)?;
        if let Some((digester, expected)) = verification {
            watch.enter(Phase::Verify);
            latencies.merge(verify(
                &self.disk,
                self.size_bytes,
                digester,
                expected,
                share,
                &watch.cancel,
                &watch.tally,
            )?);
        }
        self.checkpoint.clear()?;
        self.disk.release();
        Ok(latencies)
    }

    /// The end of a run that failed: keep what is durable, say what is so.
    pub fn fail(&self, error: Error, watch: &Watch) -> Failure {
        // What a verification refuted is unfinished, whoever damaged it.
        let changed = self.touched.load(Ordering::Relaxed) || matches!(error, Error::Differs { .. });
        if self.dry_run || (!changed && self.resumed_from.is_none()) {
            // A mark that cannot be taken away only asks for one more run.
            drop(self.checkpoint.clear());
            self.disk.release();
            return Failure { error, target: TargetState::Untouched };
        }
        // After a failed flush the old cursor stands, which is what is durable.
        drop(self.checkpoint_now(watch));
        // Written and flushed, and yet not what was read from the source.
        if let Error::Differs { extents, .. } = &error
            && let Some(first) = extents.first()
        {
            drop(self.checkpoint.retreat(first.offset()));
        }
        self.disk.release();
        let cursor_bytes = self.checkpoint.durable_cursor().unwrap_or(0);
        Failure { error, target: TargetState::Unfinished { cursor_bytes } }
    }

    /// From now on the target is no longer what it was before this run.
    pub fn touch(&self) {
        self.touched.store(true, Ordering::Relaxed);
    }

    fn checkpoint_now(&self, watch: &Watch) -> Result<Latencies, Error> {
        let meter = Meter::new(Arc::clone(&watch.tally));
        let disk = Arc::clone(&self.disk);
        ring::run(async { self.checkpoint.take(&RingDisk::new(disk), &meter).await })??;
        Ok(meter.take_latencies())
    }
}

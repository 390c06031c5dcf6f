//! Both disks on this host: read, compare, write, in one thread a lane.
//!
//! Where both sides are in memory, chunks are compared byte by byte: that is
//! exact, and cheaper than two digests.

use std::sync::Arc;

use super::runs::{Fate, runs};
use super::target_run::TargetRun;
use super::verify::Expected;
use super::{Error, Failure, Phase, Report, SegmentDigests, Settings, TargetState, Watch, first_error};
use crate::disk::{Disk, HoleCursor, RingDisk};
use crate::landing::{Ticket, Writer};
use crate::pipeline::{
    Digester, Pool, ReadAhead, Segments, Share, Throttle, Window, chunk_count, default_lanes, depth_for,
    is_zero, run_lanes,
};
use crate::telemetry::{Counter, Latencies, Meter, Stage};
use crate::unit::{Digest, Extent, to_usize};

/// Makes `target` hold what `source` holds.
///
/// # Errors
/// [`Failure`] says why it ended and what state the target is in.
pub fn synchronize(
    source: Disk,
    target: Disk,
    settings: &Settings,
    watch: &Watch,
) -> Result<Report, Failure> {
    let untouched = |error| Failure { error, target: TargetState::Untouched };
    let (source, target) = (Arc::new(source), Arc::new(target));
    super::check_pair(&source, &target, settings, watch).map_err(untouched)?;
    let digester = super::new_digester(settings).map_err(untouched)?;
    let size_bytes = source.size_bytes();
    let name = super::full_name(source.path());
    let target = TargetRun::begin(target, &name, size_bytes, settings, watch).map_err(untouched)?;
    let segments = Segments::new(size_bytes);
    let lanes = settings.lanes.unwrap_or_else(default_lanes).min(to_usize(segments.count())).max(1);
    let compare_until = settings.compare_until(target.resumed_from);
    let plan = Plan { source, target: &target, segments, lanes, compare_until, digester, settings, watch };
    watch.enter(Phase::Copy);
    let throttle = Throttle::new(settings.rate_limit);
    let copied = first_error(run_lanes(lanes, &watch.cancel, async |number| {
        let mut lane = Lane::new(&plan, number, throttle.clone())?;
        let walked = lane.walk().await.inspect_err(|_| lane.spoil());
        // Nothing may be in flight when the state of the target is told.
        let drained = lane.writer.drain().await;
        walked?;
        drained?;
        Ok((lane.expected, lane.meter.take_latencies()))
    }));
    let ended = copied.and_then(|lanes_done| plan.finish(lanes_done));
    match ended {
        Ok(latencies) => Ok(plan.report(&latencies)),
        Err(error) => Err(target.fail(error, watch)),
    }
}

/// What all lanes of a run share.
struct Plan<'a> {
    source: Arc<Disk>,
    target: &'a TargetRun,
    segments: Segments,
    lanes: usize,
    /// Chunks before this byte are compared.
    compare_until: u64,
    digester: Digester,
    settings: &'a Settings,
    watch: &'a Watch,
}

type LaneDone = (Vec<(u64, Digest)>, Latencies);

impl Plan<'_> {
    fn finish(&self, lanes_done: Vec<LaneDone>) -> Result<Latencies, Error> {
        if !self.settings.dry_run {
            self.source.check_unwritten()?;
        }
        let mut latencies = Latencies::default();
        let mut expected: Expected = Vec::new();
        for (digests, lane_latencies) in lanes_done {
            latencies.merge(lane_latencies);
            super::verify::place(&mut expected, digests);
        }
        let verification = self.settings.verify.then_some((&self.digester, &expected));
        latencies.merge(self.target.finish(verification, &Share::whole(self.lanes), self.watch)?);
        Ok(latencies)
    }

    fn report(&self, latencies: &Latencies) -> Report {
        let counts = self.watch.tally.counts();
        Report {
            verified: self.settings.verify && !self.settings.dry_run,
            dry_run: self.settings.dry_run,
            fuzzy: self.source.is_live(),
            resumed_from: self.target.resumed_from,
            ..Report::new(self.segments.size_bytes(), counts, latencies, self.lanes)
        }
    }
}

/// One lane: its reads of both disks, its writes.
struct Lane<'a, P> {
    plan: &'a Plan<'a>,
    meter: Meter,
    source: ReadAhead<P>,
    /// Windows of the target, as far as they are compared.
    target: ReadAhead<P>,
    target_disk: RingDisk,
    target_holes: HoleCursor,
    writer: Writer,
    throttle: Throttle,
    digests: SegmentDigests,
    expected: Vec<(u64, Digest)>,
    ticket: Option<(u64, Ticket)>,
}

fn lane_plan(plan: &Plan<'_>, number: usize, until: u64) -> impl Iterator<Item = Extent> + use<> {
    let windows = plan.segments.windows_of_lane(number as u64, plan.lanes as u64);
    windows.take_while(move |window| window.offset() < until)
}

impl<'a> Lane<'a, ()> {
    fn new(
        plan: &'a Plan<'a>,
        number: usize,
        throttle: Throttle,
    ) -> Result<Lane<'a, impl Iterator<Item = Extent> + use<>>, Error> {
        let meter = Meter::new(Arc::clone(&plan.watch.tally));
        let until = plan.compare_until;
        // The source's buffers also carry the writes; the target's only its reads.
        let depth = depth_for(plan.lanes, if until == 0 { 2 } else { 3 });
        let source_pool = Pool::new(depth * 2).map_err(Error::memory)?;
        let target_pool = Pool::new(if until == 0 { 1 } else { depth + 1 }).map_err(Error::memory)?;
        let source_disk = RingDisk::new(Arc::clone(&plan.source));
        let target_disk = RingDisk::new(Arc::clone(&plan.target.disk));
        Ok(Lane {
            plan,
            source: ReadAhead::new(source_disk, lane_plan(plan, number, u64::MAX), source_pool, depth),
            target: ReadAhead::new(target_disk.clone(), lane_plan(plan, number, until), target_pool, depth),
            writer: Writer::new(target_disk.clone(), meter.clone()),
            meter,
            target_disk,
            target_holes: HoleCursor::default(),
            throttle,
            digests: SegmentDigests::new(plan.digester.clone(), plan.segments),
            expected: Vec::new(),
            ticket: None,
        })
    }
}

impl<P: Iterator<Item = Extent>> Lane<'_, P> {
    async fn walk(&mut self) -> Result<(), Error> {
        loop {
            // Both reads are started before either is waited for.
            self.target.start()?;
            let Some(window) = self.source.next().await? else { break };
            self.plan.watch.cancel.check()?;
            let compared = window.extent.offset() < self.plan.compare_until;
            let theirs = if compared { self.target.next().await? } else { None };
            self.measure(&window, theirs.as_ref());
            self.expect(&window);
            self.land(window, theirs).await?;
            self.plan.target.checkpoint.take_if_due(&self.target_disk, &self.meter).await?;
        }
        self.writer.submit_zeroes().await?;
        self.ticket = None;
        Ok(())
    }

    /// Brings one window of the target to what the source holds.
    async fn land(&mut self, window: Window, theirs: Option<Window>) -> Result<(), Error> {
        let start = std::time::Instant::now();
        let (mut data, mut zero) = (Vec::new(), Vec::new());
        for run in runs(window.extent, |_, chunk| fate(&window, theirs.as_ref(), chunk)) {
            match run.fate {
                Fate::Equal => {}
                Fate::Data => data.push(run.extent),
                // Without a comparison, a hole of the target is zero as it is.
                Fate::Zero
                    if theirs.is_none() && self.target_holes.is_hole(&self.target_disk, run.extent)? => {}
                Fate::Zero => zero.push(run.extent),
            }
        }
        drop(theirs);
        self.meter.time(Stage::Digest, start);
        let extent = window.extent;
        let ticket = self.ticket_for(extent).await?;
        for extent in data.iter().chain(&zero) {
            self.meter.count(Counter::ChunksDiffering, chunk_count(*extent));
        }
        let differs = !data.is_empty() || !zero.is_empty();
        if differs && !self.plan.settings.dry_run {
            self.plan.target.touch();
            for extent in zero {
                self.writer.zero(extent, ticket.clone()).await?;
            }
            if let (false, Some(buffer)) = (data.is_empty(), window.bytes) {
                // At a low rate a window takes long, and nobody who stops a run waits for it.
                tokio::select! {
                    biased;
                    () = self.throttle.admit(data.iter().map(|extent| extent.length()).sum()) => {}
                    () = self.plan.watch.cancel.cancelled() => return Err(Error::Interrupted),
                }
                self.writer.write(extent.offset(), data, buffer, ticket).await?;
            }
        }
        self.meter.count(Counter::BytesDone, extent.length());
        Ok(())
    }

    fn expect(&mut self, window: &Window) {
        if self.plan.settings.verify {
            let chunks = self.digests.window(window.extent, window.data());
            self.expected.extend(self.digests.push(window.extent, &chunks));
        }
    }

    fn measure(&self, window: &Window, theirs: Option<&Window>) {
        if window.bytes.is_some() {
            self.meter.count(Counter::BytesReadSource, window.extent.length());
            self.meter.record(Stage::ReadSource, window.elapsed);
        }
        if let Some(theirs) = theirs.filter(|theirs| theirs.bytes.is_some()) {
            self.meter.count(Counter::BytesReadTarget, theirs.extent.length());
            self.meter.record(Stage::ReadTarget, theirs.elapsed);
        }
    }

    /// The ticket of the segment that the window lies in; the one before it is let go.
    async fn ticket_for(&mut self, window: Extent) -> Result<Ticket, Error> {
        let index = Segments::index_of(window.offset());
        match &self.ticket {
            Some((held, ticket)) if *held == index => Ok(ticket.clone()),
            _ => {
                self.writer.submit_zeroes().await?;
                let ticket = self.plan.target.checkpoint.progress().ticket(index);
                self.ticket = Some((index, ticket.clone()));
                Ok(ticket)
            }
        }
    }

    /// The segment at hand will not be finished.
    fn spoil(&self) {
        if let Some((_, ticket)) = &self.ticket {
            ticket.spoil();
        }
    }
}

/// What one chunk of the target needs.
fn fate(window: &Window, theirs: Option<&Window>, chunk: Extent) -> Fate {
    let begin = to_usize(chunk.offset() - window.extent.offset());
    let range = begin..begin + to_usize(chunk.length());
    let mine = window.data().map(|bytes| &bytes[range.clone()]);
    let theirs = theirs.map(|window| window.data().map(|bytes| &bytes[range]));
    match (mine, theirs) {
        (Some(mine), Some(Some(theirs))) if mine == theirs => Fate::Equal,
        (None, Some(None)) => Fate::Equal,
        (None, Some(Some(theirs))) if is_zero(theirs) => Fate::Equal,
        (Some(mine), Some(None)) if is_zero(mine) => Fate::Equal,
        (Some(mine), _) if !is_zero(mine) => Fate::Data,
        _ => Fate::Zero,
    }
}

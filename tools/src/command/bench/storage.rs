//! Stages that need a disk: reading the source, writing the target.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use failback_datapath::disk::{Disk, RingDisk};
use failback_datapath::landing::{Progress, Writer};
use failback_datapath::pipeline::{Pool, ReadAhead, Segments, depth_for, run_lanes};
use failback_datapath::ring;
use failback_datapath::telemetry::{Counter, Latencies, Meter, Stage, Tally};
use failback_datapath::unit::to_u64;

use super::measure::{Round, Stopwatch};
use super::sample::Content;
use super::{Error, Workbench};

/// Reads the source as a synchronization does; holes are not read.
pub fn read(bench: &Workbench) -> Result<Round, Error> {
    let source = Arc::new(bench.disks.open_source()?);
    source.drop_cache();
    let tally = Arc::new(Tally::default());
    let (segments, lanes) = (Segments::new(source.size_bytes()), bench.lanes);
    let stopwatch = Stopwatch::start();
    let lanes_done = run_lanes(lanes, &bench.cancel, async |lane| {
        let meter = Meter::new(Arc::clone(&tally));
        let depth = depth_for(lanes, 1);
        let pool = Pool::new(depth + 1).map_err(Error::Memory)?;
        let plan = segments.windows_of_lane(to_u64(lane), to_u64(lanes));
        let mut windows = ReadAhead::new(RingDisk::new(Arc::clone(&source)), plan, pool, depth);
        while let Some(window) = windows.next().await? {
            bench.cancel.check()?;
            if window.bytes.is_some() {
                meter.count(Counter::BytesReadSource, window.extent.length());
                meter.record(Stage::ReadSource, window.elapsed);
            }
        }
        Ok(meter.take_latencies())
    });
    let latencies = merge(lanes_done)?;
    Ok(stopwatch.stop(tally.counts().bytes_read_source, latencies))
}

/// Writes the whole target with data that is not zero, and flushes it.
pub fn write(bench: &Workbench) -> Result<Round, Error> {
    let target = Arc::new(bench.disks.open_target()?);
    bench.target_is_copy.store(false, Ordering::Relaxed);
    let segments = Segments::new(bench.size_bytes);
    let tally = Arc::new(Tally::default());
    let windows = bench.sample.windows(|content| content != Content::Zero);
    let (lanes, cancel) = (bench.lanes, &bench.cancel);
    let stopwatch = Stopwatch::start();
    let lanes_done = run_lanes(lanes, cancel, async |lane| {
        let meter = Meter::new(Arc::clone(&tally));
        let pool = filled_pool(depth_for(lanes, 1), &windows)?;
        let mut writer = Writer::new(RingDisk::new(Arc::clone(&target)), meter.clone());
        let progress = Progress::new(segments);
        let mut written = Ok(());
        for extent in segments.windows_of_lane(to_u64(lane), to_u64(lanes)) {
            let ticket = progress.ticket(Segments::index_of(extent.offset()));
            let buffer = pool.take().await;
            written = writer.write(extent.offset(), vec![extent], buffer, ticket).await;
            if written.is_err() || cancel.is_cancelled() {
                break;
            }
        }
        writer.drain().await?;
        written?;
        cancel.check()?;
        Ok(meter.take_latencies())
    });
    let mut latencies = merge(lanes_done)?;
    flush(&target, &mut latencies)?;
    Ok(stopwatch.stop(tally.counts().bytes_written, latencies))
}

/// Buffers that hold data already, each other data: copying it there belongs to
/// no write.
fn filled_pool(count: usize, windows: &[&[u8]]) -> Result<Pool, Error> {
    let pool = Pool::new(count).map_err(Error::Memory)?;
    let mut buffers: Vec<_> = std::iter::from_fn(|| pool.try_take()).collect();
    for (buffer, window) in buffers.iter_mut().zip(windows.iter().cycle()) {
        buffer.bytes_mut().copy_from_slice(window);
    }
    Ok(pool)
}

fn flush(target: &Arc<Disk>, latencies: &mut Latencies) -> Result<(), Error> {
    let start = Instant::now();
    ring::run(async { RingDisk::new(Arc::clone(target)).flush().await })??;
    latencies.record(Stage::Flush, start.elapsed());
    Ok(())
}

/// The latencies of all lanes, or the error that ended them.
fn merge(lanes_done: Vec<Result<Latencies, Error>>) -> Result<Latencies, Error> {
    let mut latencies = Latencies::default();
    let mut interrupted = false;
    for done in lanes_done {
        match done {
            Ok(lane) => latencies.merge(lane),
            // A lane that was stopped because another one failed.
            Err(Error::Interrupted) => interrupted = true,
            Err(error) => return Err(error),
        }
    }
    if interrupted { Err(Error::Interrupted) } else { Ok(latencies) }
}

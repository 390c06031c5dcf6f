//! What a run counts and times: counters shared by all lanes, latencies of each.
//!
//! In: numbers from the rooms below. Out: snapshots for people and machines.
//! Invariants: the names here are the names in `--json`, in the API and in the
//! docs. Never: prints, blocks, allocates while counting.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Something a user should know that is not an error: a stable name for
/// machines, a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Stable, in kebab case: `buffered`, `larger-target`, `unfinished-source`, …
    pub name: std::borrow::Cow<'static, str>,
    /// What is so, and what it means.
    pub text: String,
}

impl Notice {
    /// A notice called `name` that says `text`.
    #[must_use]
    pub const fn new(name: &'static str, text: String) -> Self {
        Self { name: std::borrow::Cow::Borrowed(name), text }
    }
}

/// Counters of a run, shared by its lanes. All are bytes but `chunks_differing`.
#[derive(Debug, Default)]
pub struct Tally {
    bytes_done: AtomicU64,
    bytes_read_source: AtomicU64,
    bytes_read_target: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_written: AtomicU64,
    bytes_zeroed: AtomicU64,
    chunks_differing: AtomicU64,
    bytes_verified: AtomicU64,
}

/// The names of the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Bytes of the disk that are dealt with: skipped, compared or copied.
    BytesDone,
    /// Bytes read from the source; holes are not read.
    BytesReadSource,
    /// Bytes read from the target to compare or to verify.
    BytesReadTarget,
    /// Payload bytes handed to the network, after compression, without TLS.
    BytesSent,
    /// Bytes written to the target as data.
    BytesWritten,
    /// Bytes of the target turned to zero.
    BytesZeroed,
    /// Chunks that differed, or that were copied without comparing.
    ChunksDiffering,
    /// Bytes of the target held against the source's digests at the end, holes
    /// included.
    BytesVerified,
}

impl Tally {
    /// Adds `amount` to one counter.
    pub fn add(&self, counter: Counter, amount: u64) {
        self.cell(counter).fetch_add(amount, Ordering::Relaxed);
    }

    fn cell(&self, counter: Counter) -> &AtomicU64 {
        match counter {
            Counter::BytesDone => &self.bytes_done,
            Counter::BytesReadSource => &self.bytes_read_source,
            Counter::BytesReadTarget => &self.bytes_read_target,
            Counter::BytesSent => &self.bytes_sent,
            Counter::BytesWritten => &self.bytes_written,
            Counter::BytesZeroed => &self.bytes_zeroed,
            Counter::ChunksDiffering => &self.chunks_differing,
            Counter::BytesVerified => &self.bytes_verified,
        }
    }

    /// Adds the counters that another process kept.
    pub fn absorb(&self, other: Counts) {
        self.add(Counter::BytesReadSource, other.bytes_read_source);
        self.add(Counter::BytesReadTarget, other.bytes_read_target);
        self.add(Counter::BytesSent, other.bytes_sent);
        self.add(Counter::BytesWritten, other.bytes_written);
        self.add(Counter::BytesZeroed, other.bytes_zeroed);
        self.add(Counter::ChunksDiffering, other.chunks_differing);
        self.add(Counter::BytesVerified, other.bytes_verified);
    }

    /// The counters as they stand.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |counter| self.cell(counter).load(Ordering::Relaxed);
        Counts {
            bytes_done: read(Counter::BytesDone),
            bytes_read_source: read(Counter::BytesReadSource),
            bytes_read_target: read(Counter::BytesReadTarget),
            bytes_sent: read(Counter::BytesSent),
            bytes_written: read(Counter::BytesWritten),
            bytes_zeroed: read(Counter::BytesZeroed),
            chunks_differing: read(Counter::ChunksDiffering),
            bytes_verified: read(Counter::BytesVerified),
        }
    }
}

/// A snapshot of a [`Tally`], with the names that `--json` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// See [`Counter::BytesDone`].
    pub bytes_done: u64,
    /// See [`Counter::BytesReadSource`].
    pub bytes_read_source: u64,
    /// See [`Counter::BytesReadTarget`].
    pub bytes_read_target: u64,
    /// See [`Counter::BytesSent`].
    pub bytes_sent: u64,
    /// See [`Counter::BytesWritten`].
    pub bytes_written: u64,
    /// See [`Counter::BytesZeroed`].
    pub bytes_zeroed: u64,
    /// See [`Counter::ChunksDiffering`].
    pub chunks_differing: u64,
    /// See [`Counter::BytesVerified`].
    pub bytes_verified: u64,
}

/// What a lane spends its time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// A window read from the source.
    ReadSource,
    /// A window read from the target.
    ReadTarget,
    /// The digests of a window, or the comparison of two.
    Digest,
    /// Packing an extent for the network.
    Compress,
    /// Handing a frame to the network, backpressure included.
    Send,
    /// Unpacking an extent from the network.
    Decompress,
    /// Writing an extent to the target.
    Write,
    /// Zeroing an extent of the target.
    Zero,
    /// Making the target durable.
    Flush,
}

impl Stage {
    /// All stages, in the order in which a block passes them.
    pub const ALL: [Self; 9] = [
        Self::ReadSource,
        Self::ReadTarget,
        Self::Digest,
        Self::Compress,
        Self::Send,
        Self::Decompress,
        Self::Write,
        Self::Zero,
        Self::Flush,
    ];
}

/// Percentiles of one stage, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageLatency {
    /// The stage.
    pub stage: Stage,
    /// How many times it ran.
    pub count: u64,
    /// Median.
    pub p50_us: u64,
    /// 90th percentile.
    pub p90_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// 99.9th percentile.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl StageLatency {
    /// Joins the percentiles of several lanes: counts add up, and of each
    /// percentile the highest stands, because percentiles cannot be added.
    pub fn join(rows: &mut Vec<Self>, more: Vec<Self>) {
        for row in more {
            match rows.iter_mut().find(|known| known.stage == row.stage) {
                Some(known) => {
                    known.count = known.count.saturating_add(row.count);
                    known.p50_us = known.p50_us.max(row.p50_us);
                    known.p90_us = known.p90_us.max(row.p90_us);
                    known.p99_us = known.p99_us.max(row.p99_us);
                    known.p999_us = known.p999_us.max(row.p999_us);
                    known.max_us = known.max_us.max(row.max_us);
                }
                None => rows.push(row),
            }
        }
    }
}

/// Latencies of the stages of one lane, merged when lanes end. Two significant
/// digits up to ten minutes: at most 40 KiB a stage, made on first use.
#[derive(Default)]
pub struct Latencies {
    stages: [Option<Histogram<u32>>; Stage::ALL.len()],
}

const LATENCY_MAX_NS: u64 = 600 * 1_000_000_000;

impl Latencies {
    /// Records that `stage` took `elapsed`.
    pub fn record(&mut self, stage: Stage, elapsed: Duration) {
        let slot = &mut self.stages[stage as usize];
        if slot.is_none() {
            *slot = Histogram::new_with_bounds(1000, LATENCY_MAX_NS, 2).ok();
        }
        if let Some(histogram) = slot {
            let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
            histogram.saturating_record(nanoseconds.clamp(1000, LATENCY_MAX_NS));
        }
    }

    /// Adds what another lane recorded.
    pub fn merge(&mut self, other: Self) {
        for (mine, theirs) in self.stages.iter_mut().zip(other.stages) {
            match (mine.as_mut(), theirs) {
                // Histograms of equal bounds always add up.
                (Some(mine), Some(theirs)) => drop(mine.add(&theirs)),
                (None, theirs) => *mine = theirs,
                (Some(_), None) => {}
            }
        }
    }

    /// The stages that ran, with their percentiles.
    #[must_use]
    pub fn report(&self) -> Vec<StageLatency> {
        let row = |stage: Stage| {
            let histogram = self.stages[stage as usize].as_ref()?;
            let at = |quantile| histogram.value_at_quantile(quantile).div_ceil(1000);
            Some(StageLatency {
                stage,
                count: histogram.len(),
                p50_us: at(0.5),
                p90_us: at(0.9),
                p99_us: at(0.99),
                p999_us: at(0.999),
                max_us: histogram.max().div_ceil(1000),
            })
        };
        Stage::ALL.into_iter().filter_map(row).collect()
    }
}

/// What a lane measures with: the counters of the run, and latencies of its
/// own, shared by the tasks of its thread.
#[derive(Clone)]
pub struct Meter {
    tally: Arc<Tally>,
    latencies: Rc<RefCell<Latencies>>,
}

impl Meter {
    /// A meter for one lane of the run with these counters.
    #[must_use]
    pub fn new(tally: Arc<Tally>) -> Self {
        Self { tally, latencies: Rc::default() }
    }

    /// Counts.
    pub fn count(&self, counter: Counter, amount: u64) {
        self.tally.add(counter, amount);
    }

    /// Records how long `stage` took since `start`.
    pub fn time(&self, stage: Stage, start: Instant) {
        self.record(stage, start.elapsed());
    }

    /// Records that `stage` took `elapsed`.
    pub fn record(&self, stage: Stage, elapsed: Duration) {
        self.latencies.borrow_mut().record(stage, elapsed);
    }

    /// The counters of the run that this meter counts for.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.tally.counts()
    }

    /// Percentiles of what this lane recorded so far.
    #[must_use]
    pub fn report(&self) -> Vec<StageLatency> {
        self.latencies.borrow().report()
    }

    /// What this lane recorded since the last time it was asked.
    #[must_use]
    pub fn take_latencies(&self) -> Latencies {
        self.latencies.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_latencies_count_both_lanes() {
        let (mut one, mut two) = (Latencies::default(), Latencies::default());
        one.record(Stage::Write, Duration::from_micros(100));
        two.record(Stage::Write, Duration::from_micros(300));
        two.record(Stage::Flush, Duration::from_secs(10_000));
        one.merge(two);
        let report = one.report();
        assert_eq!(report.len(), 2);
        assert_eq!((report[0].stage, report[0].count), (Stage::Write, 2));
        assert!((299..=304).contains(&report[0].max_us), "{report:?}");
        assert!(report[1].max_us >= 590_000_000, "saturates: {report:?}");
    }

    #[test]
    fn stages_index_their_own_slot() {
        for (index, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, index);
        }
    }
}

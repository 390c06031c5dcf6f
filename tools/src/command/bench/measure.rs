//! Time, processor time and latencies: of a round, and of all rounds of a stage.

use std::time::{Duration, Instant};

use failback_datapath::telemetry::{Latencies, StageLatency};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// What one round of one stage took.
pub struct Round {
    /// Bytes walked.
    pub bytes: u64,
    elapsed: Duration,
    processor: Duration,
    latencies: Latencies,
    /// Latencies that the pipeline reported.
    reported: Vec<StageLatency>,
}

/// Runs from its start to its stop.
pub struct Stopwatch {
    started: Instant,
    processor: Duration,
}

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self { processor: processor_time(), started: Instant::now() }
    }

    /// Stops after `bytes` with the latencies of operations.
    pub fn stop(self, bytes: u64, latencies: Latencies) -> Round {
        let elapsed = self.started.elapsed();
        let processor = processor_time().saturating_sub(self.processor);
        Round { bytes, elapsed, processor, latencies, reported: Vec::new() }
    }

    /// Stops after `bytes` with the latencies that a run reported.
    pub fn stop_run(self, bytes: u64, reported: Vec<StageLatency>) -> Round {
        Round { reported, ..self.stop(bytes, Latencies::default()) }
    }
}

/// What the process has used of processors so far, all threads, in user and
/// kernel mode; nothing where the system does not say.
fn processor_time() -> Duration {
    let time = |value: TimeVal| {
        let seconds = u64::try_from(value.tv_sec()).unwrap_or(0);
        Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(value.tv_usec()).unwrap_or(0))
    };
    getrusage(UsageWho::RUSAGE_SELF)
        .map_or(Duration::ZERO, |usage| time(usage.user_time()) + time(usage.system_time()))
}

/// All rounds of one stage.
#[derive(Default)]
pub struct Rounds {
    bytes: u64,
    seconds: Vec<f64>,
    processor_seconds: Vec<f64>,
    latencies: Latencies,
    reported: Vec<StageLatency>,
}

impl Rounds {
    /// Adds one.
    pub fn push(&mut self, round: Round) {
        self.bytes = round.bytes;
        self.seconds.push(round.elapsed.as_secs_f64());
        self.processor_seconds.push(round.processor.as_secs_f64());
        self.latencies.merge(round.latencies);
        StageLatency::join(&mut self.reported, round.reported);
    }

    /// How long each took.
    pub fn seconds_each(&self) -> &[f64] {
        &self.seconds
    }

    /// Bytes of a round.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Median of the seconds.
    pub fn seconds(&self) -> f64 {
        median(&self.seconds)
    }

    /// GiB a second, by the median; zero where nothing was walked.
    pub fn gib_per_second(&self) -> f64 {
        self.gib() / self.seconds().max(1e-9)
    }

    /// Processor seconds for each GiB, by the median; zero where nothing was walked.
    pub fn processor_seconds_per_gib(&self) -> f64 {
        if self.bytes == 0 { 0.0 } else { median(&self.processor_seconds) / self.gib() }
    }

    /// Percentiles over all rounds; of a pipeline, the highest of any round and lane.
    pub fn latencies(&self) -> Vec<StageLatency> {
        let mut rows = self.latencies.report();
        rows.extend_from_slice(&self.reported);
        rows
    }

    fn gib(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate to show")]
        let bytes = self.bytes as f64;
        bytes / (1_u64 << 30) as f64
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        length if length.is_multiple_of(2) => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_round_does_not_move_the_median() {
        let close = |values: &[f64], expected: f64| (median(values) - expected).abs() < 1e-9;
        assert!(close(&[], 0.0) && close(&[2.0], 2.0) && close(&[1.0, 2.0], 1.5));
        assert!(close(&[2.0, 900.0, 1.0], 2.0));
    }
}

//! What a synchronization did, for people and machines.

use serde::{Deserialize, Serialize};

use crate::telemetry::{Counts, Latencies, StageLatency};

/// The report of a run that ended well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Size of the source in bytes.
    pub bytes_total: u64,
    /// What was read, sent, written and zeroed, on both sides.
    #[serde(flatten)]
    pub counts: Counts,
    /// Whether the target was read back and held against the source's digests.
    pub verified: bool,
    /// Whether nothing was changed because only a report was asked for.
    pub dry_run: bool,
    /// Whether the source may have been written meanwhile, so that the target
    /// holds no single moment of it.
    pub fuzzy: bool,
    /// The cursor of an interrupted run that this one went on from, in bytes.
    pub resumed_from: Option<u64>,
    /// Lanes used.
    pub streams: usize,
    /// Percentiles of each stage on this host.
    pub latencies: Vec<StageLatency>,
    /// Percentiles of each stage on the other host, where there is one.
    pub remote_latencies: Vec<StageLatency>,
}

impl Report {
    /// A report of what a run on this host alone did.
    pub(super) fn new(bytes_total: u64, counts: Counts, latencies: &Latencies, streams: usize) -> Self {
        Self {
            bytes_total,
            counts,
            verified: false,
            dry_run: false,
            fuzzy: false,
            resumed_from: None,
            streams,
            latencies: latencies.report(),
            remote_latencies: Vec::new(),
        }
    }
}

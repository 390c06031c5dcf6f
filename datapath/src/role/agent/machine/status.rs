//! A machine and its disks at one moment, for people and machines to read.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::source::How;
use crate::role::agent::{LaneStatus, LeftOut, NewestPoint, Outcome, Passes, Traffic, kind_name};
use crate::unit::{Chain, Epoch};
use crate::wire::{Position, Progress};

/// A machine.
#[derive(Clone, Debug, Serialize)]
pub struct MachineStatus {
    /// Its name.
    pub machine: String,
    /// Where its master target is.
    pub master_target: String,
    /// Why this is not the machine that the agent belongs to.
    pub relocated: Option<String>,
    /// Whether it is frozen for good.
    pub frozen: bool,
    /// The age of the oldest of its disks' newest points; `None` where one has none.
    pub lag_ms: Option<u64>,
    /// The last cut.
    pub last_cut: Option<CutStatus>,
    /// Cuts since the agent began that became points of all disks.
    pub cuts_made: u64,
    /// Cuts since the agent began that did not.
    pub cuts_skipped: u64,
    /// What its lanes have moved since they began.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// Its disks.
    pub disks: Vec<DiskStatus>,
}

/// A protected disk.
#[derive(Clone, Debug, Serialize)]
pub struct DiskStatus {
    /// Its name.
    pub disk: String,
    /// Where it is.
    pub device: PathBuf,
    /// Its size.
    pub size_bytes: u64,
    /// Its chunk.
    pub chunk_bytes: u32,
    /// How its changes are found.
    pub tracking: How,
    /// Where it stands.
    pub state: &'static str,
    /// Why it must be, or is being, compared.
    pub compared_for: Option<&'static str>,
    /// That in words, or why it was refused.
    pub reason: Option<String>,
    /// What went wrong last and is being got over.
    pub trouble: Option<String>,
    /// What the target waits for, while it takes nothing in.
    pub waiting: Option<String>,
    /// Bytes that are marked.
    pub dirty_bytes: u64,
    /// Bytes that are under way, and in no point yet.
    pub in_transit_bytes: u64,
    /// How the whole disk is passed, where its changes are not known.
    pub passes: Option<Passes>,
    /// How far a synchronization is.
    pub progress: Option<Progress>,
    /// Where the target stood when it was last heard of.
    pub position: Option<Position>,
    /// The newest point.
    pub newest_point: Option<NewestPoint>,
    /// The age of its cut.
    pub lag_ms: Option<u64>,
    /// What the lane has moved since it began.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// What became of a cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CutStatus {
    /// Whether it is a point of all disks.
    pub made: bool,
    /// Its kind: `crash`, `app` or `final`; nothing where it was not made.
    pub kind: Option<&'static str>,
    /// Its name.
    pub name: String,
    /// When it was, in milliseconds of Unix time; when it was given up, where it
    /// was not made.
    pub cut_unix_ms: u64,
    /// For how long writers waited.
    pub freeze_ms: Option<u32>,
    /// What was read meanwhile.
    pub remainder_bytes: Option<u64>,
    /// Why it was not made, or is less than what was asked for.
    pub reason: Option<String>,
    /// The machine is stopped for good, and its targets take nothing more.
    pub finished: bool,
    /// From the freeze until all of that was done.
    pub downtime_ms: Option<u64>,
    /// The machine runs again after its final point.
    pub void: bool,
    /// For each disk the epoch that is the point.
    pub points: Vec<DiskPoint>,
    /// Disks without tracking that it had to do without.
    pub left_out: Vec<LeftOut>,
}

/// The part of a disk in a point of its machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskPoint {
    /// The disk.
    pub disk: String,
    /// The epoch that was closed.
    pub epoch: Epoch,
    /// The head of its chain.
    pub chain: String,
}

impl CutStatus {
    /// What is to be told of an outcome.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Made { label, points, remainder_bytes, downgraded, finished, took, void, left_out } => {
                Self {
                    made: true,
                    kind: Some(kind_name(label.kind)),
                    name: label.name.clone(),
                    cut_unix_ms: label.cut_unix_ms,
                    freeze_ms: Some(label.freeze_ms),
                    remainder_bytes: Some(*remainder_bytes),
                    reason: downgraded.clone(),
                    finished: *finished,
                    downtime_ms: finished.then(|| milliseconds(*took)),
                    void: *void,
                    points: points.iter().map(DiskPoint::of).collect(),
                    left_out: left_out.clone(),
                }
            }
            Outcome::Skipped { reason, void } => Self {
                made: false,
                kind: None,
                name: String::new(),
                cut_unix_ms: now_unix_ms(),
                freeze_ms: None,
                remainder_bytes: None,
                reason: Some(reason.clone()),
                finished: false,
                downtime_ms: None,
                void: *void,
                points: Vec::new(),
                left_out: Vec::new(),
            },
        }
    }
}

impl DiskPoint {
    fn of((disk, epoch, chain): &(String, Epoch, Chain)) -> Self {
        Self { disk: disk.clone(), epoch: *epoch, chain: chain.to_string() }
    }
}

/// What does not change while a lane runs.
#[derive(Clone, Debug)]
pub(super) struct Nature {
    pub(super) disk: String,
    pub(super) device: PathBuf,
    pub(super) size_bytes: u64,
    pub(super) chunk_bytes: u32,
    pub(super) tracking: How,
}

impl Nature {
    pub(super) fn with(&self, status: LaneStatus) -> DiskStatus {
        DiskStatus {
            disk: self.disk.clone(),
            device: self.device.clone(),
            size_bytes: self.size_bytes,
            chunk_bytes: self.chunk_bytes,
            tracking: self.tracking,
            state: status.state.name(),
            compared_for: status.state.reason().map(crate::role::Reason::name),
            reason: status.reason,
            trouble: status.trouble,
            waiting: status.waiting,
            dirty_bytes: status.dirty_bytes,
            in_transit_bytes: status.in_transit_bytes,
            passes: status.passes,
            progress: status.progress,
            position: status.position,
            lag_ms: status.newest.and_then(lag_ms),
            newest_point: status.newest,
            traffic: status.traffic,
        }
    }
}

fn lag_ms(newest: NewestPoint) -> Option<u64> {
    newest.cut_unix_ms.map(|cut| now_unix_ms().saturating_sub(cut))
}

/// The lag of a machine is that of its worst disk.
pub(super) fn worst_lag_ms(disks: &[DiskStatus]) -> Option<u64> {
    let lags: Option<Vec<u64>> = disks.iter().map(|disk| disk.lag_ms).collect();
    lags?.into_iter().max()
}

pub(super) fn now_unix_ms() -> u64 {
    milliseconds(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

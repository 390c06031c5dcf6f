//! What the coordinator of cuts and the lanes tell each other.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel as reports;
use tokio::sync::mpsc;

use super::status::{Counters, LaneStatus};
use crate::role::Disk;
use crate::unit::{Chain, Epoch};
use crate::wire::{CutKind, MachineCut, Progress};

/// What a cut is called, alike on all disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutLabel {
    /// What it promises.
    pub kind: CutKind,
    /// Given by whoever asked for it; empty for cuts by policy.
    pub name: String,
    /// What the cuts of all disks have in common.
    pub machine_cut: MachineCut,
    /// When it was, in milliseconds of Unix time.
    pub cut_unix_ms: u64,
    /// For how long the machine was frozen.
    pub freeze_ms: u32,
}

/// What a lane is told to do. Each is answered by one [`Report`], but `Close`:
/// its answer is the point, which may take long.
#[derive(Clone, Debug)]
pub enum Order {
    /// Hold changes: a cut begins.
    Begin {
        /// Whether it is the final cut: the machine is stopped for good.
        last: bool,
        /// How long any other one may freeze it.
        budget: Duration,
    },
    /// Send what changed.
    Round,
    /// Drain, and read into the memory for remainders. Nothing is sent, unless the
    /// machine is stopped for good.
    Read {
        /// What is not read by then is too much.
        until: Instant,
    },
    /// Drain once more.
    Check,
    /// The cut holds: send the remainder and end the epoch.
    Close(CutLabel),
    /// The cut does not hold.
    Void,
    /// All disks have the final point: the target is to take nothing more.
    Fence,
    /// Compare the whole disk.
    Resynchronize,
}

/// What a lane answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Changes are held.
    Ready,
    /// This disk takes part in no cut now.
    Declined,
    /// Nor does this one, whose changes are not known.
    Unfit {
        /// What it lacks.
        why: String,
    },
    /// A round is done; so many bytes are marked again.
    Left {
        /// Of whole chunks.
        bytes: u64,
    },
    /// The remainder is in memory.
    Read {
        /// What it holds by now.
        bytes: u64,
    },
    /// It is not: more changed than there is memory or time for.
    TooMuch {
        /// What is too much.
        why: &'static str,
    },
    /// Nothing changed since it was read.
    Unchanged,
    /// Something did.
    Changed,
    /// The cut was given up.
    Voided,
    /// The epoch is a point.
    Point {
        /// Which.
        epoch: Epoch,
        /// The head of its chain.
        chain: Chain,
    },
    /// The target takes nothing more.
    Fenced,
    /// The disk will be compared.
    Resynchronizing,
    /// The connection is gone, and the cut with it.
    Lost,
}

/// The coordinator's end of a lane.
pub struct LaneHandle {
    /// The disk's name.
    pub disk: String,
    orders: mpsc::Sender<Order>,
    reports: reports::Receiver<Report>,
    /// Whether it is compared as a whole where others send what changed.
    passes_whole: bool,
    size_bytes: u64,
    known: Arc<Known>,
}

/// The lane's end.
pub(super) struct LaneEnd {
    pub(super) orders: mpsc::Receiver<Order>,
    reports: reports::Sender<Report>,
    known: Arc<Known>,
}

/// What both ends see.
pub(super) struct Known {
    status: Mutex<LaneStatus>,
    pub(super) counters: Arc<Counters>,
}

impl Known {
    pub(super) fn status(&self) -> MutexGuard<'_, LaneStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Orders and reports under way: one at a time, and room for a loss beside it.
const QUEUE: usize = 4;

/// Both ends for `disk`, of which `status` is known.
pub(super) fn ends(
    disk: &str,
    size_bytes: u64,
    passes_whole: bool,
    status: LaneStatus,
) -> (LaneHandle, LaneEnd) {
    let (orders, taken) = mpsc::channel(QUEUE);
    let (told, reports) = reports::bounded(QUEUE);
    let known = Arc::new(Known { status: Mutex::new(status), counters: Arc::default() });
    let end = LaneEnd { orders: taken, reports: told, known: Arc::clone(&known) };
    (LaneHandle { disk: disk.to_owned(), orders, reports, passes_whole, size_bytes, known }, end)
}

impl LaneHandle {
    /// Where the disk stands.
    #[must_use]
    pub fn state(&self) -> Disk {
        self.known.status().state
    }

    /// What its target waits for, while it takes nothing in.
    #[must_use]
    pub fn waits_for(&self) -> Option<String> {
        self.known.status().waiting.clone()
    }

    /// All that is known of the disk.
    #[must_use]
    pub fn status(&self) -> LaneStatus {
        let counters = &self.known.counters;
        let mut status = self.known.status().clone();
        status.traffic = counters.traffic();
        status.progress = matches!(status.state, Disk::Synchronizing(_)).then(|| Progress {
            done_bytes: counters.passed.load(Relaxed).min(self.size_bytes),
            total_bytes: self.size_bytes,
        });
        status
    }

    /// Whether its changes are found by passing the whole disk.
    #[must_use]
    pub const fn passes_whole(&self) -> bool {
        self.passes_whole
    }

    /// Gives an order; whether the lane is there to take it.
    #[must_use]
    pub fn order(&self, order: Order) -> bool {
        self.orders.try_send(order).is_ok()
    }

    /// The next report; `None` where there is none in time. A lane that has ended
    /// has lost whatever was asked of it.
    #[must_use]
    pub fn report(&self, within: Duration) -> Option<Report> {
        match self.reports.recv_timeout(within) {
            Ok(report) => Some(report),
            Err(reports::RecvTimeoutError::Timeout) => None,
            Err(reports::RecvTimeoutError::Disconnected) => Some(Report::Lost),
        }
    }

    /// Throws away what earlier cuts left.
    pub(super) fn drain_reports(&self) {
        while self.reports.try_recv().is_ok() {}
    }
}

impl LaneEnd {
    pub(super) fn tell(&self, report: Report) {
        // Nobody waits for a report of a cut that was given up: it may be lost.
        drop(self.reports.try_send(report));
    }

    /// Changes what is known of the disk.
    pub(super) fn note<T>(&self, change: impl FnOnce(&mut LaneStatus) -> T) -> T {
        change(&mut self.known.status())
    }

    pub(super) fn known(&self) -> &Arc<Known> {
        &self.known
    }

    pub(super) fn counters(&self) -> &Arc<Counters> {
        &self.known.counters
    }
}

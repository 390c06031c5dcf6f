//! What a run is asked to do, and what others may watch of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crossbeam_channel::{Receiver, Sender};

use crate::landing::StateDirectory;
use crate::pipeline::{Cancel, Compression, DigestAlgorithm};
use crate::telemetry::{Notice, Tally};
use crate::wire::{Create, End};

/// What a synchronization is asked to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Copy without comparing: for a target known to differ everywhere.
    pub whole: bool,
    /// How chunks are digested where digests are compared.
    pub digest: DigestAlgorithm,
    /// How extents are packed for the network.
    pub compression: Compression,
    /// Lanes; `None` is one for each core.
    pub lanes: Option<usize>,
    /// Bytes a second at most, over all lanes: of data sent, or written where
    /// both disks are local.
    pub rate_limit: Option<u64>,
    /// Read the target back from the device and hold it against the digests
    /// made when the source was read.
    pub verify: bool,
    /// Change nothing; say what would change.
    pub dry_run: bool,
    /// Accept a source that somebody else may be writing.
    pub live: bool,
    /// What the target must be made of, where the user said so.
    pub format: Option<Create>,
    /// Where the marks of unfinished targets lie.
    pub state: StateDirectory,
}

impl Settings {
    /// Chunks before this byte are compared, those after it are copied whole,
    /// when an earlier run onto the target stopped at `resumed_from`.
    pub(super) fn compare_until(&self, resumed_from: Option<u64>) -> u64 {
        if self.whole { resumed_from.unwrap_or(0) } else { u64::MAX }
    }
}

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Checking both disks, connecting.
    Prepare,
    /// Comparing and copying.
    Copy,
    /// Making the target durable.
    Flush,
    /// Reading the target back.
    Verify,
}

/// What others may see of a run while it goes on, and how they stop it.
#[derive(Clone)]
pub struct Watch {
    /// Set by a signal handler or by a failing lane.
    pub cancel: Cancel,
    /// The counters.
    pub tally: Arc<Tally>,
    phase: Arc<AtomicU8>,
    size: Arc<std::sync::atomic::AtomicU64>,
    notices: Sender<Notice>,
    /// The other end says that its source was written meanwhile.
    source_live: Arc<AtomicBool>,
}

/// Notices that wait for a reader; more are dropped, because nobody may hold up
/// a copy by not reading.
const NOTICES_MAX: usize = 256;

impl Watch {
    /// A watch on a run that `cancel` stops, and the notices that come out of it.
    #[must_use]
    pub fn new(cancel: Cancel) -> (Self, Receiver<Notice>) {
        let (notices, receiver) = crossbeam_channel::bounded(NOTICES_MAX);
        let watch = Self {
            cancel,
            tally: Arc::default(),
            phase: Arc::default(),
            size: Arc::default(),
            notices,
            source_live: Arc::default(),
        };
        (watch, receiver)
    }

    /// What the run is doing.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Prepare,
            1 => Phase::Copy,
            2 => Phase::Flush,
            _ => Phase::Verify,
        }
    }

    /// The source's size in bytes; zero until it is known.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Takes in what the other end's lane counted and saw.
    pub(super) fn absorb(&self, end: &End) {
        self.tally.absorb(end.counts);
        self.source_live.fetch_or(end.live, Ordering::Relaxed);
    }

    pub(super) fn saw_live_source(&self) -> bool {
        self.source_live.load(Ordering::Relaxed)
    }

    pub(super) fn enter(&self, phase: Phase) {
        let number = match phase {
            Phase::Prepare => 0,
            Phase::Copy => 1,
            Phase::Flush => 2,
            Phase::Verify => 3,
        };
        self.phase.store(number, Ordering::Relaxed);
    }

    pub(super) fn set_size(&self, size_bytes: u64) {
        self.size.store(size_bytes, Ordering::Relaxed);
    }

    pub(super) fn notice(&self, notice: Notice) {
        // A full queue drops the notice, see NOTICES_MAX.
        drop(self.notices.try_send(notice));
    }
}

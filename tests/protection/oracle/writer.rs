//! A load of self-describing writes, in bursts, by several threads.

use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use failback_datapath::sys::{Arena, Buffer};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc::O_DIRECT;

use super::history::{Clock, History, Leaves};
use super::sector::{Label, SECTOR_BYTES};
use crate::fixture::Random;

/// Sectors of the largest write of labels.
const WRITE_SECTORS_MAX: usize = 128;
/// Sectors of the largest range that is zeroed.
const ZERO_SECTORS_MAX: usize = 1024;

/// Without a write for so long a disk counts as frozen for good.
const STANDS_STILL: Duration = Duration::from_secs(120);

/// How bytes get to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Past the page cache: to a device, or to a file that is written out already.
    Direct,
    /// Through the page cache, and flushed.
    Buffered,
}

/// What a writer does.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub way: Way,
    /// Threads, each with a stripe of the disk of its own.
    pub threads: usize,
    /// Writes of a burst at most.
    pub burst: usize,
    /// The longest pause between bursts; also the time in which a cut can be made
    /// through a disk that no freeze stops.
    pub pause: Duration,
    /// Of 100 writes how many zero a range instead. Only on devices.
    pub zero_percent: u64,
    /// The smallest write, and what every write is a multiple of.
    pub unit_sectors: usize,
}

/// A running load. Dropped, it ends.
pub struct Writer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    path: PathBuf,
    load: Load,
    clock: Clock,
    history: Mutex<History>,
    is_over: AtomicBool,
}

impl Writer {
    /// Writes to the device or file at `path`, of `bytes` zeroes.
    pub fn start(path: &Path, bytes: u64, load: Load, clock: Clock, random: &mut Random) -> Self {
        let sectors = usize::try_from(bytes).expect("a small disk") / SECTOR_BYTES;
        let history = Mutex::new(History::new(random.number(), sectors));
        let is_over = AtomicBool::new(false);
        let shared = Arc::new(Shared { path: path.to_path_buf(), load, clock, history, is_over });
        let stripe = sectors / load.threads / load.unit_sectors * load.unit_sectors;
        let begin = |number: usize| {
            let end = if number + 1 == load.threads { sectors } else { (number + 1) * stripe };
            let (shared, random) = (Arc::clone(&shared), Random::with_seed(random.number()));
            thread::spawn(move || shared.write(number * stripe..end, random))
        };
        let threads = (0..load.threads).map(begin).collect();
        Self { shared, threads }
    }

    /// How much was written so far.
    pub fn len(&self) -> usize {
        self.shared.history().len()
    }

    /// Waits until so much more is written.
    ///
    /// # Panics
    /// Where that takes minutes: the disk stands still.
    pub fn wait_for(&self, more: usize) {
        let (enough, deadline) = (self.len() + more, Instant::now() + STANDS_STILL);
        while self.len() < enough {
            assert!(Instant::now() < deadline, "{} cannot be written", self.shared.path.display());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// The history so far, while the load goes on.
    pub fn history(&self) -> History {
        self.shared.history().clone()
    }

    /// Ends the load. Everything has completed then.
    pub fn stop(mut self) -> History {
        self.shared.is_over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().expect("the writer could write");
        }
        self.history()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Not joined: where a test fails inside a freeze they wait in the kernel.
        self.shared.is_over.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn write(&self, stripe: Range<usize>, mut random: Random) {
        let flags = if self.load.way == Way::Direct { O_DIRECT } else { 0 };
        let file = OpenOptions::new().write(true).custom_flags(flags).open(&self.path);
        let file = file.unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
        let size = NonZeroUsize::new(WRITE_SECTORS_MAX * SECTOR_BYTES).expect("not zero");
        let mut buffer = Arena::buffers(1, size).expect("memory").remove(0);
        while !self.is_over() {
            for _ in 0..=random.index_below(self.load.burst) {
                let written = if random.happens(self.load.zero_percent) {
                    self.zero(&file, &stripe, &mut random)
                } else {
                    self.label(&file, &stripe, &mut buffer, &mut random)
                };
                written.unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
            }
            self.rest(&mut random);
        }
    }

    /// Pauses, but not past the end.
    fn rest(&self, random: &mut Random) {
        const STEP: Duration = Duration::from_millis(10);
        let most = u64::try_from(self.load.pause.as_millis()).expect("a short pause");
        let mut left = Duration::from_millis(random.below(most + 1));
        while !self.is_over() && !left.is_zero() {
            let step = left.min(STEP);
            thread::sleep(step);
            left -= step;
        }
    }

    fn choose(&self, stripe: &Range<usize>, most: usize, random: &mut Random) -> Range<usize> {
        let unit = self.load.unit_sectors;
        let begin = stripe.start + random.index_below(stripe.len() / unit) * unit;
        // Small ones most of the time, as programs write.
        let most = if random.happens(70) { most.min(2 * unit) } else { most };
        let length = (1 + random.index_below(most / unit)) * unit;
        begin..stripe.end.min(begin + length)
    }

    fn label(
        &self,
        file: &File,
        stripe: &Range<usize>,
        buffer: &mut Buffer,
        random: &mut Random,
    ) -> io::Result<()> {
        let sectors = self.choose(stripe, WRITE_SECTORS_MAX, random);
        let bytes = &mut buffer.bytes_mut()[..sectors.len() * SECTOR_BYTES];
        let made_ns = self.clock.now_ns();
        let mut history = self.history();
        let run = history.run;
        let write = history.begin(sectors.clone(), Leaves::Labels, made_ns);
        drop(history);
        for (place, sector) in (sectors.start as u64..).zip(bytes.chunks_mut(SECTOR_BYTES)) {
            Label { run, write, place, made_ns }.fill(sector);
        }
        file.write_all_at(bytes, (sectors.start * SECTOR_BYTES) as u64)?;
        self.complete(file, write)
    }

    fn zero(&self, file: &File, stripe: &Range<usize>, random: &mut Random) -> io::Result<()> {
        let sectors = self.choose(stripe, ZERO_SECTORS_MAX, random);
        let write = self.history().begin(sectors.clone(), Leaves::Zeroes, self.clock.now_ns());
        let place = |sector: usize| i64::try_from(sector * SECTOR_BYTES).expect("a small disk");
        let how = if random.happens(50) {
            FallocateFlags::FALLOC_FL_ZERO_RANGE
        } else {
            FallocateFlags::FALLOC_FL_PUNCH_HOLE
        };
        let how = how | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(file, how, place(sectors.start), place(sectors.len()))?;
        self.complete(file, write)
    }

    fn complete(&self, file: &File, write: u64) -> io::Result<()> {
        if self.load.way == Way::Buffered {
            file.sync_data()?;
        }
        self.history().end(write, self.clock.now_ns());
        Ok(())
    }
}

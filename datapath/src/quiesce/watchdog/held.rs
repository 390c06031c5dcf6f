//! The filesystems that the watchdog holds open, and the thread that freezes them.
//!
//! Freezing can wait without end (for a writer who himself waits for a filesystem
//! that is frozen already), so a thread of its own does it, and the watchdog's
//! first thread keeps the time. Once the freeze is abandoned, the first thread
//! thaws what is frozen; a filesystem whose freezing ends after that is thawed by
//! the thread that froze it. Nobody else's freeze is touched.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};

use crate::limits;
use crate::quiesce::record::{Marks, State};
use crate::sys;

/// Stack of the thread, which calls nothing deep. All of it is locked.
const STACK_BYTES: usize = 128 << 10;

/// Pause before a thaw that failed is tried again.
const THAW_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// What the thread is to do with all filesystems, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Write out what is unwritten.
    Sync,
    /// Freeze.
    Freeze,
    /// See that they are still frozen.
    Confirm,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All of it is done; times of `CLOCK_MONOTONIC` in nanoseconds.
    Done { began: u64, ended: u64 },
    /// It failed at filesystem `index`. For [`Task::Confirm`]: that one was thawed.
    Failed { index: usize, errno: Errno },
    /// It was abandoned before.
    Abandoned,
}

/// How thawing went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Release {
    /// All of them were frozen until now.
    pub(super) is_whole: bool,
    /// When it began, in nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) began: u64,
    /// When it ended.
    pub(super) ended: u64,
}

/// The filesystems of one cut.
pub(super) struct Held {
    files: Vec<File>,
    marks: Marks,
    progress: Mutex<Progress>,
}

struct Progress {
    states: Vec<State>,
    unfreezable: Vec<bool>,
    /// The filesystem that the thread is at.
    at: usize,
    is_abandoned: bool,
    outcome: Option<Outcome>,
}

impl Held {
    pub(super) fn new(files: Vec<File>, marks: Marks) -> Self {
        let progress = Progress {
            states: vec![State::Untouched; files.len()],
            unfreezable: vec![false; files.len()],
            at: 0,
            is_abandoned: false,
            outcome: None,
        };
        Self { files, marks, progress: Mutex::new(progress) }
    }

    /// Starts a task. Its end makes the other end of `wake` readable.
    ///
    /// # Errors
    /// Where no thread is to be had; nothing has begun then.
    pub(super) fn start(self: &Arc<Self>, task: Task, wake: &OwnedFd) -> io::Result<()> {
        let mut progress = self.progress();
        progress.outcome = None;
        progress.at = 0;
        drop(progress);
        let held = Arc::clone(self);
        let wake = wake.try_clone()?;
        let work = move || {
            let outcome = held.work(task);
            held.progress().outcome = Some(outcome);
            // The reading end lives as long as the process.
            let _woken = nix::unistd::write(wake.as_fd(), &[0]);
        };
        thread::Builder::new().stack_size(STACK_BYTES).spawn(work).map(drop)
    }

    /// How the last task ended; `None` while it runs.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.progress().outcome
    }

    /// The filesystem that the running task is at.
    pub(super) fn at(&self) -> usize {
        self.progress().at
    }

    /// Which filesystems turned out to be of a kind that cannot be frozen.
    pub(super) fn unfreezable(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.files.len()).filter(|index| self.progress().unfreezable[*index])
    }

    /// Thaws all that is frozen, last first, and abandons the task that runs.
    pub(super) fn thaw(&self) -> Release {
        self.progress().is_abandoned = true;
        let began = now();
        let mut is_whole = true;
        for (index, file) in self.files.iter().enumerate().rev() {
            if self.progress().states[index] == State::Frozen {
                is_whole &= self.thaw_one(index, file);
            }
        }
        Release { is_whole, began, ended: now() }
    }

    /// Whether it was frozen until now and no longer is.
    fn thaw_one(&self, index: usize, file: &File) -> bool {
        for _ in 0..limits::THAW_ATTEMPTS {
            match sys::thaw(file) {
                Ok(()) => {
                    self.set(index, State::Released);
                    return true;
                }
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    self.set(index, State::Released);
                    return false;
                }
                Err(_) => thread::sleep(THAW_AGAIN_AFTER),
            }
        }
        // It stays in the record, for the agent to say and to try again.
        false
    }

    fn work(&self, task: Task) -> Outcome {
        let began = now();
        for (index, file) in self.files.iter().enumerate() {
            let outcome = match task {
                Task::Sync => nix::unistd::syncfs(file),
                Task::Freeze => self.freeze_one(index, file),
                Task::Confirm => self.confirm_one(index, file),
            };
            if let Err(errno) = outcome {
                return if self.progress().is_abandoned {
                    Outcome::Abandoned
                } else {
                    Outcome::Failed { index, errno }
                };
            }
            let mut progress = self.progress();
            if progress.is_abandoned {
                return Outcome::Abandoned;
            }
            progress.at = index + 1;
        }
        Outcome::Done { began, ended: now() }
    }

    fn freeze_one(&self, index: usize, file: &File) -> Result<(), Errno> {
        self.marks.set(index, State::Freezing);
        let frozen = sys::freeze(file);
        let mut progress = self.progress();
        match frozen.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))) {
            Ok(()) => {
                progress.states[index] = State::Frozen;
                self.marks.set(index, State::Frozen);
                if progress.is_abandoned {
                    drop(progress);
                    self.thaw_one(index, file);
                }
                Ok(())
            }
            Err(Errno::EOPNOTSUPP) => {
                progress.unfreezable[index] = true;
                self.marks.set(index, State::Released);
                Ok(())
            }
            Err(errno) => {
                self.marks.set(index, State::Released);
                Err(errno)
            }
        }
    }

    /// A filesystem that is frozen refuses to be frozen again. One that does not
    /// was thawed by somebody: it is let go, and the cut is void.
    fn confirm_one(&self, index: usize, file: &File) -> Result<(), Errno> {
        if self.progress().states[index] != State::Frozen {
            return Ok(());
        }
        match sys::freeze(file) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
            Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))),
            Ok(()) => {
                self.thaw_one(index, file);
                Err(Errno::EINVAL)
            }
        }
    }

    fn set(&self, index: usize, state: State) {
        self.progress().states[index] = state;
        self.marks.set(index, state);
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`, which the kernel's own events carry too.
pub(super) fn now() -> u64 {
    let Ok(time) = clock_gettime(ClockId::CLOCK_MONOTONIC) else { return 0 };
    let time = Duration::from(time);
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

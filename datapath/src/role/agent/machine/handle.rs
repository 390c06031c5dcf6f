//! How other threads reach a machine that runs: to look at it, and to ask of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel as commands;

use super::error::MachineError;
use super::protected::Protected;
use super::settings::MachineSettings;
use super::source::How;
use super::status::{CutStatus, DiskStatus, MachineStatus, Nature, worst_lag_ms};
use crate::limits;
use crate::pipeline::Cancel;
use crate::role::Disk;
use crate::role::agent::freezer::Standstill;
use crate::role::agent::{LaneHandle, LaneStatus, LeftOut, Traffic};

/// What is asked of a machine, each with a place for the answer.
pub(super) enum Command {
    Cut { app: bool, name: String, given_up: Cancel, answer: Answer<CutStatus> },
    Finish { power_off: bool, given_up: Cancel, answer: Answer<CutStatus> },
    Resync { disk: String, answer: Answer<()> },
    Remove { disk: String, answer: Answer<()> },
    Reload { settings: Box<MachineSettings>, answer: Answer<Vec<String>> },
}

pub(super) type Answer<T> = commands::Sender<Result<T, MachineError>>;

/// What the machine shows of itself.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) machine: String,
    pub(super) master_target: String,
    pub(super) relocated: Option<String>,
    pub(super) frozen: bool,
    pub(super) absent: Vec<LeftOut>,
    pub(super) last_cut: Option<CutStatus>,
    pub(super) cuts_made: u64,
    pub(super) cuts_skipped: u64,
    /// Since the last one that was made.
    pub(super) skipped_in_a_row: u32,
    disks: Vec<ShownDisk>,
}

struct ShownDisk {
    nature: Nature,
    handle: Option<Arc<LaneHandle>>,
    last: LaneStatus,
}

impl ShownDisk {
    fn state(&self) -> Disk {
        self.handle.as_ref().map_or(self.last.state, |handle| handle.state())
    }

    fn status(&self) -> LaneStatus {
        self.handle.as_ref().map_or_else(|| self.last.clone(), |handle| handle.status())
    }

    /// Whether it may soon be ready for a cut, and is not yet.
    fn is_on_its_way(&self) -> bool {
        match self.state() {
            Disk::Protecting => {
                self.nature.tracking == How::Digest
                    && self.status().passes.is_none_or(|passes| passes.took_ms.is_none())
            }
            Disk::Fenced | Disk::Refused | Disk::Relocated => false,
            _ => true,
        }
    }
}

impl Shown {
    /// Shows these disks from now on.
    pub(super) fn disks(&mut self, disks: &[Protected]) {
        let shown = |disk: &Protected| ShownDisk {
            nature: disk.nature.clone(),
            handle: disk.handle().cloned(),
            last: disk.lane_status(),
        };
        self.disks = disks.iter().map(shown).collect();
    }
}

pub(super) type SharedShown = Arc<Mutex<Shown>>;

/// A machine that runs; cheap to clone.
#[derive(Clone)]
pub struct MachineHandle {
    pub(super) commands: commands::Sender<Command>,
    pub(super) shown: SharedShown,
    pub(super) freezer: Standstill,
}

/// What a thaw by hand has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thaw {
    /// The freeze of a cut, which is void.
    OfCut,
    /// The freeze after a finish whose targets take nothing more: the machine at
    /// home may run.
    AfterFence,
}

impl MachineHandle {
    /// The machine as it stands.
    #[must_use]
    pub fn status(&self) -> MachineStatus {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let disks: Vec<DiskStatus> = shown.disks.iter().map(|disk| disk.nature.with(disk.status())).collect();
        MachineStatus {
            machine: shown.machine.clone(),
            master_target: shown.master_target.clone(),
            relocated: shown.relocated.clone(),
            frozen: shown.frozen,
            absent: shown.absent.clone(),
            lag_ms: worst_lag_ms(&disks),
            last_cut: shown.last_cut.clone(),
            cuts_made: shown.cuts_made,
            cuts_skipped: shown.cuts_skipped,
            traffic: disks.iter().map(|disk| disk.traffic).fold(Traffic::default(), Traffic::plus),
            disks,
        }
    }

    /// Makes a point of all disks, app-consistent where that is asked for and the
    /// hook agrees. Where whoever asked has `gone` before the freeze, there is no
    /// cut: it would be of another moment than was meant.
    ///
    /// # Errors
    /// [`MachineError::NotNow`] where a disk is not ready.
    pub fn cut(&self, app: bool, name: &str, gone: &dyn Fn() -> bool) -> Result<CutStatus, MachineError> {
        self.wait_until_ready(false, gone)?;
        let cut = |given_up, answer| Command::Cut { app, name: name.to_owned(), given_up, answer };
        self.ask(limits::CUT_ANSWERED_WITHIN, gone, cut)
    }

    /// Makes the last point, after which the machine stays frozen, or is off; not
    /// where whoever asked has `gone` before the freeze.
    ///
    /// # Errors
    /// [`MachineError::NotNow`] where a disk is not ready.
    pub fn finish(&self, power_off: bool, gone: &dyn Fn() -> bool) -> Result<CutStatus, MachineError> {
        self.wait_until_ready(true, gone)?;
        let finish = |given_up, answer| Command::Finish { power_off, given_up, answer };
        self.ask(limits::CUT_ANSWERED_WITHIN, gone, finish)
    }

    /// Thaws the machine, whatever froze it. Works while a cut is being made, too.
    ///
    /// # Errors
    /// [`MachineError::NotNow`] where nothing is frozen.
    pub fn thaw(&self) -> Result<Thaw, MachineError> {
        if !self.freezer.end().map_err(|silent| not_now(silent.to_string()))? {
            return Err(not_now("nothing is frozen by this agent"));
        }
        let is_fenced = |disk: &ShownDisk| matches!(disk.state(), Disk::Fencing | Disk::Fenced);
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(if shown.disks.iter().any(is_fenced) { Thaw::AfterFence } else { Thaw::OfCut })
    }

    /// Compares a disk with its target as a whole, also one that was refused,
    /// doubted or fenced.
    ///
    /// # Errors
    /// [`MachineError::Unknown`].
    pub fn resync(&self, disk: &str) -> Result<(), MachineError> {
        self.order(|answer| Command::Resync { disk: disk.to_owned(), answer })
    }

    /// Takes away what is kept of a disk that is protected no more.
    ///
    /// # Errors
    /// [`MachineError::InUse`], [`MachineError::Unknown`].
    pub fn remove(&self, disk: &str) -> Result<(), MachineError> {
        self.order(|answer| Command::Remove { disk: disk.to_owned(), answer })
    }

    /// Goes on with other settings: disks come and go, the others do not notice.
    /// Says what changed.
    ///
    /// # Errors
    /// [`MachineError`]. Where a setting may not change, everything is as it was;
    /// where a disk cannot be taken up, the others go on, and there is no cut
    /// without it until it is, or is no longer asked for.
    pub fn reload(&self, settings: MachineSettings) -> Result<Vec<String>, MachineError> {
        self.order(|answer| Command::Reload { settings: Box::new(settings), answer })
    }

    /// Waits for disks that are on their way to be ready, but not for long, and
    /// not for those that a cut can do without.
    fn wait_until_ready(&self, is_final: bool, gone: &dyn Fn() -> bool) -> Result<(), MachineError> {
        let until = Instant::now() + READY_WITHIN;
        while Instant::now() < until {
            let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            let has_tracked = shown.disks.iter().any(|disk| disk.nature.tracking == How::Ebpf);
            let is_needed = |disk: &&ShownDisk| is_final || !has_tracked || disk.nature.tracking == How::Ebpf;
            let waits = shown.disks.iter().filter(is_needed).any(ShownDisk::is_on_its_way);
            drop(shown);
            if !waits {
                break;
            }
            if gone() {
                return Err(not_now(GONE));
            }
            thread::sleep(LOOKS_EVERY);
        }
        Ok(())
    }

    /// Asks for something that is done at once, and whoever asks for it.
    fn order<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, MachineError> {
        self.ask(limits::ORDER_ANSWERED_WITHIN, &|| false, |_, answer| command(answer))
    }

    fn ask<T>(
        &self,
        within: Duration,
        gone: &dyn Fn() -> bool,
        command: impl FnOnce(Cancel, Answer<T>) -> Command,
    ) -> Result<T, MachineError> {
        let (answer, answered) = commands::bounded(1);
        let given_up = Cancel::default();
        let mut command = command(given_up.clone(), answer);
        let mut until = Instant::now() + TAKES_WITHIN;
        while let Err(untaken) = self.commands.send_timeout(command, LOOKS_EVERY) {
            if untaken.is_disconnected() || Instant::now() >= until {
                return Err(not_now("the agent is busy with a cut, or ends: try again later"));
            }
            if gone() {
                return Err(not_now(GONE));
            }
            command = untaken.into_inner();
        }
        until = Instant::now() + within;
        loop {
            match answered.recv_timeout(LOOKS_EVERY) {
                Ok(answer) => return answer,
                Err(commands::RecvTimeoutError::Disconnected) => {
                    return Err(not_now("the agent has ended before it answered"));
                }
                Err(commands::RecvTimeoutError::Timeout) if Instant::now() >= until => {
                    return Err(not_now(
                        "the agent has not answered, because a filesystem, a hook or a target hangs: see `agent status` \
                         and the kernel's log; it may be done all the same",
                    ));
                }
                // It goes on to its end where it has begun.
                Err(commands::RecvTimeoutError::Timeout) if gone() => given_up.cancel(),
                Err(commands::RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

const GONE: &str = "whoever asked for it has gone";

pub(super) fn not_now(reason: impl Into<String>) -> MachineError {
    MachineError::NotNow { reason: reason.into() }
}

/// How long a cut on demand waits for disks that are not ready.
const READY_WITHIN: Duration = limits::CUT_SHRINKS_WITHIN;

/// How often it looks.
const LOOKS_EVERY: Duration = Duration::from_millis(50);

/// How long somebody who asks waits for others who asked before.
const TAKES_WITHIN: Duration = limits::POINT_WITHIN;

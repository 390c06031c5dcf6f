//! The watchdog process: it freezes when it is told, and thaws whatever happens.
//!
//! ```text
//!              Begin, Hold…        Freeze             all frozen
//!   ┌─ Idle ─────────────────> (Sync) ──> Freezing ──────────────> Frozen ─┐
//!   └──<── asked, deadline, agent gone, somebody else thawed: thaw all ──<─┘
//! ```
//!
//! From the first freeze to the last thaw it touches no file, allocates nothing
//! that a file stands behind, and its memory is locked. Of all signals only
//! `SIGKILL` and `SIGSTOP` reach it; against those stands the freeze record.

use std::fs::{self, File};
use std::io::{self, Stdin};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::signal::SigSet;

use super::held::{Held, Outcome, Task};
use super::message::{BYTES, Cause, Order, Report};
use crate::limits;
use crate::quiesce::power::Power;
use crate::quiesce::record::Marks;
use crate::sys;

/// Runs the watchdog on standard input, a socket to the agent, until the agent
/// is gone and all is thawed. A binary calls this for [`super::SUBCOMMAND`].
///
/// # Errors
/// Where standard input is no such socket, or the process cannot be set up;
/// nothing is frozen then.
pub fn run(power: &dyn Power) -> io::Result<()> {
    // Whoever stops or ends the agent's session must not reach this process.
    SigSet::all().thread_block()?;
    let _already_leads = nix::unistd::setsid();
    // Where this is not allowed, the kernel may choose this process when memory
    // runs out; the record then undoes the freeze.
    let _spared = fs::write("/proc/self/oom_score_adj", "-1000");
    let (woken, wake) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let is_locked = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE).is_ok();
    let (socket, stage) = (io::stdin(), Stage::Idle);
    let mut watchdog = Process { socket, woken, wake, power, cut: 0, stage, held: None, renewal: None };
    watchdog.report(Report::Ready { is_locked });
    watchdog.serve();
    Ok(())
}

struct Process<'a> {
    socket: Stdin,
    woken: OwnedFd,
    wake: OwnedFd,
    power: &'a dyn Power,
    cut: u32,
    stage: Stage,
    held: Option<Cut>,
    /// How long a freeze lasts after each time that all of it was confirmed.
    renewal: Option<Duration>,
}

/// The filesystems of the present cut.
enum Cut {
    /// They are being named.
    Open { count: usize, files: Vec<File>, marks: Marks },
    /// They are complete.
    Held(Arc<Held>),
}

/// What goes on.
#[derive(Clone, Copy)]
enum Stage {
    Idle,
    Syncing,
    Freezing {
        deadline: Instant,
    },
    Frozen {
        deadline: Instant,
    },
    Confirming {
        deadline: Instant,
        then_power_off: bool,
    },
    /// Thawed, but the thread still waits for the kernel.
    Stuck,
}

impl Stage {
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Freezing { deadline } | Self::Frozen { deadline } | Self::Confirming { deadline, .. } => {
                Some(deadline)
            }
            Self::Idle | Self::Syncing | Self::Stuck => None,
        }
    }

    fn is_busy(self) -> bool {
        !matches!(self, Self::Idle | Self::Frozen { .. })
    }

    /// Whether the thread may be within a freeze that nobody has asked for any more.
    fn may_freeze(self) -> bool {
        matches!(self, Self::Freezing { .. } | Self::Confirming { .. } | Self::Stuck)
    }
}

impl Process<'_> {
    fn serve(&mut self) {
        while self.wait() {
            if self.stage.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
                self.late();
            }
            let mut drained = [0; 16];
            while nix::unistd::read(self.woken.as_fd(), &mut drained).is_ok_and(|bytes| bytes > 0) {}
            self.task_ended();
        }
        self.agent_gone();
    }

    /// Waits for something to do, and follows an order if that is it; `false`
    /// when the agent is gone.
    fn wait(&mut self) -> bool {
        let timeout = match self.stage.deadline() {
            // Rounded up, or the last millisecond would be spent polling.
            Some(deadline) => {
                let rest = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
                PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX)
            }
            None => PollTimeout::NONE,
        };
        let mut sources = [
            PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.woken.as_fd(), PollFlags::POLLIN),
        ];
        let polled = poll(&mut sources, timeout);
        let is_spoken_to = sources[0].any().unwrap_or(true);
        match polled {
            Ok(_) if !is_spoken_to => true,
            Ok(_) => self.receive(),
            Err(Errno::EINTR | Errno::EAGAIN) => true,
            Err(_) => false,
        }
    }

    fn receive(&mut self) -> bool {
        let mut bytes = [0; BYTES];
        match sys::receive_message(&self.socket, &mut bytes) {
            Ok((0, _)) => false,
            Ok((length, descriptor)) => match Order::decode(&bytes[..length]) {
                Some((cut, order)) => {
                    self.follow(cut, order, descriptor);
                    true
                }
                None => false,
            },
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }

    fn follow(&mut self, cut: u32, order: Order, descriptor: Option<OwnedFd>) {
        match (order, self.stage) {
            (Order::Begin { count }, Stage::Idle) => self.begin(cut, count, descriptor),
            (Order::Hold, Stage::Idle) if cut == self.cut => self.hold(descriptor),
            (Order::Sync, Stage::Idle) if cut == self.cut => self.start(Task::Sync, Stage::Syncing),
            (Order::Freeze { limit, renews }, Stage::Idle) if cut == self.cut => {
                let limit = limit.min(limits::FREEZE_HOLD_MAX);
                self.renewal = renews.then_some(limit);
                let deadline = Instant::now() + limit;
                self.start(Task::Freeze, Stage::Freezing { deadline });
            }
            (Order::Confirm | Order::PowerOff, Stage::Frozen { deadline }) if cut == self.cut => {
                let then_power_off = order == Order::PowerOff;
                self.start(Task::Confirm, Stage::Confirming { deadline, then_power_off });
            }
            (Order::Thaw, _) if cut != self.cut => {}
            (Order::Thaw, Stage::Idle) => self.held = None,
            (Order::Thaw, _) => self.thaw(Cause::Asked),
            _ => self.report_of(cut, Report::Busy { errno: errno_value(Errno::EBUSY) }),
        }
    }

    fn begin(&mut self, cut: u32, count: u64, record: Option<OwnedFd>) {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.cut = cut;
        self.held = record.filter(|_| count <= limits::SUPERBLOCKS_MAX).map(|record| Cut::Open {
            count,
            files: Vec::with_capacity(count),
            marks: Marks::of(record.into(), count),
        });
    }

    fn hold(&mut self, file: Option<OwnedFd>) {
        if let (Some(Cut::Open { count, files, .. }), Some(file)) = (&mut self.held, file)
            && files.len() < *count
        {
            files.push(file.into());
        }
    }

    /// Starts a task on all that is held, if all that was announced is.
    fn start(&mut self, task: Task, stage: Stage) {
        self.held = self.held.take().map(|cut| match cut {
            Cut::Open { count, files, marks } if files.len() == count => {
                Cut::Held(Arc::new(Held::new(files, marks)))
            }
            incomplete => incomplete,
        });
        let started = match &self.held {
            Some(Cut::Held(held)) => held.start(task, &self.wake),
            _ => Err(io::Error::from(Errno::EINVAL)),
        };
        match started {
            Ok(()) => self.stage = stage,
            Err(error) => {
                let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EAGAIN));
                self.report(Report::Busy { errno: errno_value(errno) });
            }
        }
    }

    fn held(&self) -> Option<Arc<Held>> {
        match &self.held {
            Some(Cut::Held(held)) => Some(Arc::clone(held)),
            _ => None,
        }
    }

    /// The time is over.
    fn late(&mut self) {
        if let (Stage::Freezing { .. }, Some(held)) = (self.stage, self.held()) {
            let index = held.at();
            held.thaw();
            self.not_frozen(index, None);
            self.stage = Stage::Stuck;
        } else {
            self.thaw(Cause::Deadline);
        }
    }

    fn thaw(&mut self, cause: Cause) {
        let Some(held) = self.held() else { return };
        let release = held.thaw();
        let is_whole =
            release.is_whole && cause == Cause::Asked && matches!(self.stage, Stage::Frozen { .. });
        self.report(Report::Thawed { is_whole, cause, thawing: release.began, thawed: release.ended });
        if self.stage.is_busy() {
            self.stage = Stage::Stuck;
        } else {
            self.at_rest();
        }
    }

    /// Sees whether the thread is done, and goes on with what it was done for.
    fn task_ended(&mut self) {
        let Some((held, outcome)) =
            self.held().and_then(|held| held.outcome().map(|outcome| (held, outcome)))
        else {
            return;
        };
        match (self.stage, outcome) {
            (Stage::Stuck, _) => self.at_rest(),
            (Stage::Syncing, Outcome::Done { .. }) => {
                self.stage = Stage::Idle;
                self.report(Report::Synced);
            }
            (Stage::Freezing { deadline }, Outcome::Done { began, ended }) => {
                self.stage = Stage::Frozen { deadline };
                held.unfreezable()
                    .for_each(|index| self.report(Report::Unfreezable { index: crate::unit::to_u64(index) }));
                self.report(Report::Frozen { began, frozen: ended });
            }
            (Stage::Syncing | Stage::Freezing { .. }, Outcome::Failed { index, errno }) => {
                held.thaw();
                self.not_frozen(index, Some(errno));
                self.at_rest();
            }
            (Stage::Confirming { deadline, then_power_off }, Outcome::Done { .. }) => {
                let deadline = self.renewal.map_or(deadline, |limit| Instant::now() + limit);
                self.stage = Stage::Frozen { deadline };
                let report = if then_power_off { self.power_off() } else { Report::Confirmed };
                self.report(report);
            }
            (Stage::Confirming { deadline, .. }, Outcome::Failed { .. }) => {
                self.stage = Stage::Frozen { deadline };
                self.thaw(Cause::Broken);
            }
            (Stage::Idle | Stage::Frozen { .. }, _) | (_, Outcome::Abandoned) => {}
        }
    }

    /// Does not return where the machine is powered off.
    fn power_off(&self) -> Report {
        match self.power.off() {
            Ok(()) => Report::Rehearsed,
            Err(error) => {
                let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EPERM));
                Report::PowerFailed { errno: errno_value(errno) }
            }
        }
    }

    /// Thaws, and waits for the thread: were the process to end before, the
    /// kernel would finish the freeze all the same.
    fn agent_gone(&mut self) {
        let Some(held) = self.held() else { return };
        held.thaw();
        while self.stage.may_freeze() && held.outcome().is_none() {
            let mut woken = [PollFd::new(self.woken.as_fd(), PollFlags::POLLIN)];
            let _woken = poll(&mut woken, PollTimeout::NONE);
        }
    }

    fn at_rest(&mut self) {
        self.stage = Stage::Idle;
        self.held = None;
    }

    fn not_frozen(&self, index: usize, errno: Option<Errno>) {
        let errno = errno.map_or(0, errno_value);
        self.report(Report::NotFrozen { index: crate::unit::to_u64(index), errno });
    }

    fn report(&self, report: Report) {
        self.report_of(self.cut, report);
    }

    /// An agent that does not read its reports is told by the end of its time.
    fn report_of(&self, cut: u32, report: Report) {
        let _told = sys::send_message(&self.socket, &report.encode(cut), None);
    }
}

fn errno_value(errno: Errno) -> u64 {
    u64::try_from(errno as i32).unwrap_or(0)
}

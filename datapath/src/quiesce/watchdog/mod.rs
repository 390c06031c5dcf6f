//! The watchdog as the agent sees it: a child process on a socket.
//!
//! In: orders. Out: reports. Invariants: every wait has an end; when the child
//! does not answer, it is killed and the freeze undone by its record.
//! Never: freezes in this process. Limits: `limits::WATCHDOG_GRACE`,
//! `limits::SYNC_WAIT_MAX`.

mod held;
mod message;
mod process;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

pub use message::Cause;
pub(super) use message::{Order, Report};
pub use process::run;

use super::Error;
use super::record::{Process, Record};
use super::recover::recover;
use crate::limits;
use crate::sys;

/// The argument that makes a binary call [`run`].
pub const SUBCOMMAND: &str = "freeze-watchdog";

/// Pause between two looks whether the child has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A running watchdog process; one cut at a time.
#[derive(Debug)]
pub struct Watchdog {
    child: Child,
    process: Process,
    socket: OwnedFd,
    state: PathBuf,
    cut: u32,
    is_locked: bool,
}

impl Watchdog {
    /// Starts this very binary as a watchdog, also where its file was replaced
    /// meanwhile. `state` is the folder of the freeze record: a folder in memory
    /// (`/run/failback`), which must exist.
    ///
    /// # Errors
    /// As [`Watchdog::start_as`].
    pub fn start(state: &Path) -> Result<Self, Error> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(SUBCOMMAND);
        Self::start_as(command, state)
    }

    /// Starts a watchdog by a command that ends up in [`run`].
    ///
    /// # Errors
    /// [`Error::RecordExists`] where a freeze is recorded that was not undone;
    /// [`Error::NoWatchdog`] where it does not start.
    pub fn start_as(mut command: Command, state: &Path) -> Result<Self, Error> {
        Record::check_settled(state)?;
        let failed = |source| Error::NoWatchdog { source };
        let kind = SockType::SeqPacket;
        let (socket, theirs) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|errno| failed(errno.into()))?;
        // Its own folder and output must not lie on what is frozen.
        command.stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
        let child = command.spawn().map_err(failed)?;
        // The command holds our copy of its end of the socket.
        drop(command);
        let gone = || failed(io::Error::from(Errno::ESRCH));
        let process = Process::now(child.id()).ok_or_else(gone)?;
        let state = state.to_owned();
        let mut watchdog = Self { child, process, socket, state, cut: 0, is_locked: false };
        match watchdog.receive(Instant::now() + limits::WATCHDOG_GRACE) {
            Ok((0, Report::Ready { is_locked })) => watchdog.is_locked = is_locked,
            Ok(_) => return Err(failed(io::Error::from(Errno::EPROTO))),
            Err(source) => return Err(failed(source)),
        }
        Ok(watchdog)
    }

    /// Whether the watchdog's memory is locked. Where the machine does not allow
    /// it, a freeze under memory pressure may last until its deadline and longer.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// Its process number.
    #[must_use]
    pub fn identifier(&self) -> u32 {
        self.process.identifier
    }

    /// Where the freeze record lies.
    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    pub(super) fn process(&self) -> Process {
        self.process
    }

    /// Refuses while a freeze of ours that was given up is not taken back yet.
    pub(super) fn check_at_rest(&self) -> Result<(), Error> {
        match Record::read(&self.state)? {
            Some(record) if record.watchdog == self.process && !record.is_settled() => {
                Err(Error::WatchdogBusy { source: Errno::EBUSY.into() })
            }
            _ => Ok(()),
        }
    }

    /// The number of a new cut.
    pub(super) fn next_cut(&mut self) -> u32 {
        self.cut = self.cut.wrapping_add(1);
        self.cut
    }

    /// Gives an order for the present cut.
    pub(super) fn order(&mut self, order: Order, descriptor: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        let deadline = Instant::now() + limits::WATCHDOG_GRACE;
        loop {
            match sys::send_message(&self.socket, &order.encode(self.cut), descriptor) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(source) => return Err(self.lost(source)),
            }
            if let Err(source) = self.wait_until(PollFlags::POLLOUT, deadline) {
                return Err(self.lost(source));
            }
        }
    }

    /// The next report on the present cut, for which it waits until `deadline`.
    pub(super) fn report(&mut self, deadline: Instant) -> Result<Report, Error> {
        loop {
            match self.receive(deadline) {
                Ok((cut, report)) if cut == self.cut => return Ok(report),
                Ok(_) => {}
                Err(source) => return Err(self.lost(source)),
            }
        }
    }

    /// A report on the present cut that has come already.
    pub(super) fn report_so_far(&mut self) -> Option<Report> {
        loop {
            match self.receive(Instant::now()) {
                Ok((cut, report)) if cut == self.cut => return Some(report),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    fn receive(&self, deadline: Instant) -> io::Result<(u32, Report)> {
        let mut bytes = [0; message::BYTES];
        loop {
            match sys::receive_message(&self.socket, &mut bytes) {
                Ok((0, _)) => return Err(Errno::EPIPE.into()),
                Ok((length, _)) => {
                    return Report::decode(&bytes[..length]).ok_or_else(|| Errno::EPROTO.into());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            self.wait_until(PollFlags::POLLIN, deadline)?;
        }
    }

    /// Waits until the socket can be read or written, or for a while.
    fn wait_until(&self, ready: PollFlags, deadline: Instant) -> io::Result<()> {
        let rest = deadline.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let rest = PollTimeout::try_from(rest + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), ready)], rest) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The watchdog does not answer: ends it, and undoes what it may have done.
    fn lost(&mut self, source: io::Error) -> Error {
        let _killed = self.child.kill();
        let is_undone = recover(&self.state).map_err(Box::new);
        self.wait_for_end();
        match is_undone {
            Ok(_) => Error::WatchdogLost { source },
            Err(undoing) => Error::StillFrozen { source, undoing },
        }
    }

    fn wait_for_end(&mut self) {
        let deadline = Instant::now() + limits::WATCHDOG_GRACE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Watchdog {
    /// The end of the socket is the watchdog's sign to thaw and to end.
    fn drop(&mut self) {
        let _shut = nix::sys::socket::shutdown(
            std::os::fd::AsRawFd::as_raw_fd(&self.socket),
            nix::sys::socket::Shutdown::Both,
        );
        self.wait_for_end();
    }
}

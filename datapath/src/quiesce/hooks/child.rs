//! One command: started, read, timed, and killed with its group when it is late.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, pipe2, read};

use super::{HookReport, HookStatus};
use crate::limits;
use crate::sys;

/// Bytes that are taken from the pipe at once.
const READ_BYTES: usize = 4096;

/// Runs a command in a process group of its own; whether it was started at all.
pub(super) fn run(command: &mut Command, time_limit: Duration) -> (HookReport, bool) {
    let began = Instant::now();
    let mut output = Output { bytes: Vec::new(), is_cut_off: false, pipe: None };
    let (status, was_started) = match start(command) {
        Err(error) => (HookStatus::Failed(error.to_string()), false),
        Ok((mut child, pipe)) => {
            output.pipe = Some(pipe);
            let status = match follow(&mut child, &mut output, began + time_limit) {
                Ok(Some(status)) => ended(status),
                Ok(None) => HookStatus::Late(time_limit),
                Err(error) => HookStatus::Failed(error.to_string()),
            };
            if !matches!(status, HookStatus::Success | HookStatus::Code(_) | HookStatus::Signal(_)) {
                kill(&mut child);
            }
            output.read_on();
            (status, true)
        }
    };
    let text = String::from_utf8_lossy(&output.bytes).into_owned();
    (HookReport { status, output: text, is_cut_off: output.is_cut_off, took: began.elapsed() }, was_started)
}

/// Both outputs are one pipe, so that lines stay in their order.
fn start(command: &mut Command) -> io::Result<(Child, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    command.current_dir("/").process_group(0);
    let child = command.spawn()?;
    Ok((child, reader))
}

/// Reads until the command ends; `None` where it did not in time.
fn follow(child: &mut Child, output: &mut Output, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    let end = sys::process_descriptor(child.id())?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let rest = deadline.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Ok(None);
        }
        let rest = PollTimeout::try_from(rest + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
        let mut sources = vec![PollFd::new(end.as_fd(), PollFlags::POLLIN)];
        sources.extend(output.pipe.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        match poll(&mut sources, rest) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        drop(sources);
        output.read_some();
    }
}

/// Kills the whole group and waits for the child itself.
fn kill(child: &mut Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // Not waited for yet, so the number is still its own.
        let _killed = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let _ended = child.wait();
}

fn ended(status: ExitStatus) -> HookStatus {
    match (status.code(), status.signal()) {
        (Some(0), _) => HookStatus::Success,
        (Some(code), _) => HookStatus::Code(code),
        (None, signal) => HookStatus::Signal(signal.unwrap_or_default()),
    }
}

struct Output {
    bytes: Vec<u8>,
    is_cut_off: bool,
    /// `None` once nobody can write to it any more.
    pipe: Option<OwnedFd>,
}

impl Output {
    /// Takes what is there, once; whether there may be more.
    fn read_some(&mut self) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        let mut block = [0; READ_BYTES];
        match read(pipe, &mut block) {
            Ok(0) => {
                self.pipe = None;
                false
            }
            Ok(length) => {
                let room = limits::HOOK_OUTPUT_BYTES_MAX - self.bytes.len();
                self.bytes.extend(&block[..length.min(room)]);
                self.is_cut_off |= length > room;
                true
            }
            Err(Errno::EINTR) => true,
            Err(_) => false,
        }
    }

    /// Takes what the command left in the pipe. A child of it may go on to write,
    /// and is not waited for; what is past the bound is not taken either.
    fn read_on(&mut self) {
        while !self.is_cut_off && self.read_some() {}
    }
}

//! Processes: a descriptor that tells their end, and how their I/O ranks.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// How the I/O of a thread ranks among that of others (ioprio_set(2)). Only
/// schedulers that know ranks (bfq, mq-deadline) heed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoPriority {
    /// Only when nobody else wants the disk.
    Idle,
    /// Among the others, from 0 (first) to 7 (last).
    BestEffort(u8),
}

const IDLE_CLASS: libc::c_int = 3;
const BEST_EFFORT_CLASS: libc::c_int = 2;
const CLASS_SHIFT: u32 = 13;
const THIS_THREAD: libc::c_int = 1;

impl IoPriority {
    const fn value(self) -> libc::c_int {
        match self {
            Self::Idle => IDLE_CLASS << CLASS_SHIFT,
            Self::BestEffort(level) => {
                (BEST_EFFORT_CLASS << CLASS_SHIFT) | (if level > 7 { 7 } else { level }) as libc::c_int
            }
        }
    }
}

/// Ranks the I/O of the calling thread.
///
/// # Errors
/// Those of `ioprio_set(2)`.
pub fn rank_io(priority: IoPriority) -> io::Result<()> {
    // SAFETY: the call takes three integers and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, THIS_THREAD, 0, priority.value()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the calling thread nicer to others, from 0 (not at all) to 19.
///
/// # Errors
/// Those of `setpriority(2)`: going back takes privileges.
pub fn rank_cpu(niceness: u8) -> io::Result<()> {
    // SAFETY: the call takes three integers and touches no memory. On Linux, 0 is
    // the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, libc::c_int::from(niceness.min(19))) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A descriptor of the process `identifier` that becomes readable when it ends.
///
/// # Errors
/// `ESRCH` where there is no such process.
pub fn process_descriptor(identifier: u32) -> io::Result<OwnedFd> {
    let identifier = libc::pid_t::try_from(identifier).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the call takes two integers and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, identifier, 0) };
    let number = RawFd::try_from(result).map_err(|_| io::ErrorKind::InvalidData)?;
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, close-on-exec, for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_kernel() {
        assert_eq!(IoPriority::Idle.value(), 0x6000);
        assert_eq!(IoPriority::BestEffort(7).value(), 0x4007);
        assert_eq!(IoPriority::BestEffort(99).value(), 0x4007);
    }

    #[test]
    fn the_end_of_a_process_is_readable() -> io::Result<()> {
        use nix::poll::{PollFd, PollFlags, poll};
        use std::os::fd::AsFd;
        let mut child = std::process::Command::new("true").spawn()?;
        let descriptor = process_descriptor(child.id())?;
        poll(&mut [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)], 10_000_u16)?;
        assert!(child.try_wait()?.is_some());
        assert!(process_descriptor(u32::MAX).is_err());
        Ok(())
    }
}

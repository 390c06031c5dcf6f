//! The end of a machine that stays frozen.

use std::io;

use nix::sys::reboot::{RebootMode, reboot};

/// What powers a machine off.
pub trait Power {
    /// Powers off at once: nothing is written, no program is told. Comes back
    /// with `Ok` only from a rehearsal.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn off(&self) -> io::Result<()>;
}

/// This machine.
#[derive(Clone, Copy, Debug)]
pub struct Machine;

impl Power for Machine {
    fn off(&self) -> io::Result<()> {
        match reboot(RebootMode::RB_POWER_OFF) {
            Ok(never) => match never {},
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Everything but the deed.
#[derive(Clone, Copy, Debug)]
pub struct Rehearsal;

impl Power for Rehearsal {
    fn off(&self) -> io::Result<()> {
        Ok(())
    }
}

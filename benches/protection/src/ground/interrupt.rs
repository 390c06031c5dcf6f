//! Ctrl-C and its relatives as a flag, so that every guard takes away its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::Error;

/// Raised by SIGINT, SIGTERM and SIGHUP; looked at wherever something is waited for.
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes the three signals over for the rest of the process's life.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn register() -> Result<Self, Error> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&flag))
                .map_err(Error::at("handle signals of", "/proc/self"))?;
        }
        Ok(Self(flag))
    }

    /// Stops the work once a signal has arrived.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn check(&self) -> Result<(), Error> {
        if self.0.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}

//! Ctrl-C and its relatives as a flag, so that every guard runs its clean-up.

use crate::error::Error;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Raised by SIGINT, SIGTERM and SIGHUP; looked at between steps.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes the three signals over for the rest of the process's life.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub(crate) fn register() -> Result<Self, Error> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&flag)).map_err(|source| Error::Io {
                action: "handle signals of",
                path: Path::new("/proc/self").to_path_buf(),
                source,
            })?;
        }
        Ok(Self(flag))
    }

    /// Whether one of the signals has arrived.
    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Stops the work with [`Error::Interrupted`] once a signal has arrived.
    ///
    /// # Errors
    /// A signal has arrived.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_raised() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

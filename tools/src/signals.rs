//! SIGINT and SIGTERM: the first asks to stop in order, the second ends at once.
//! SIGHUP: settings are to be read again.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use failback_datapath::pipeline::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::Exit;

/// A request to stop that the first signal sets.
///
/// # Errors
/// Where the system takes no handlers.
pub fn cancel_on_signals() -> std::io::Result<Cancel> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the shutdown looks at the flag before it is set.
        flag::register_conditional_shutdown(signal, Exit::Interrupted as i32, Arc::clone(&asked))?;
        flag::register(signal, Arc::clone(&asked))?;
    }
    Ok(Cancel::from_flag(asked))
}

/// A flag that SIGHUP sets, until somebody takes it down.
///
/// # Errors
/// Where the system takes no handler.
pub fn note_hangups() -> std::io::Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    flag::register(SIGHUP, Arc::clone(&asked))?;
    Ok(asked)
}

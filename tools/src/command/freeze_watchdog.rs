//! The process that thaws what an agent froze. Agents start it; people do not.

use clap::Args;
use failback_datapath::quiesce::{self, Machine, Power, Rehearsal};

use crate::exit::Exit;

/// Freeze and thaw as the agent on standard input says
#[derive(Args)]
pub struct FreezeWatchdog {
    /// Do everything but power the machine off
    #[arg(long)]
    rehearse: bool,
}

/// Runs until the agent is gone.
pub fn run(arguments: &FreezeWatchdog) -> Exit {
    let power: &dyn Power = if arguments.rehearse { &Rehearsal } else { &Machine };
    match quiesce::run(power) {
        Ok(()) => Exit::Success,
        Err(error) => {
            eprintln!("error: the freeze watchdog cannot begin: {error}; an agent starts it, not a person");
            Exit::Refused
        }
    }
}

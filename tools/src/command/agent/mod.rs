//! `failback agent`: the machine whose disks go home.

mod check;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::exit::Exit;
use crate::output::{Output, Style};

const EXAMPLES: &str = "\
Examples:
  failback agent check                 all disks of this machine
  failback agent check /dev/vda --json";

/// The agent of a machine whose disks go home.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Agent {
    /// What to do.
    #[command(subcommand)]
    pub command: AgentCommand,
}

/// What an agent does.
#[derive(Subcommand)]
pub enum AgentCommand {
    /// Say how the changes of each disk can be found, which filesystems a cut
    /// would freeze, and why not. Changes nothing; needs root to say all.
    Check {
        /// Disks to look at; all of this machine where none is named
        disks: Vec<PathBuf>,
        /// Print JSON, one disk a line
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
pub fn run(agent: &Agent) -> Exit {
    let AgentCommand::Check { disks, json } = &agent.command;
    let output = Output::new(Style::choose(*json, false));
    match check::run(disks, &output) {
        Ok(()) => Exit::Success,
        Err((exit, message)) => output.error(exit, &message, None),
    }
}

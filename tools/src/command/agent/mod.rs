//! `failback agent`: the machine whose disks go home.

mod ask;
mod check;
mod disks;
mod events;
mod run;
mod settings;
mod status;
mod uninstall;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use self::ask::Request;
use crate::config::agent::{AgentConfig, CONTROL};
use crate::control::Failed;
use crate::exit::Exit;
use crate::output::{Output, Style};

const EXAMPLES: &str = "\
Examples:
  failback agent check                              all disks of this machine
  failback agent run --config /etc/failback/agent.toml
  failback agent status
  failback agent cut --app --name before-upgrade
  failback agent finish --power-off";

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
        /// Disks to look at; those of the configuration, or all, where none is named
        disks: Vec<PathBuf>,
        /// The configuration whose disks to look at
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print JSON, one disk a line
        #[arg(long)]
        json: bool,
    },
    /// Protect the disks of this machine until told to stop.
    Run(run::Run),
    /// Show what the running agent protects, and how far it is.
    Status {
        /// Where the agent is reached.
        #[command(flatten)]
        reach: Reach,
    },
    /// Make a point of all disks now. Ends with 1 and the reason where there is
    /// none: a disk or its target that is not ready, a full retention volume, a
    /// freeze over its budget.
    Cut {
        /// Ask applications to settle first, by the hooks of the configuration
        #[arg(long)]
        app: bool,
        /// What the point is called
        #[arg(long, default_value = "")]
        name: String,
        /// Where the agent is reached.
        #[command(flatten)]
        reach: Reach,
    },
    /// Make the last point, and stop: the machine stays frozen, and its targets
    /// take nothing more. Ends with 1 where that is not so, and says how it stands.
    Finish {
        /// Power the machine off, frozen as it is
        #[arg(long)]
        power_off: bool,
        /// Where the agent is reached.
        #[command(flatten)]
        reach: Reach,
    },
    /// Thaw what the agent has frozen: a cut that is under way is void.
    Thaw {
        /// Where the agent is reached.
        #[command(flatten)]
        reach: Reach,
    },
    /// Compare a disk with its target as a whole.
    Resync {
        /// The disk's name
        disk: String,
        /// Where the agent is reached.
        #[command(flatten)]
        reach: Reach,
    },
    /// Forget a disk that the configuration no longer names: its tracker and state.
    Remove {
        /// The disk's name
        disk: String,
        /// Where the agent is reached.
        #[command(flatten)]
        reach: Reach,
    },
    /// Read the configuration again: disks come and go, the others go on.
    Reload {
        /// Where the agent is reached.
        #[command(flatten)]
        reach: Reach,
    },
    /// Take away all that an agent has left on this machine: programs, maps, pins,
    /// state, keys. Asks nothing of the target.
    Uninstall(uninstall::Remains),
}

/// Where a running agent is reached.
#[derive(Args)]
pub struct Reach {
    /// The agent's configuration, which names its socket
    #[arg(long, value_name = "FILE", conflicts_with = "control")]
    config: Option<PathBuf>,
    /// The agent's socket
    #[arg(long, value_name = "SOCKET", default_value = CONTROL)]
    control: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Reach {
    fn socket(&self) -> Result<PathBuf, Failed> {
        self.config.as_ref().map_or(Ok(self.control.clone()), |file| Ok(AgentConfig::read(file)?.control))
    }

    fn output(&self) -> Output {
        Output::new(Style::choose(self.json, false))
    }
}

/// Runs the command.
pub fn run(agent: &Agent) -> Exit {
    let (output, ended) = match &agent.command {
        AgentCommand::Check { disks, config, json } => {
            let output = Output::new(Style::choose(*json, false));
            let ended = check::run(disks, config.as_ref(), &output);
            (output, ended)
        }
        AgentCommand::Run(run) => {
            let output = run.output();
            let ended = run.run(&output);
            (output, ended)
        }
        AgentCommand::Uninstall(remains) => {
            let output = remains.output();
            let ended = remains.take_away(&output);
            (output, ended)
        }
        AgentCommand::Status { reach } => ask::run(&Request::Status, reach),
        AgentCommand::Cut { app, name, reach } => {
            ask::run(&Request::Cut { app: *app, name: name.clone() }, reach)
        }
        AgentCommand::Finish { power_off, reach } => {
            ask::run(&Request::Finish { power_off: *power_off }, reach)
        }
        AgentCommand::Thaw { reach } => ask::run(&Request::Thaw, reach),
        AgentCommand::Resync { disk, reach } => ask::run(&Request::Resync { disk: disk.clone() }, reach),
        AgentCommand::Remove { disk, reach } => ask::run(&Request::Remove { disk: disk.clone() }, reach),
        AgentCommand::Reload { reach } => ask::run(&Request::Reload, reach),
    };
    match ended {
        Ok(()) => Exit::Success,
        Err((exit, message)) => output.error(exit, &message, None),
    }
}

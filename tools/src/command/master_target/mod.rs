//! `failback master-target`: where the disks of other machines come home to.

mod events;
mod orders;
mod run;
mod status;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use failback_datapath::error::Remediable;
use failback_datapath::pipeline::Cancel;
use failback_datapath::role::Error;
use failback_datapath::role::master_target::{MasterTarget, PairName, Pairs, Replicas};

use crate::config::master_target::{DEFAULT, Settings};
use crate::control::Failed;
use crate::exit::Exit;
use crate::output::{Output, Style};
use crate::paths;

const EXAMPLES: &str = "\
Examples:
  failback master-target run --config target.toml
  failback master-target status --json
  failback master-target fence web-1/root      its machine is lost: nothing lands any more
  failback master-target cancel web-1/root     a resynchronization is given up: its last point again
  failback points rewind web-1/root newest";

/// Where the disks of other machines come home to.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct MasterTargetCommand {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What a master target does. All but `run` talk to the one that runs with the
/// same settings, and do it themselves where none runs.
#[derive(Subcommand)]
pub enum Command {
    /// Serve agents until a signal comes.
    Run {
        /// The settings.
        #[command(flatten)]
        place: Place,
    },
    /// Say where each pair stands.
    Status {
        /// The settings.
        #[command(flatten)]
        place: Place,
    },
    /// Let nothing land on a target any more: its machine is lost, or has stopped for good
    Fence {
        /// MACHINE/DISK
        pair: PairName,
        /// The settings.
        #[command(flatten)]
        place: Place,
    },
    /// Lift a fence: the machine goes on after all; after a committed rewind its
    /// disk is compared as a whole
    Unfence {
        /// MACHINE/DISK
        pair: PairName,
        /// The settings.
        #[command(flatten)]
        place: Place,
    },
    /// Give up a synchronization that was begun: a first one leaves a target that is no
    /// disk, any other goes back to the last point. An agent that is still there begins
    /// anew: remove the disk from its settings first
    Cancel {
        /// MACHINE/DISK
        pair: PairName,
        /// The settings.
        #[command(flatten)]
        place: Place,
    },
    /// Give a target up: it is nobody's from then on. Its journal stays
    Remove {
        /// MACHINE/DISK
        pair: PairName,
        /// Remove its journal too, and with it all its recovery points
        #[arg(long)]
        journal: bool,
        /// The settings.
        #[command(flatten)]
        place: Place,
    },
    /// Forget the key that a machine is known by: it was paired anew, because its
    /// keys were lost. The next agent that comes in its name is taken for it
    Release {
        /// MACHINE
        machine: String,
        /// The settings.
        #[command(flatten)]
        place: Place,
    },
    /// Have the running master target read its pairs anew, as SIGHUP does
    Reload {
        /// The settings.
        #[command(flatten)]
        place: Place,
    },
    /// Say that the wall clock is right after it jumped: points expire by age again
    AcceptClock {
        /// The settings.
        #[command(flatten)]
        place: Place,
    },
}

/// Which master target.
#[derive(Args)]
pub struct Place {
    /// The settings of the master target
    #[arg(long, value_name = "FILE", default_value = DEFAULT)]
    pub config: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Command {
    const fn place(&self) -> &Place {
        match self {
            Self::Run { place }
            | Self::Status { place }
            | Self::Fence { place, .. }
            | Self::Unfence { place, .. }
            | Self::Cancel { place, .. }
            | Self::Remove { place, .. }
            | Self::Release { place, .. }
            | Self::Reload { place }
            | Self::AcceptClock { place } => place,
        }
    }
}

/// Runs the command.
pub fn run(arguments: &MasterTargetCommand) -> Exit {
    let place = arguments.command.place();
    let output = Output::new(Style::choose(place.json, false));
    let done = Settings::read(&place.config).and_then(|settings| match &arguments.command {
        Command::Run { .. } => run::run(&place.config, &settings, &output),
        Command::Status { .. } => status::run(&settings, &output),
        other => orders::run(other, &settings, &output),
    });
    match done {
        Ok(()) => Exit::Success,
        Err((exit, message)) => output.error(exit, &message, None),
    }
}

/// The master target of these settings, told to `output`.
fn master(
    settings: &Settings,
    cancel: Cancel,
    output: &Output,
) -> Result<Arc<MasterTarget<Replicas>>, Failed> {
    let (log, notices) = (output.clone(), output.clone());
    let state = paths::targets(settings.state.as_ref());
    let observe = move |notice: &_| notices.notice(notice);
    let replicas = Replicas::new(state, &settings.retention, settings.policy(), observe);
    let replicas = replicas.map_err(|error| {
        (Exit::Refused, format!("{}: no retention directory: {error}", settings.retention.display()))
    })?;
    let pairs = Pairs::new([], move |notice| events::tell(&log, &notice));
    let master = Arc::new(MasterTarget::new(replicas, pairs, cancel));
    for pair in &settings.pairs {
        master.admit(pair.name.clone(), pair.assignment());
    }
    Ok(master)
}

/// How a command ends that met `error`.
fn failed(error: &Error) -> Failed {
    (Exit::of_remedy(error.remedy()), error.to_string())
}

//! `failback points`: the recovery points of protected disks.

mod copy;
mod listing;
mod place;
mod progress;
mod retention;
mod rewind;
mod table;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use failback_datapath::journal::{PointKind, PointRecord};
use failback_datapath::landing::replica::OnForeignWrites;
use failback_datapath::unit::{Epoch, MachineCut};

use crate::control::Failed;
use crate::exit::Exit;
use crate::output::{Output, Style};
pub use place::Place;
pub use retention::Found;

const EXAMPLES: &str = "\
Examples:
  failback points list --retention /srv/retention
  failback points list web-1/root --json
  failback points show web-1/root 288
  failback points copy web-1/root before-upgrade /tmp/look.img
  failback points rewind web-1/root 287 --dry-run     then without, then another, then:
  failback points commit web-1/root";

/// The recovery points of protected disks.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Points {
    /// What to do.
    #[command(subcommand)]
    pub command: PointsCommand,
}

/// What to do with points.
#[derive(Subcommand)]
pub enum PointsCommand {
    /// List the points of one pair, or of all.
    List {
        /// MACHINE/DISK; all pairs where it is left out
        pair: Option<String>,
        /// Only the points of this cut through all disks of a machine
        #[arg(long, value_name = "CUT", value_parser = parse_machine_cut)]
        machine_cut: Option<u64>,
        /// Where the journals lie.
        #[command(flatten)]
        place: Place,
    },
    /// Show all that is known of one point.
    Show {
        /// MACHINE/DISK
        pair: String,
        /// The point: its epoch, its name, or `newest`
        point: Which,
        /// Where the journals lie.
        #[command(flatten)]
        place: Place,
    },
    /// Take a fenced target to a point. Every other point stays within reach until the commit.
    Rewind {
        /// MACHINE/DISK
        pair: String,
        /// The point: its epoch, its name, or `newest`
        point: Which,
        /// Say what it would do, and whether there is room for it
        #[arg(long)]
        dry_run: bool,
        /// Go also where others wrote to the target since, and keep what they wrote
        #[arg(long)]
        accept_writes: bool,
        /// Where the journals lie.
        #[command(flatten)]
        place: Place,
    },
    /// Settle on what a fenced or rewound target holds: a new generation begins.
    Commit {
        /// MACHINE/DISK
        pair: String,
        /// Settle also on what others wrote to the target since: it was mounted, or the machine
        /// was run on it
        #[arg(long)]
        accept_writes: bool,
        /// Where the journals lie.
        #[command(flatten)]
        place: Place,
    },
    /// Write the disk as it was at a point into FILE, a new sparse image, without changing anything.
    Copy {
        /// MACHINE/DISK
        pair: String,
        /// The point: its epoch, its name, or `newest`
        point: Which,
        /// The image to make
        file: PathBuf,
        /// Copy also a point that others wrote into
        #[arg(long)]
        accept_writes: bool,
        /// Where the journals lie.
        #[command(flatten)]
        place: Place,
    },
}

impl PointsCommand {
    const fn place(&self) -> &Place {
        match self {
            Self::List { place, .. }
            | Self::Show { place, .. }
            | Self::Rewind { place, .. }
            | Self::Commit { place, .. }
            | Self::Copy { place, .. } => place,
        }
    }
}

/// A point, as people name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The last one of the machine.
    Newest,
    /// The one that closed this epoch.
    Epoch(Epoch),
    /// The one of this name.
    Named(String),
}

impl std::str::FromStr for Which {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match (text, text.parse()) {
            ("newest" | "latest", _) => Self::Newest,
            (_, Ok(number)) => Self::Epoch(Epoch(number)),
            _ => Self::Named(text.to_owned()),
        })
    }
}

impl Which {
    /// The point that is meant, of `points`, oldest first.
    pub fn of<'a>(&self, points: &[&'a PointRecord], pair: &Found) -> Result<&'a PointRecord, Failed> {
        let is_rewind = |point: &&&PointRecord| matches!(point.kind, PointKind::Rewind { .. });
        let found = match self {
            // What a rewind made is no news of the machine.
            Self::Newest => points.iter().rfind(|point| !is_rewind(point)).or(points.last()),
            Self::Epoch(epoch) => points.iter().find(|point| point.epoch == *epoch),
            Self::Named(name) => {
                let named: Vec<_> = points.iter().filter(|point| point.name == *name).collect();
                if named.len() > 1 {
                    let epochs: Vec<_> = named.iter().map(|point| point.epoch.to_string()).collect();
                    let (pair, epochs) = (&pair.name, epochs.join(", "));
                    let message =
                        format!("{pair}: points {epochs} are all named {name:?}; say which by its number");
                    return Err((Exit::Refused, message));
                }
                named.first().copied()
            }
        };
        found.copied().ok_or_else(|| place::no_such_point(pair))
    }
}

fn parse_machine_cut(text: &str) -> Result<u64, String> {
    MachineCut::number_of(text)
        .ok_or_else(|| format!("{text:?}: 16 hexadecimal digits, as `points list` shows them"))
}

const fn foreign(is_accepted: bool) -> OnForeignWrites {
    if is_accepted { OnForeignWrites::Accept } else { OnForeignWrites::Refuse }
}

/// Runs the command.
pub fn run(points: &Points) -> Exit {
    let place = points.command.place();
    let output = Output::new(Style::choose(place.json, false));
    let done = match &points.command {
        PointsCommand::List { machine_cut: Some(cut), pair, .. } => {
            listing::machine_cut(place, pair.as_deref(), *cut, &output)
        }
        PointsCommand::List { pair, .. } => listing::list(place, pair.as_deref(), &output),
        PointsCommand::Show { pair, point, .. } => listing::show(place, pair, point, &output),
        PointsCommand::Rewind { pair, point, dry_run: true, accept_writes, .. } => {
            rewind::rehearse(place, pair, point, foreign(*accept_writes), &output)
        }
        PointsCommand::Rewind { pair, point, accept_writes, .. } => {
            rewind::rewind(place, pair, point, foreign(*accept_writes), &output)
        }
        PointsCommand::Commit { pair, accept_writes, .. } => {
            rewind::commit(place, pair, foreign(*accept_writes), &output)
        }
        PointsCommand::Copy { pair, point, file, accept_writes, .. } => {
            copy::copy(place, pair, point, file, foreign(*accept_writes), &output)
        }
    };
    match done {
        Ok(()) => Exit::Success,
        Err((exit, message)) => output.error(exit, &message, None),
    }
}

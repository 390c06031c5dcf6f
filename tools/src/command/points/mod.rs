//! `failback points`: the recovery points of protected disks.

mod retention;
mod table;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use failback_datapath::journal::{Directory, PointSummary, Summary, View};
use failback_datapath::ring;
use failback_datapath::unit::Epoch;
use serde_json::json;

use crate::exit::Exit;
use crate::output::{Output, Style};
use retention::{Found, Retention};

const EXAMPLES: &str = "\
Examples:
  failback points list --retention /srv/retention
  failback points list web-1/root --json
  failback points show web-1/root 288";

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
}

/// Where the journals lie.
#[derive(Args)]
pub struct Place {
    /// The retention directory of the master target
    #[arg(long, value_name = "DIR", default_value = "/mnt/retention")]
    pub retention: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A point, as people name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The last one.
    Newest,
    /// The one that closed this epoch.
    Epoch(Epoch),
    /// The last one of this name.
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
    /// The point of `points` (oldest first) that is meant.
    pub fn find<'a>(&self, points: &'a [PointSummary]) -> Option<&'a PointSummary> {
        points.iter().rev().find(|point| match self {
            Self::Newest => true,
            Self::Epoch(epoch) => point.record.epoch == *epoch,
            Self::Named(name) => point.record.name == *name,
        })
    }
}

/// How a command ends that did not do what it was asked.
pub type Failed = (Exit, String);

/// Runs the command.
pub fn run(points: &Points) -> Exit {
    let (PointsCommand::List { place, .. } | PointsCommand::Show { place, .. }) = &points.command;
    let output = Output::new(Style::choose(place.json, false));
    let done = match &points.command {
        PointsCommand::List { pair, .. } => list(place, pair.as_deref(), &output),
        PointsCommand::Show { pair, point, .. } => show(place, pair, point, &output),
    };
    match done {
        Ok(()) => Exit::Success,
        Err((exit, message)) => output.error(exit, &message, None),
    }
}

fn list(place: &Place, pair: Option<&str>, output: &Output) -> Result<(), Failed> {
    let retention = Retention::new(place.retention.clone());
    let found = match pair {
        Some(pair) => vec![retention.pair(pair)?],
        None => retention.pairs()?,
    };
    if found.is_empty() {
        output.line(
            &format!("no pair has a journal in {}", retention.path().display()),
            || json!({"event": "pairs", "pairs": []}),
        );
    }
    for pair in found {
        let summary = summary(&pair)?;
        output.line(&table::of_pair(&pair.name, &summary), || {
            json!({
                "event": "points", "pair": pair.name, "state": summary.pair, "points": summary.points,
                "space": summary.space,
            })
        });
    }
    Ok(())
}

fn show(place: &Place, pair: &str, which: &Which, output: &Output) -> Result<(), Failed> {
    let pair = Retention::new(place.retention.clone()).pair(pair)?;
    let summary = summary(&pair)?;
    let Some(point) = which.find(&summary.points) else {
        let message =
            format!("{}: no such point; `failback points list` shows those that are kept", pair.name);
        return Err((Exit::Refused, message));
    };
    output.line(
        &table::of_point(&pair.name, point),
        || json!({"event": "point", "pair": pair.name, "point": point}),
    );
    Ok(())
}

/// What the journal of `pair` holds, read without its lock.
fn summary(pair: &Found) -> Result<Summary, Failed> {
    let read = async {
        let directory = Directory::open_read_only(&pair.directory).map_err(|error| error.to_string())?;
        let view = View::open(directory).await.map_err(|error| error.to_string())?;
        view.summary().await.map_err(|error| error.to_string())
    };
    ring::run(read)
        .map_err(|error| (Exit::Failed, error.to_string()))?
        .map_err(|message| (Exit::Failed, format!("{}: {message}", pair.name)))
}

//! `failback inspect`: what the files and maps of live protection hold.
//!
//! Every view only reads, takes no lock, and may be used while others write: what
//! is looked at may then change in between, which a second look shows. Files are
//! taken for hostile: lengths are bounded, checksums verified, and what does not
//! fit is an error that says where.

mod bitmap;
mod digests;
mod fields;
mod freeze;
mod index;
mod journal;
mod looked;
mod owner;
mod pair;
mod points;
mod records;
mod rows;
mod state;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::exit::Exit;
use crate::output::{Output, Style};
use rows::Rows;

const EXAMPLES: &str = "\
Examples:
  failback inspect journal /mnt/retention/web-1/root
  failback inspect records /mnt/retention/web-1/root --segment 3 --entries
  failback inspect index /mnt/retention/web-1/root/epoch-000000000007.index --limit 20
  failback inspect bitmap root
  failback inspect state /var/lib/failback --json";

/// Show what the files and maps of live protection hold. Changes nothing.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Inspect {
    /// What to look at.
    #[command(subcommand)]
    pub view: View,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,
}

/// What there is to look at.
#[derive(Subcommand)]
pub enum View {
    /// Whose journal it is, and its state; its key is not shown.
    Pair {
        /// The directory of the journal: RETENTION/MACHINE/DISK
        directory: PathBuf,
    },
    /// All files of a journal, what is wrong with each, and what they are together.
    Journal {
        /// The directory of the journal: RETENTION/MACHINE/DISK
        directory: PathBuf,
    },
    /// The records of the log, segment by segment, and the gaps between them.
    Records(records::Records),
    /// Recovery points with manifests, and whether their chain holds.
    Points {
        /// The directory of the journal: RETENTION/MACHINE/DISK
        directory: PathBuf,
        /// Which points.
        #[command(flatten)]
        rows: Rows,
    },
    /// An index: its header, its entries, and whether every page is whole.
    Index(index::Index),
    /// The digest file: how many digests are known, and whether every page is whole.
    Digests(digests::Digests),
    /// The map in which the kernel marks the changed chunks of a tracked disk.
    Bitmap(bitmap::Bitmap),
    /// The files in a state folder: marks of unfinished targets, owned disks, and
    /// what an agent knows of its machine and its disks.
    State {
        /// The folder [default: /var/lib/failback, or the XDG state folder]
        folder: Option<PathBuf>,
    },
    /// Which master target owns a disk, running or not.
    Owner(owner::Of),
    /// The record of a freeze: what a restarted agent must undo.
    Freeze {
        /// The folder of the record
        #[arg(default_value = "/run/failback")]
        folder: PathBuf,
    },
}

/// Runs the command.
pub fn run(inspect: &Inspect) -> Exit {
    let output = Output::new(Style::choose(inspect.json, false));
    let shown = match &inspect.view {
        View::Pair { directory } => pair::show(directory, &output),
        View::Journal { directory } => journal::show(directory, &output),
        View::Records(records) => records.show(&output),
        View::Points { directory, rows } => points::show(directory, rows, &output),
        View::Index(index) => index.show(&output),
        View::Digests(digests) => digests.show(&output),
        View::Bitmap(bitmap) => bitmap.show(&output),
        View::State { folder } => state::show(folder.as_ref(), &output),
        View::Owner(of) => of.show(&output),
        View::Freeze { folder } => freeze::show(folder, &output),
    };
    match shown {
        Ok(()) => Exit::Success,
        Err((exit, message)) => output.error(exit, &message, None),
    }
}

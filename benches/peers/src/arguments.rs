//! The command line of the harness.

use crate::data::MEBIBYTE;
use crate::row::RowName;
use clap::Parser;
use std::path::PathBuf;

/// The smallest disks that hold every kind of data, in bytes.
const SIZE_MIN: u64 = 64 * MEBIBYTE;

/// Runs failback side by side with its peers on two loop devices and compares
/// time, CPU time and memory. Needs root.
#[derive(Debug, Parser)]
#[command(name = "peers", version)]
pub(crate) struct Arguments {
    /// Size of each disk, such as 512M or 4G.
    #[arg(long, default_value = "4G", value_parser = parse_size)]
    pub(crate) size: u64,
    /// How often each contestant runs; fewer than five is a trial.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// Only these rows.
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    pub(crate) only: Vec<RowName>,
    /// The failback to measure [default: the one beside this program].
    #[arg(long, value_name = "PATH")]
    pub(crate) failback: Option<PathBuf>,
    /// Also writes every figure and command line to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Prints Markdown instead of plain text.
    #[arg(long)]
    pub(crate) markdown: bool,
    /// Goes on with the others when a contestant fails.
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Lists the rows and ends.
    #[arg(long)]
    pub(crate) list: bool,
    /// Where the disks' files lie while it runs.
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    pub(crate) directory: PathBuf,
    /// Seed of all random data and places.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How long the disks rest between being prepared and a run, so that
    /// whoever is fast does not pay for the writing before.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    pub(crate) rest_seconds: u64,
    /// How long one run may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub(crate) timeout_seconds: u64,
}

/// Why a size is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SizeError {
    /// Not a number with a unit.
    #[error("write a whole number followed by M, G or T, such as 4G")]
    Form,
    /// Too small, or too large to count.
    #[error("the disks need at least 64M, and less than 16 million T")]
    Range,
}

fn parse_size(text: &str) -> Result<u64, SizeError> {
    let shift = match text.chars().last() {
        Some('M') => 20,
        Some('G') => 30,
        Some('T') => 40,
        _ => return Err(SizeError::Form),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| SizeError::Form)?;
    let size = number.checked_mul(1 << shift).ok_or(SizeError::Range)?;
    if size < SIZE_MIN { Err(SizeError::Range) } else { Ok(size) }
}

#[cfg(test)]
mod tests {
    use super::{Arguments, parse_size};
    use clap::CommandFactory;

    #[test]
    fn sizes_have_a_unit_and_a_least() {
        assert_eq!(parse_size("4G").ok(), Some(4 << 30));
        assert_eq!(parse_size("64M").ok(), Some(64 << 20));
        for wrong in ["", "4", "G", "63M", "4g", "-1G", "99999999T", "4Gé"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}

//! The command line.

use std::fmt;
use std::path::PathBuf;

use clap::Parser;

/// Measures landing with a journal, recovery and rewind on a loop device, as
/// ratios to what fio does on the same device. Needs root and fio.
#[derive(Debug, Parser)]
#[command(name = "protection", version)]
pub struct Arguments {
    /// Size of the disk and of what changes on it, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(64..=65536))]
    pub size: u64,
    /// How often each is measured; fewer than five is a trial
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Where disk and journal lie while it runs
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    pub directory: PathBuf,
    /// Between two measurements, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    pub rest_seconds: u64,
    /// Prints a Markdown table
    #[arg(long)]
    pub markdown: bool,
    /// Also writes every figure to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl Arguments {
    /// Size of the disk in bytes.
    pub const fn size_bytes(&self) -> u64 {
        self.size << 20
    }
}

/// How the source changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// From the beginning to the end of the disk.
    Sequential,
    /// Chunks of 16 KiB, each once, in an order that jumps.
    Random,
}

impl Pattern {
    /// Bytes of one operation of fio.
    pub const fn block_bytes(self) -> u64 {
        match self {
            Self::Sequential => 1 << 20,
            Self::Random => 16 << 10,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sequential => "sequential",
            Self::Random => "random",
        })
    }
}

//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// What live protection costs, on loop devices, as ratios to the same without
/// it. Needs root, fio, and a `failback` beside this program.
#[derive(Debug, Parser)]
#[command(name = "protection", version)]
pub struct Arguments {
    /// What is measured
    #[command(subcommand)]
    pub measurement: Measurement,
    /// Where disks and journals lie while it runs
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/tmp")]
    pub directory: PathBuf,
    /// Between two measurements, in seconds
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 3)]
    pub rest_seconds: u64,
    /// The failback to measure [default: the one beside this program]
    #[arg(long, global = true, value_name = "PATH")]
    pub failback: Option<PathBuf>,
    /// Prints a Markdown table
    #[arg(long, global = true)]
    pub markdown: bool,
    /// Also writes every figure to this file
    #[arg(long, global = true, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// What is measured.
#[derive(Clone, Debug, Subcommand)]
pub enum Measurement {
    /// Landing with a journal, and rewind, against what fio does on the same device
    Landing(Landing),
    /// How long cuts stop PostgreSQL under pgbench
    Freeze(Freeze),
    /// How far a target stays behind random writes, and what that costs the writer
    Lag(Lag),
    /// What tracking takes from each write
    Tracker(Tracker),
    /// What is read and sent for each byte written, by the size of the chunk
    Chunks(Chunks),
    /// How long it takes to open what was left in the middle, and many points
    Recovery(Recovery),
}

/// Options of `landing`.
#[derive(Clone, Debug, clap::Args)]
pub struct Landing {
    /// Size of the disk and of what changes on it, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(64..=65536))]
    pub size: u64,
    /// How often each is measured; fewer than five is a trial
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
}

/// Options of `freeze`.
#[derive(Clone, Debug, clap::Args)]
pub struct Freeze {
    /// How many cuts
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub cuts: u32,
    /// Scale of pgbench's tables: 15 MiB each
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub scale: u32,
    /// Clients of pgbench, each as fast as it can
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub clients: u32,
}

/// Options of `lag`.
#[derive(Clone, Debug, clap::Args)]
pub struct Lag {
    /// For how long it is written, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(3..=86_400))]
    pub seconds: u64,
    /// Writes of 4 KiB a second
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub rate: u64,
    /// In how many MiB they lie
    #[arg(long, value_name = "MIB", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(64..=65536))]
    pub size: u64,
    /// How often the writer's own speed is measured, with and without; 0 leaves it out
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub rounds: u32,
    /// A point by policy every so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub points_every: u64,
    /// The chunk, in KiB; by the size of the disk where it is left out
    #[arg(long, value_name = "KIB", value_parser = clap::value_parser!(u32).range(4..=1024))]
    pub chunk: Option<u32>,
}

/// Options of `tracker`.
#[derive(Clone, Debug, clap::Args)]
pub struct Tracker {
    /// Size of the disk, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(64..=65536))]
    pub size: u64,
    /// Writes of 4 KiB in each run
    #[arg(long, default_value_t = 400_000, value_parser = clap::value_parser!(u64).range(1000..=1_000_000_000))]
    pub writes: u64,
    /// How often each is measured; fewer than five is a trial
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
}

/// Options of `chunks`.
#[derive(Clone, Debug, clap::Args)]
pub struct Chunks {
    /// The chunks, in KiB
    #[arg(long, value_name = "KIB", value_delimiter = ',', default_value = "4,16,64,256,1024", value_parser = clap::value_parser!(u32).range(4..=1024))]
    pub chunks: Vec<u32>,
    /// Size of the disk, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = clap::value_parser!(u64).range(64..=65536))]
    pub size: u64,
    /// For how long it is written with each, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(3..=3600))]
    pub seconds: u64,
    /// Writes of 4 KiB a second
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rate: u64,
}

/// Options of `recovery`.
#[derive(Clone, Debug, clap::Args)]
pub struct Recovery {
    /// What an open epoch has changed when its replica is left, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(64..=65536))]
    pub size: u64,
    /// How often each is measured; fewer than five is a trial
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Points of the large journal
    #[arg(long, default_value_t = 288, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub points: u64,
    /// Size of its disk, in GiB
    #[arg(long, value_name = "GIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=65536))]
    pub disk: u64,
}

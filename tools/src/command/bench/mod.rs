//! `failback bench`: how fast this host is at what a synchronization is made of.
//!
//! ```text
//! Disks ──> storage:   read, write
//! Sample ─> processor: hash, zero scan, compress, decompress ──> Rounds ──> table, JSON
//! Hosts ──> network:   tls
//! all ────> pipeline:  copy, compare, push
//! ```
//!
//! Each stage runs the code that `failback sync` runs. Rounds are interleaved: a
//! host that is slower for a while is so for all stages.

mod arguments;
mod disks;
mod error;
mod measure;
mod network;
mod pipeline;
mod processor;
mod report;
mod sample;
mod storage;

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use failback_datapath::pipeline::{Cancel, Compression, DigestAlgorithm, default_lanes};
use indicatif::{ProgressBar, ProgressStyle};

pub use arguments::Bench;
use arguments::StageName;
use disks::Disks;
use error::Error;
use measure::{Round, Rounds};
use network::Hosts;
use sample::{Generator, Sample};

use crate::exit::Exit;
use crate::output::{Output, Style};
use crate::signals;

/// Runs the command.
pub fn run(arguments: &Bench) -> Exit {
    let output = Output::new(Style::choose(arguments.json, false));
    match measure(arguments, &output) {
        Ok(()) => Exit::Success,
        Err(error) => output.error(error.exit(), &error.to_string(), None),
    }
}

/// Everything that stages work on.
struct Workbench {
    disks: Disks,
    sample: Sample,
    /// Bytes that every stage walks.
    size_bytes: u64,
    lanes: usize,
    cancel: Cancel,
    /// Whether the target holds what the source holds.
    target_is_copy: AtomicBool,
}

fn measure(arguments: &Bench, output: &Output) -> Result<(), Error> {
    confirm(arguments)?;
    let cancel = signals::cancel_on_signals().map_err(Error::Signals)?;
    let started = Instant::now();
    let stages = arguments.stages();
    let generator = Generator::new();
    let disks = Disks::prepare(arguments, &stages, &generator, &cancel, output)?;
    let connects = stages.iter().any(|stage| stage.connects());
    let hosts = connects.then(|| Hosts::pair(disks.directory())).transpose()?;
    let bench = Workbench {
        size_bytes: disks.size_bytes(),
        disks,
        sample: Sample::new(&generator),
        lanes: default_lanes(),
        cancel,
        target_is_copy: AtomicBool::new(false),
    };
    let results = run_rounds(&bench, hosts.as_ref(), &stages, arguments)?;
    report::tell(&bench, &results, started.elapsed(), output);
    Ok(())
}

/// A target is named twice, or not written.
fn confirm(arguments: &Bench) -> Result<(), Error> {
    match &arguments.target {
        Some(target) if arguments.destroys.as_ref() != Some(target) => {
            Err(Error::Unconfirmed { path: target.clone() })
        }
        _ => Ok(()),
    }
}

fn run_rounds(
    bench: &Workbench,
    hosts: Option<&Hosts>,
    stages: &[StageName],
    arguments: &Bench,
) -> Result<Vec<(StageName, Rounds)>, Error> {
    let mut results: Vec<_> = stages.iter().map(|stage| (*stage, Rounds::default())).collect();
    let steps = u64::from(arguments.rounds) * results.len() as u64;
    // Shown at a terminal only.
    let bar = if arguments.json { ProgressBar::hidden() } else { ProgressBar::new(steps) };
    let form = ProgressStyle::with_template("[{bar:40}] {msg}");
    bar.set_style(form.unwrap_or_else(|_| ProgressStyle::default_bar()));
    for round in 1..=arguments.rounds {
        for (stage, rounds) in &mut results {
            bench.cancel.check()?;
            bar.set_message(format!("round {round}: {}", stage.name()));
            rounds.push(run_stage(bench, hosts, *stage)?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(results)
}

fn run_stage(bench: &Workbench, hosts: Option<&Hosts>, stage: StageName) -> Result<Round, Error> {
    let hosts = || hosts.ok_or(Error::Loopback(std::io::ErrorKind::NotConnected.into()));
    match stage {
        StageName::Read => storage::read(bench),
        StageName::HashXxh3 => processor::hash(bench, DigestAlgorithm::Xxh3),
        StageName::HashBlake3 => processor::hash(bench, DigestAlgorithm::Blake3),
        StageName::ZeroScan => processor::zero_scan(bench),
        StageName::CompressLz4 => processor::compress(bench, Compression::Lz4),
        StageName::CompressZstd => processor::compress(bench, Compression::Zstd),
        StageName::DecompressLz4 => processor::decompress(bench, Compression::Lz4),
        StageName::DecompressZstd => processor::decompress(bench, Compression::Zstd),
        StageName::Tls => network::send(bench, hosts()?),
        StageName::Write => storage::write(bench),
        StageName::Copy => pipeline::copy(bench),
        StageName::Compare => pipeline::compare(bench),
        StageName::Push => pipeline::push(bench, hosts()?),
    }
}

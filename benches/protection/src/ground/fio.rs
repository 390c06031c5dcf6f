//! What the disk itself can do, and writers that do as they are told, by fio with
//! io_uring and direct I/O.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::process::supervised;
use super::{LoopDevice, Process, Scratch};
use crate::error::Error;

/// How a disk is gone over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// From the beginning to the end.
    Sequential,
    /// Chunks of 16 KiB, each once, in an order that jumps.
    Random,
}

impl Pattern {
    /// Bytes of one operation of fio.
    const fn block_bytes(self) -> u64 {
        match self {
            Self::Sequential => 1 << 20,
            Self::Random => 16 << 10,
        }
    }

    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Random => "random",
        }
    }
}

/// Writes the whole disk once, so that every block is there.
///
/// # Errors
/// fio fails.
pub fn fill(scratch: &Scratch, device: &LoopDevice) -> Result<(), Error> {
    write(scratch, device).map(drop)
}

/// Seconds of one sequential write of the whole disk, flush included.
///
/// # Errors
/// fio fails.
pub fn write(scratch: &Scratch, device: &LoopDevice) -> Result<f64, Error> {
    run(scratch, &jobs(device, "write", "write", Pattern::Sequential))
}

/// Seconds in which every byte of the disk is read once, written once, and
/// written once more beside it, all at the same time: the least that keeping
/// what was overwritten can cost.
///
/// # Errors
/// fio fails.
pub fn churn(scratch: &Scratch, device: &LoopDevice, beside: &Path, pattern: Pattern) -> Result<f64, Error> {
    let (read, write) = match pattern {
        Pattern::Sequential => ("read", "write"),
        Pattern::Random => ("randread", "randwrite"),
    };
    let mut journal = jobs(device, "journal", "write", Pattern::Sequential);
    journal[1] = format!("--filename={}", beside.display());
    let all = [jobs(device, "read", read, pattern), jobs(device, "write", write, pattern), journal];
    run(scratch, &all.concat())
}

fn jobs(device: &LoopDevice, name: &str, kind: &str, pattern: Pattern) -> Vec<String> {
    vec![
        format!("--name={name}"),
        format!("--filename={}", device.path().display()),
        format!("--rw={kind}"),
        format!("--bs={}", pattern.block_bytes()),
        format!("--size={}", device.size_bytes),
        "--iodepth=8".to_owned(),
        "--end_fsync=1".to_owned(),
    ]
}

/// Runs jobs at the same time; the seconds of the slowest.
fn run(scratch: &Scratch, jobs: &[String]) -> Result<f64, Error> {
    let told = told(&scratch.run(command().arg("--randrepeat=1").args(jobs))?)?;
    let jobs = told["jobs"].as_array().into_iter().flatten();
    let longest_ms = jobs.filter_map(|job| job["job_runtime"].as_f64()).fold(0.0, f64::max);
    if longest_ms > 0.0 { Ok(longest_ms / 1000.0) } else { Err(nothing_of("job_runtime")) }
}

fn command() -> Command {
    let mut command = supervised("fio");
    // Threads: there is then one process to end.
    command.args(["--output-format=json", "--thread", "--ioengine=io_uring", "--direct=1"]);
    command
}

fn told(text: &str) -> Result<Value, Error> {
    // Notes may stand before it.
    let begin = text.find('{').unwrap_or_default();
    serde_json::from_str(&text[begin..]).map_err(|_| nothing_of("figures"))
}

const fn nothing_of(what: &'static str) -> Error {
    Error::Answer { program: "fio", what }
}

/// A writer of 4 KiB blocks at random places.
#[derive(Clone, Debug)]
pub struct Writer {
    /// A device, or a file that is there.
    pub file: PathBuf,
    /// In how many bytes from its beginning the blocks lie.
    pub size_bytes: u64,
    /// Blocks a second; as many as it can where there is none.
    pub rate: Option<u64>,
    /// When it stops.
    pub until: Until,
}

/// When a writer stops.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so many seconds.
    Seconds(u64),
    /// After so many blocks.
    Blocks(u64),
}

/// What a writer did.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Blocks of 4 KiB.
    pub blocks: u64,
    /// Blocks a second.
    pub rate: f64,
    /// Until half of the blocks were written, in microseconds each.
    pub p50_us: f64,
    /// Until nearly all were.
    pub p99_us: f64,
}

impl Written {
    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.blocks * Writer::BLOCK_BYTES
    }
}

impl Writer {
    /// What it writes at once.
    pub const BLOCK_BYTES: u64 = 4096;

    /// Starts it.
    ///
    /// # Errors
    /// There is no fio.
    pub fn start(&self) -> Result<Process, Error> {
        let mut command = command();
        command.arg("--name=writer").arg(format!("--filename={}", self.file.display()));
        command.args(["--rw=randwrite", "--bs=4k", "--iodepth=32", "--norandommap", "--randrepeat=0"]);
        command.args(["--overwrite=1", "--allow_file_create=0", &format!("--size={}", self.size_bytes)]);
        match self.until {
            Until::Seconds(seconds) => command.args(["--time_based", &format!("--runtime={seconds}")]),
            Until::Blocks(blocks) => command.arg(format!("--io_size={}", blocks * Self::BLOCK_BYTES)),
        };
        command.args(self.rate.map(|rate| format!("--rate_iops={rate}")));
        Process::start(&mut command)
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// fio fails.
    pub fn run(&self, scratch: &Scratch) -> Result<Written, Error> {
        Self::finish(self.start()?, scratch)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// fio fails.
    pub fn finish(process: Process, scratch: &Scratch) -> Result<Written, Error> {
        let told = told(&process.finish(scratch)?)?;
        let write = &told["jobs"][0]["write"];
        let latency = |name| write["clat_ns"]["percentile"][name].as_f64().map(|ns| ns / 1000.0);
        let written = || {
            Some(Written {
                blocks: write["total_ios"].as_u64()?,
                rate: write["iops"].as_f64()?,
                p50_us: latency("50.000000")?,
                p99_us: latency("99.000000")?,
            })
        };
        written().ok_or_else(|| nothing_of("total_ios, iops or clat_ns"))
    }
}

//! What the disk itself can do, by fio with io_uring and direct I/O.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::arguments::Pattern;
use crate::error::Error;
use crate::field::Field;

/// Writes the whole disk once, so that every block is there.
///
/// # Errors
/// fio fails.
pub fn fill(field: &Field) -> Result<(), Error> {
    write(field).map(drop)
}

/// Seconds of one sequential write of the whole disk, flush included.
///
/// # Errors
/// fio fails.
pub fn write(field: &Field) -> Result<f64, Error> {
    run(&[&jobs(field, "write", "write", Pattern::Sequential)])
}

/// Seconds in which every byte of the disk is read once, written once, and
/// written once more beside it, all at the same time: the least that keeping
/// what was overwritten can cost.
///
/// # Errors
/// fio fails.
pub fn churn(field: &Field, pattern: Pattern) -> Result<f64, Error> {
    let (read, write) = match pattern {
        Pattern::Sequential => ("read", "write"),
        Pattern::Random => ("randread", "randwrite"),
    };
    let mut journal = jobs(field, "journal", "write", Pattern::Sequential);
    journal[1] = format!("--filename={}", field.stand_in().display());
    run(&[&jobs(field, "read", read, pattern), &jobs(field, "write", write, pattern), &journal])
}

fn jobs(field: &Field, name: &str, kind: &str, pattern: Pattern) -> Vec<String> {
    vec![
        format!("--name={name}"),
        format!("--filename={}", field.device().display()),
        format!("--rw={kind}"),
        format!("--bs={}", pattern.block_bytes()),
        format!("--size={}", field.size_bytes),
        "--iodepth=8".to_owned(),
        "--end_fsync=1".to_owned(),
    ]
}

/// Runs jobs at the same time; the seconds of the slowest.
fn run(jobs: &[&[String]]) -> Result<f64, Error> {
    let mut command = Command::new("fio");
    command.args(["--output-format=json", "--ioengine=io_uring", "--direct=1", "--randrepeat=1"]);
    command.args(jobs.iter().copied().flatten()).stdin(Stdio::null());
    let output = command.output().map_err(Error::at("start", "fio"))?;
    if !output.status.success() {
        return Err(Error::Fio(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let told: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| Error::Fio(error.to_string()))?;
    let times = told["jobs"].as_array().into_iter().flatten().filter_map(|job| job["job_runtime"].as_f64());
    let longest_ms = times.fold(0.0, f64::max);
    if longest_ms > 0.0 { Ok(longest_ms / 1000.0) } else { Err(Error::Fio("no job_runtime".to_owned())) }
}

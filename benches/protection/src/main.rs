//! `protection`: what live protection costs, side by side with the same without
//! it, in one run.
//!
//! ```text
//! landing   deltas onto a replica, and rewind       against fio on the same device
//! freeze    PostgreSQL under pgbench, cut by cut     how long writers wait
//! lag       random writes, agent, master target      how far the target is behind
//! tracker   random writes                            with the programs and without
//! chunks    random writes, agent, master target      by the size of the chunk
//! recovery  replicas and journals that were left     how long opening takes
//! ```
//!
//! ```console
//! $ cargo build --release -p failback -p failback-protection
//! $ sudo target/release/protection lag --markdown
//! ```
//!
//! Nothing is left behind, also where a run fails or is interrupted: processes,
//! mounts, pins and loop devices go with this process in any case, files with
//! their folder unless it is killed (`kill -9`).

#![forbid(unsafe_code)]

mod arguments;
mod chunks;
mod error;
mod freeze;
mod ground;
mod lag;
mod landing;
mod live;
mod recovery;
mod report;
mod tracker;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use arguments::{Arguments, Measurement};
use error::Error;
use ground::Scratch;
use report::Report;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure(&arguments).and_then(|report| report::write(&arguments, &report)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where standard error is closed, the exit code still tells.
            let _ = writeln!(std::io::stderr(), "protection: {error}");
            if matches!(error, Error::Interrupted) { ExitCode::from(130) } else { ExitCode::FAILURE }
        }
    }
}

fn measure(arguments: &Arguments) -> Result<Report, Error> {
    let scratch = &Scratch::make(&arguments.directory)?;
    let rest = Duration::from_secs(arguments.rest_seconds);
    let failback = || find_failback(arguments.failback.as_deref());
    match &arguments.measurement {
        Measurement::Landing(options) => landing::measure(options, scratch, rest),
        Measurement::Freeze(options) => freeze::measure(options, scratch, &failback()?),
        Measurement::Lag(options) => lag::measure(options, scratch, &failback()?, rest),
        Measurement::Tracker(options) => tracker::measure(options, scratch, rest),
        Measurement::Chunks(options) => chunks::measure(options, scratch, &failback()?),
        Measurement::Recovery(options) => recovery::measure(options, scratch),
    }
}

/// The binary to measure: the one that is named, or the one beside this program.
fn find_failback(named: Option<&Path>) -> Result<PathBuf, Error> {
    let own = std::env::current_exe().map_err(Error::at("find", "/proc/self/exe"))?;
    let path = named.map_or_else(|| own.with_file_name("failback"), Path::to_path_buf);
    if path.is_file() { Ok(path) } else { Err(Error::NoFailback { path }) }
}

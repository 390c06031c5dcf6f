//! `failback`: bring machines home after a disaster.
//!
//! This crate alone prints, reads files of settings and exits; what it does is
//! done by `failback-datapath`.

#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "the one crate that talks to people")]

mod cli;
mod command;
mod config;
mod control;
mod exit;
mod output;
mod paths;
mod signals;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    raise_file_limit();
    let arguments = cli::Arguments::parse();
    let ended = match arguments.command {
        cli::Command::Sync(sync) => command::sync::run(&sync),
        cli::Command::Serve(serve) => command::serve::run(&serve),
        cli::Command::Pair(pair) => command::pair::run(&pair),
        cli::Command::Image(image) => command::image::run(&image.command),
        cli::Command::Agent(agent) => command::agent::run(&agent),
        cli::Command::MasterTarget(master_target) => command::master_target::run(&master_target),
        cli::Command::Points(points) => command::points::run(&points),
        cli::Command::Inspect(inspect) => command::inspect::run(&inspect),
        cli::Command::Bench(bench) => command::bench::run(&bench),
        cli::Command::Demo(demo) => command::demo::run(&demo),
        cli::Command::FreezeWatchdog(watchdog) => command::freeze_watchdog::run(&watchdog),
    };
    ended.into()
}

/// An image of thousands of extents needs as many open files, and more than
/// the usual soft limit of 1024.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Where this fails, opening such an image says so.
        let _kept = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

//! `peers`: failback side by side with its peers, in one run.
//!
//! ```text
//! settings ─> field (two loop devices, mixed data)
//!               │ for each row, round and contestant:
//!               ├─ field.prepare ─> measure ─> runner (a process of its own) ─> field.verify
//!               └─ summary ─> report
//! ```
//!
//! ```console
//! $ cargo build --release && cargo build --release -p failback-peers
//! $ sudo target/release/peers --size 4G --markdown
//! ```
//!
//! Everyone works on the same pair of loop devices, in turns, and every run is
//! compared byte for byte before it counts. What the target holds beforehand is
//! told in `field`, how time, CPU time and memory are taken in `runner`, the
//! peers' command lines are in `copy` and `resync`, ours in `failback`.
//!
//! Nothing is left behind: loop devices are released by the kernel when this
//! process ends, servers and clients die with it, files go with their directory
//! (all but the files also after `kill -9`).

#![forbid(unsafe_code)]

mod arguments;
mod contest;
mod contestant;
mod copy;
mod data;
mod device;
mod error;
mod failback;
mod field;
mod interrupt;
mod machine;
mod measure;
mod plan;
mod random;
mod report;
mod resync;
mod row;
mod runner;
mod summary;
mod verify;

use crate::arguments::Arguments;
use crate::error::{Error, on_path};
use crate::failback::Failback;
use crate::field::Field;
use crate::interrupt::Interrupt;
use crate::machine::Machine;
use crate::row::RowName;
use crate::summary::{Report, Row};
use clap::{Parser, ValueEnum};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let result = if words.next().is_some_and(|word| word == measure::RUN_ONCE) {
        runner::run_once(&PathBuf::from(words.next().unwrap_or_default()))
    } else {
        compare(&Arguments::parse())
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where stderr is closed, the exit code still tells.
            let _ = writeln!(io::stderr(), "peers: {error}");
            if matches!(error, Error::Interrupted) { ExitCode::from(130) } else { ExitCode::FAILURE }
        }
    }
}

fn compare(arguments: &Arguments) -> Result<(), Error> {
    let rows: Vec<RowName> = RowName::value_variants()
        .iter()
        .copied()
        .filter(|row| arguments.only.is_empty() || arguments.only.contains(row))
        .collect();
    if arguments.list {
        let lines = rows.iter().map(|row| format!("{:26}{}\n", row.name(), row.title()));
        return io::stdout().write_all(lines.collect::<String>().as_bytes()).map_err(on_stdout);
    }
    let mut report = Report {
        command_line: std::env::args().collect::<Vec<_>>().join(" "),
        machine: Machine::look(&arguments.directory)?,
        size_bytes: arguments.size,
        rounds: arguments.rounds,
        seed: arguments.seed,
        changed_chunks: None,
        rows: Vec::new(),
    };
    let outcome = fill(&mut report, &rows, arguments);
    // Rows that were finished before an error are shown all the same.
    if !report.rows.is_empty() {
        report.machine.look_again()?;
        write_out(&report, arguments)?;
    }
    outcome
}

/// Runs the rows and adds them to the report as they end.
fn fill(report: &mut Report, rows: &[RowName], arguments: &Arguments) -> Result<(), Error> {
    let interrupt = Interrupt::register()?;
    let settings = contest::Settings {
        rounds: arguments.rounds,
        rest: Duration::from_secs(arguments.rest_seconds),
        timeout: Duration::from_secs(arguments.timeout_seconds),
        keep_going: arguments.keep_going,
        interrupt: interrupt.clone(),
    };
    let mut field = Field::make(&arguments.directory, arguments.size, arguments.seed, &interrupt)?;
    let failback = find_failback(arguments, &field)?;
    for row in rows {
        let entries = contest::run(*row, &mut field, &failback, &settings, &mut io::stderr())?;
        let programs = entries.iter().flat_map(|entry| entry.contestant.plan.programs());
        report.machine.note_versions(programs);
        report.rows.push(Row::of(*row, entries));
        report.changed_chunks = field.changed_chunks();
    }
    Ok(())
}

/// The binary to measure, and state of its own for each side.
fn find_failback(arguments: &Arguments, field: &Field) -> Result<Failback, Error> {
    let own = std::env::current_exe().map_err(on_path("find", Path::new("/proc/self/exe")))?;
    let program = arguments.failback.clone().unwrap_or_else(|| own.with_file_name("failback"));
    Ok(Failback {
        program,
        client_state: field.file("failback-client"),
        server_state: field.file("failback-server"),
        port: field::free_port()?,
    })
}

fn write_out(report: &Report, arguments: &Arguments) -> Result<(), Error> {
    let write = if arguments.markdown { report::write_markdown } else { report::write_text };
    write(report, &mut io::stdout()).map_err(on_stdout)?;
    if let Some(path) = &arguments.json {
        let file = File::create(path).map_err(on_path("create", path))?;
        serde_json::to_writer_pretty(file, report)
            .map_err(|source| Error::Json { what: "the report", source })?;
    }
    Ok(())
}

fn on_stdout(source: io::Error) -> Error {
    on_path("write to", Path::new("stdout"))(source)
}

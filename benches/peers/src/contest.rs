//! A row, carried out: rounds in which every contestant runs once, each on a
//! target prepared alike, each run compared with the source before it counts.
//!
//! The contestants take turns within a round, and a round begins with another
//! one than the round before, so that a slow minute of the machine or the place
//! behind a certain peer hits none of them in particular.

use crate::contestant::{Contestant, Role};
use crate::error::{Error, on_path};
use crate::failback::Failback;
use crate::field::Field;
use crate::interrupt::Interrupt;
use crate::machine::is_on_path;
use crate::measure;
use crate::plan::Outcome;
use crate::row::RowName;
use std::fs;
use std::io::Write;
use std::time::Duration;

/// Size of the file whose copy spends the pairing token, in bytes.
const SCRATCH_BYTES: usize = 1 << 20;

/// How a row is run.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// How many times each contestant runs.
    pub(crate) rounds: u32,
    /// How long the disks rest before a run.
    pub(crate) rest: Duration,
    /// How long one run may take.
    pub(crate) timeout: Duration,
    /// Whether others go on when a contestant fails.
    pub(crate) keep_going: bool,
    /// Ctrl-C.
    pub(crate) interrupt: Interrupt,
}

/// What became of a contestant.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Who.
    pub(crate) contestant: Contestant,
    /// What it lacked, if it did not take part.
    pub(crate) skipped: Option<String>,
    /// How it failed, if it did; it then left the row.
    pub(crate) failure: Option<String>,
    /// Its verified runs, in the order of the rounds.
    pub(crate) runs: Vec<Outcome>,
}

impl Entry {
    fn takes_part(&self) -> bool {
        self.skipped.is_none() && self.failure.is_none()
    }
}

/// Runs all rounds of a row.
///
/// # Errors
/// The disks fail, the user interrupts, or (unless `keep_going`) a contestant
/// fails.
pub(crate) fn run(
    row: RowName,
    field: &mut Field,
    failback: &Failback,
    settings: &Settings,
    progress: &mut dyn Write,
) -> Result<Vec<Entry>, Error> {
    let contestants = row.contestants(field, failback)?;
    let mut entries: Vec<Entry> = contestants
        .into_iter()
        .map(|contestant| {
            let skipped = missing_of(&contestant, failback);
            Entry { contestant, skipped, failure: None, runs: Vec::new() }
        })
        .collect();
    for entry in &mut entries {
        if let Some(missing) = &entry.skipped {
            say(progress, &format!("{} {}: skipped: needs {missing}", row.name(), entry.contestant.name));
        } else if entry.contestant.role == Role::Failback && row.is_networked() {
            let paired = pair_once(field, failback, settings);
            settle_failure(entry, paired, settings, progress)?;
        }
    }
    let starts = (0..entries.len()).cycle().take(usize::try_from(settings.rounds).unwrap_or(usize::MAX));
    for (round, start) in starts.enumerate() {
        for turn in 0..entries.len() {
            let index = (start + turn) % entries.len();
            let entry = &mut entries[index];
            if !entry.takes_part() {
                continue;
            }
            settings.interrupt.check()?;
            let label = format!("{} {}/{} {}", row.name(), round + 1, settings.rounds, entry.contestant.name);
            let ran = run_once(row, field, &entry.contestant, settings);
            if let Ok(outcome) = &ran {
                entry.runs.push(*outcome);
                say(
                    progress,
                    &format!("{label}: {:.2} s, {:.2} CPU s", outcome.seconds, outcome.cpu_seconds),
                );
            }
            settle_failure(entry, ran.map(drop), settings, progress)?;
        }
    }
    Ok(entries)
}

/// Prepares, runs, compares.
fn run_once(
    row: RowName,
    field: &mut Field,
    contestant: &Contestant,
    settings: &Settings,
) -> Result<Outcome, Error> {
    field.prepare(row.preparation())?;
    std::thread::sleep(settings.rest);
    if contestant.writes_target {
        field.hand_over();
    }
    let outcome = measure::run(&contestant.plan, contestant.name, settings.timeout, &settings.interrupt)?;
    if contestant.writes_target {
        field.verify(row.preparation(), contestant.name)?;
    }
    Ok(outcome)
}

/// With `keep_going` a contestant's own failure ends only its part.
fn settle_failure(
    entry: &mut Entry,
    result: Result<(), Error>,
    settings: &Settings,
    progress: &mut dyn Write,
) -> Result<(), Error> {
    let Err(error) = result else { return Ok(()) };
    // After Ctrl-C everything may fail, and only the interrupt is the reason.
    settings.interrupt.check()?;
    let own = matches!(error, Error::Failed { .. } | Error::Different { .. } | Error::Timeout { .. });
    if !(own && settings.keep_going) {
        return Err(error);
    }
    say(progress, &format!("{}: {error}", entry.contestant.name));
    entry.failure = Some(error.to_string());
    Ok(())
}

fn missing_of(contestant: &Contestant, failback: &Failback) -> Option<String> {
    let mut missing: Vec<String> =
        contestant.needs.iter().filter(|program| !is_on_path(program)).map(ToString::to_string).collect();
    if contestant.role == Role::Failback && !failback.program.is_file() {
        missing.push(format!("{} (cargo build --release, or --failback PATH)", failback.program.display()));
    }
    if missing.is_empty() { None } else { Some(missing.join(", ")) }
}

/// Pairs the two sides of `failback` before their first run over the network:
/// a token from the serving side, spent by copying a small file.
fn pair_once(field: &Field, failback: &Failback, settings: &Settings) -> Result<(), Error> {
    let token = field.file("token");
    if token.exists() {
        return Ok(());
    }
    let (scratch, scratch_target) = (field.file("pairing.raw"), field.file("pairing-target.raw"));
    for path in [&scratch, &scratch_target] {
        fs::write(path, vec![0; SCRATCH_BYTES]).map_err(on_path("write", path))?;
    }
    let make = failback.make_token(token.clone(), field.logs());
    measure::run(&make, "failback pair", settings.timeout, &settings.interrupt)?;
    let [scratch, scratch_target] = [scratch, scratch_target].map(|path| path.display().to_string());
    let spend = failback.spend_token(&token, &scratch, &scratch_target, field.logs());
    measure::run(&spend, "failback sync --token-file", settings.timeout, &settings.interrupt).map(drop)
}

/// A line of progress; whoever closed the stream does not want to know.
fn say(progress: &mut dyn Write, line: &str) {
    let _ = writeln!(progress, "{line}");
}

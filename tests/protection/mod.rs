//! Protected disks: the commands around them, and the processes that protect
//! them, on real devices and journals.
//!
//! `rig` is a machine and its home with real processes; `oracle` judges what the
//! points hold; `volume` runs full and fails; the others are what happens.

mod agent;
mod agent_check;
mod all_disks;
mod clocks;
mod cluster;
mod doubted;
mod ends;
mod exact;
mod failing;
mod failures;
mod fenced;
mod finishing;
mod foreign;
mod given_up;
mod hanging;
mod held;
mod hooks;
mod inspect;
mod killed;
mod limits;
mod master_target;
mod memory;
mod oracle;
mod overrun;
mod points;
mod postgresql;
mod relocated;
mod rig;
mod skipped;
mod swap;
mod taken_back;
mod untracked;
mod vmdk;
mod volume;

use std::process::Command;

use serde_json::Value;

use crate::fixture::{LONG, Outcome, Running, binary};

fn failback(arguments: &[&str]) -> Outcome {
    Running::start(Command::new(binary()).args(arguments)).finish(LONG)
}

/// The only line of JSON that was printed.
fn event(outcome: &Outcome) -> Value {
    serde_json::from_str(outcome.stdout.trim()).unwrap_or_else(|error| panic!("{error}: {outcome}"))
}

/// How many of something a test makes: what the variable says, or `default`.
fn number_of(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text}")))
}

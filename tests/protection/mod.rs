//! Commands around protected disks: what they say of real devices and journals.

mod agent;
mod agent_check;
mod inspect;
mod master_target;
mod oracle;
mod points;

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::fixture::{Outcome, Running, binary};

fn failback(arguments: &[&str]) -> Outcome {
    Running::start(Command::new(binary()).args(arguments)).finish(Duration::from_secs(60))
}

/// The only line of JSON that was printed.
fn event(outcome: &Outcome) -> Value {
    serde_json::from_str(outcome.stdout.trim()).unwrap_or_else(|error| panic!("{error}: {outcome}"))
}

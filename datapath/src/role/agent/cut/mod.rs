//! A cut through the disks of the machine at one moment.
//!
//! In: the lanes, what freezes the machine, what kind of cut is wanted. Out: a
//! point of the machine, or why there is none. Invariants: a disk that is tracked
//! is in the cut or there is none; one that is not tracked holds up no other: it
//! is in the cut where it is ready in time, and is told to be left out where not;
//! nothing crosses the network while a machine is frozen that is to go on. Never:
//! decides what the table decides. Limits: `limits::CUT_SHRINKS_WITHIN`,
//! `limits::LEFT_OUT_AFTER`, `limits::POINT_WITHIN`, the budget of the freeze.
//!
//! ```text
//! table (MachineCut) <── events ── Driver ── orders ──> Members: lane, lane, …
//!        └── actions ──────────────> │ ── prepare, freeze, thaw ──> Freezer
//! ```

mod driver;
mod members;

use std::time::{Duration, Instant};

use serde::Serialize;

use self::driver::Driver;
use self::members::Members;
use super::order::{CutLabel, LaneHandle};
use crate::limits;
use crate::pipeline::Cancel;
use crate::quiesce::{Hooks, Occasion};
use crate::role::CutEvent;
use crate::unit::{Chain, Epoch};
use crate::wire::{self, CutKind};

/// Freezes the machine's filesystems.
pub trait Freezer {
    /// Makes ready to freeze everything that can be: what is unwritten is written
    /// out, which may take long. Nobody waits yet. Asked again before the freeze, it
    /// writes out what was written since.
    ///
    /// # Errors
    /// Why it cannot be frozen.
    fn prepare(&mut self) -> Result<(), String>;

    /// Freezes it; `hold`: until told otherwise, not within the budget of a cut.
    /// Gives the moment from which on writers may have waited.
    ///
    /// # Errors
    /// Why it is not frozen. Nothing is frozen then.
    fn freeze(&mut self, hold: bool) -> Result<Instant, String>;

    /// Whether it is frozen still.
    fn holds(&mut self) -> bool;

    /// Thaws; whether it was frozen until now.
    fn thaw(&mut self) -> bool;

    /// Powers the machine off, frozen as it is.
    ///
    /// # Errors
    /// Why it runs on. It is thawed then.
    fn power_off(&mut self) -> Result<(), String>;
}

/// What kind of cut is wanted.
#[derive(Clone, Copy)]
pub struct CutPlan<'a> {
    /// What its points are called; empty for cuts by policy.
    pub name: &'a str,
    /// Whether the machine stops for good.
    pub last: bool,
    /// Whether it is then powered off, frozen as it is.
    pub power_off: bool,
    /// What makes applications settle; `None` for a crash-consistent cut.
    pub hooks: Option<&'a Hooks>,
    /// How long writers may wait.
    pub budget: Duration,
    /// What all disks together may still have to read while they wait.
    pub remainder_bytes: u64,
    /// Made by whoever asked for it and has gone: nothing is frozen for it then.
    pub given_up: Option<&'a Cancel>,
}

impl Default for CutPlan<'_> {
    fn default() -> Self {
        Self {
            name: "",
            last: false,
            power_off: false,
            hooks: None,
            budget: limits::FREEZE_BUDGET,
            remainder_bytes: limits::REMAINDER_BYTES_MAX,
            given_up: None,
        }
    }
}

/// A disk without tracking that is in no point of the machine this time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The disk.
    pub disk: String,
    /// Why.
    pub reason: String,
}

/// What became of a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All disks have their point.
    Made {
        /// What it is.
        label: CutLabel,
        /// For each disk its epoch and the head of its chain.
        points: Vec<(String, Epoch, Chain)>,
        /// What was read while the machine was frozen.
        remainder_bytes: u64,
        /// Why it is not app-consistent, where that was asked for.
        downgraded: Option<String>,
        /// Whether the machine is stopped for good, and its targets are fenced.
        finished: bool,
        /// From the freeze until everything was done: the downtime so far, where
        /// the machine is stopped for good.
        took: Duration,
        /// The machine runs again, after its final point.
        void: bool,
        /// Disks without tracking that it had to do without.
        left_out: Vec<LeftOut>,
    },
    /// There is no point of the machine.
    Skipped {
        /// Why.
        reason: String,
        /// It was the final one, and the machine runs again.
        void: bool,
    },
}

/// Makes a cut through the disks of `lanes`.
pub fn cut_machine<'a>(
    lanes: &'a [&'a LaneHandle],
    freezer: &'a mut (dyn Freezer + 'a),
    plan: CutPlan<'a>,
) -> Outcome {
    let kind = match (plan.last, &plan.hooks) {
        (true, _) => CutKind::Final,
        (false, Some(_)) => CutKind::App,
        (false, None) => CutKind::Crash,
    };
    let mut number = [0; 8];
    // A number that is not random is still told apart by its time.
    let _ = aws_lc_rs::rand::fill(&mut number);
    let members = Members::new(lanes, plan.last);
    let label = CutLabel {
        kind,
        name: plan.name.to_owned(),
        machine_cut: wire::MachineCut { number: u64::from_le_bytes(number), disks: members.count() },
        cut_unix_ms: 0,
        freeze_ms: 0,
    };
    let occasion = Occasion {
        name: plan.name.to_owned(),
        kind: kind_name(kind).to_owned(),
        disks: lanes.iter().map(|lane| lane.disk.clone()).collect(),
    };
    let first = if plan.last { CutEvent::FinishOrdered } else { CutEvent::Due };
    Driver::new(members, freezer, plan, label, &occasion).run(first)
}

/// The name of a kind of cut, as hooks and people see it.
#[must_use]
pub const fn kind_name(kind: CutKind) -> &'static str {
    match kind {
        CutKind::Crash => "crash",
        CutKind::App => "app",
        CutKind::Final => "final",
    }
}

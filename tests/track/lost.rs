//! What some kernels show to no tracer, and how a test goes on that has met it.

use std::sync::OnceLock;
use std::time::Duration;

use failback_datapath::track::{ChangeSource, Doubt, Tracker, watch_switches};

/// How often a test is run whose completions the kernel may lose.
const RUNS_MAX: usize = 5;

/// How an agent tells of it.
const TOLD: &str = "than were tracked";

/// Completions that the kernel counted and showed to nobody, while it ran a task
/// that it hides: the disk is in doubt, and nothing more can be asked of its marks.
#[derive(Debug)]
pub struct Lost(String);

impl Lost {
    /// `doubt` as such a loss: true, and noticed as promised.
    ///
    /// # Panics
    /// Where it is any other doubt, which is false, or where the kernel shows every task.
    pub fn of(doubt: &Doubt, tracker: &Tracker) -> Self {
        let counts = tracker.statistics();
        let may_be = matches!(doubt, Doubt::SectorCount { .. }) && hides_tasks();
        assert!(may_be, "a false doubt: {doubt}; {counts:?}");
        Self(format!("{doubt}; {counts:?}"))
    }

    /// What an agent said, where it is such a loss.
    ///
    /// # Panics
    /// Where it is one and the kernel shows every task.
    pub fn told(reason: &str) -> Option<Self> {
        let is_loss = reason.contains(TOLD);
        assert!(!is_loss || hides_tasks(), "a false doubt: {reason}");
        is_loss.then(|| Self(reason.to_owned()))
    }
}

/// Runs `test`, and again on fresh disks where the kernel lost a completion in it:
/// what was lost leaves nothing to judge.
///
/// # Panics
/// Where no run was whole.
pub fn whole(test: impl Fn() -> Result<(), Lost>) {
    for run in 1..=RUNS_MAX {
        match test() {
            Ok(()) => return,
            Err(Lost(what)) => eprintln!("run {run} of {RUNS_MAX}: the kernel hid a task: {what}"),
        }
    }
    panic!("the kernel lost completions in each of {RUNS_MAX} runs: nothing was judged");
}

/// Whether this kernel hides tasks, as seen by the switches between tasks alone.
fn hides_tasks() -> bool {
    static HIDES: OnceLock<bool> = OnceLock::new();
    let is_hiding = || watch_switches(Duration::from_millis(500)).expect("tasks can be watched").hidden > 0;
    *HIDES.get_or_init(|| (0..20).any(|_| is_hiding()))
}

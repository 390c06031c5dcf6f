//! A cut through all disks of the machine: the table says what follows, this
//! does it, on an ordinary thread.

use std::time::{Duration, Instant, SystemTime};

use super::order::{CutLabel, LaneHandle, Order, Report};
use crate::limits;
use crate::quiesce::{Consistency, Hooks, Occasion, Running};
use crate::role::table::Table;
use crate::role::{CutAction, CutEvent, Disk, MachineCut};
use crate::unit::{Chain, Epoch};
use crate::wire::{self, CutKind};

/// Freezes the machine's filesystems.
pub trait Freezer {
    /// Makes ready to freeze everything that can be: what is unwritten is written
    /// out, which may take long. Nobody waits yet.
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
        }
    }
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
    let disks = u32::try_from(lanes.len()).unwrap_or(u32::MAX);
    let label = CutLabel {
        kind,
        name: plan.name.to_owned(),
        machine_cut: wire::MachineCut { number: u64::from_le_bytes(number), disks },
        cut_unix_ms: 0,
        freeze_ms: 0,
    };
    let occasion = Occasion {
        name: plan.name.to_owned(),
        kind: kind_name(kind).to_owned(),
        disks: lanes.iter().map(|lane| lane.disk.clone()).collect(),
    };
    let driver = Driver {
        lanes,
        freezer,
        plan,
        occasion: &occasion,
        settled: None,
        label,
        begun: false,
        frozen_at: None,
        points: vec![None; lanes.len()],
        remainder_bytes: 0,
        downgraded: None,
        void: false,
        reason: String::new(),
        deadline: Instant::now() + limits::CUT_SHRINKS_WITHIN,
    };
    driver.run(if plan.last { CutEvent::FinishOrdered } else { CutEvent::Due })
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

struct Driver<'a> {
    lanes: &'a [&'a LaneHandle],
    freezer: &'a mut (dyn Freezer + 'a),
    plan: CutPlan<'a>,
    occasion: &'a Occasion,
    /// The hook before the cut was run; dropping this runs the one after it.
    settled: Option<Running<'a>>,
    label: CutLabel,
    /// Whether the lanes hold their changes.
    begun: bool,
    frozen_at: Option<Instant>,
    points: Vec<Option<(Epoch, Chain)>>,
    remainder_bytes: u64,
    downgraded: Option<String>,
    void: bool,
    reason: String,
    deadline: Instant,
}

impl Driver<'_> {
    fn run(mut self, first: CutEvent) -> Outcome {
        let mut state = MachineCut::Idle;
        let mut event = first;
        loop {
            let step = state.on(event);
            state = step.next;
            let mut next = None;
            for action in step.actions {
                next = self.perform(*action, state).or(next);
            }
            match state {
                MachineCut::Idle if step.actions.contains(&CutAction::Announce) => return self.made(false),
                MachineCut::Idle => return Outcome::Skipped { reason: self.reason, void: self.void },
                MachineCut::Finished => return self.made(true),
                // The point exists and the machine stays frozen: an operator must see
                // why a target does not answer.
                MachineCut::Fencing if next.is_none() => return self.made(false),
                _ => event = next.unwrap_or(CutEvent::DiskLost),
            }
        }
    }

    fn made(mut self, finished: bool) -> Outcome {
        // A hook would wait for what is frozen.
        if let Some(settled) = self.settled.take_if(|_| self.plan.last) {
            settled.leave();
        }
        let disks = self.lanes.iter().zip(self.points);
        let points = disks
            .filter_map(|(lane, point)| point.map(|(epoch, chain)| (lane.disk.clone(), epoch, chain)))
            .collect();
        let took = self.frozen_at.map_or(Duration::ZERO, |begun| begun.elapsed());
        let Self { label, remainder_bytes, downgraded, void, .. } = self;
        Outcome::Made { label, points, remainder_bytes, downgraded, finished, took, void }
    }

    /// Does one thing; gives what came of it, where something was to come.
    fn perform(&mut self, action: CutAction, state: MachineCut) -> Option<CutEvent> {
        match action {
            CutAction::SendRounds => return Some(self.send_rounds()),
            CutAction::RunPreHooks => {
                self.settle();
                return Some(CutEvent::Settled);
            }
            CutAction::RunPostHooks => self.settled = None,
            CutAction::Freeze | CutAction::FreezeAndHold => return Some(self.freeze()),
            CutAction::ReadRemainder => return Some(self.read()),
            CutAction::DrainAgain => return Some(self.check()),
            CutAction::Thaw => {
                let held = self.freezer.thaw();
                self.note_freeze();
                if state == MachineCut::Thawing {
                    return Some(if held {
                        CutEvent::ThawedWell
                    } else {
                        self.failed("it was thawed too early", CutEvent::ThawedEarly)
                    });
                }
            }
            CutAction::CloseEpochs => return Some(self.close(state)),
            CutAction::VoidEpochs => self.void_all(),
            CutAction::FenceAll => return self.fence_all(),
            CutAction::PowerOff => self.power_off(),
            CutAction::AlarmVoid => self.void = true,
            CutAction::Announce | CutAction::ReportSkipped => {}
        }
        None
    }

    /// Runs the hook before the cut. One that fails leaves a point that is as
    /// after a power cut.
    fn settle(&mut self) {
        let Some(hooks) = self.plan.hooks else { return };
        let running = hooks.begin(self.occasion);
        if let Consistency::Crash { reason } = running.consistency() {
            self.downgraded = Some(reason.clone());
            if self.label.kind == CutKind::App {
                self.label.kind = CutKind::Crash;
            }
        }
        self.settled = Some(running);
    }

    fn power_off(&mut self) {
        if self.plan.power_off
            && let Err(reason) = self.freezer.power_off()
        {
            self.failed(&reason, CutEvent::ThawedEarly);
            self.void = true;
        }
    }

    fn failed(&mut self, reason: &str, event: CutEvent) -> CutEvent {
        if self.reason.is_empty() {
            reason.clone_into(&mut self.reason);
        }
        event
    }

    /// Gives an order to all lanes and waits for all reports; `None` where one is
    /// missing, or is not one of those that `expected` takes.
    fn ask(&mut self, order: &Order, within: Duration, expected: fn(&Report) -> bool) -> Option<Vec<Report>> {
        let until = Instant::now() + within;
        if let Some(lane) = self.lanes.iter().find(|lane| !lane.order(order.clone())) {
            let reason = format!("disk {} takes no orders", lane.disk);
            self.failed(&reason, CutEvent::DiskLost);
            return None;
        }
        let mut reports = Vec::with_capacity(self.lanes.len());
        for lane in self.lanes {
            let report = lane.report(until.saturating_duration_since(Instant::now()));
            match report {
                Some(report) if expected(&report) => reports.push(report),
                other => {
                    let said = other.map_or("nothing in time".to_owned(), |report| format!("{report:?}"));
                    let reason = format!("disk {} ({:?}) answered {said}", lane.disk, lane.state());
                    self.failed(&reason, CutEvent::DiskLost);
                    return None;
                }
            }
        }
        Some(reports)
    }

    /// Rounds until little is left on all disks.
    fn send_rounds(&mut self) -> CutEvent {
        if !self.begun {
            self.lanes.iter().for_each(|lane| lane.drain_reports());
            let order = Order::Begin { last: self.label.kind == CutKind::Final };
            self.begun = true;
            if self.ask(&order, limits::CUT_SHRINKS_WITHIN, |report| *report == Report::Ready).is_none() {
                return CutEvent::DiskLost;
            }
        }
        loop {
            let Some(left) = self.round() else { return CutEvent::DiskLost };
            if left <= self.few_bytes() {
                return CutEvent::Small;
            }
            if Instant::now() >= self.deadline {
                return self.failed("changes did not get few in time", CutEvent::StaysLarge);
            }
        }
    }

    /// What a freeze may begin with, so that what comes until it began fits too.
    fn few_bytes(&self) -> u64 {
        self.plan.remainder_bytes / 4
    }

    /// One round of all disks; how many bytes are then left.
    fn round(&mut self) -> Option<u64> {
        let passes = self.lanes.iter().any(|lane| lane.passes_whole());
        let within = if passes { limits::WHOLE_PASS_WITHIN } else { limits::CUT_SHRINKS_WITHIN };
        let reports = self.ask(&Order::Round, within, |report| matches!(report, Report::Left { .. }))?;
        let bytes = |report: &Report| if let Report::Left { bytes } = report { *bytes } else { 0 };
        Some(reports.iter().map(bytes).fold(0, u64::saturating_add))
    }

    /// Writes out what is unwritten, sends that too, and freezes what is left.
    fn freeze(&mut self) -> CutEvent {
        if let Err(reason) = self.freezer.prepare() {
            return self.failed(&reason, CutEvent::NotFrozen);
        }
        self.deadline = self.deadline.max(Instant::now() + limits::CUT_SHRINKS_WITHIN / 4);
        match self.send_rounds() {
            CutEvent::Small => {}
            // A final cut has time: what is left is sent while the machine is frozen.
            CutEvent::StaysLarge if self.plan.last => self.reason.clear(),
            _ => {
                self.freezer.thaw();
                return CutEvent::NotFrozen;
            }
        }
        match self.freezer.freeze(self.plan.last) {
            Ok(begun) => {
                self.frozen_at = Some(begun);
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                self.label.cut_unix_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
                CutEvent::Froze
            }
            Err(reason) => self.failed(&reason, CutEvent::NotFrozen),
        }
    }

    fn note_freeze(&mut self) {
        if let Some(begun) = self.frozen_at {
            self.label.freeze_ms = u32::try_from(begun.elapsed().as_millis()).unwrap_or(u32::MAX);
        }
    }

    fn budget_left(&self) -> Duration {
        let spent = self.frozen_at.map_or(Duration::ZERO, |begun| begun.elapsed());
        // The agent gives up before the watchdog does.
        let budget = if self.plan.last { limits::FREEZE_HOLD_MAX } else { self.plan.budget * 4 / 5 };
        budget.saturating_sub(spent)
    }

    fn read(&mut self) -> CutEvent {
        let within = self.budget_left();
        let expected = |report: &Report| matches!(report, Report::Read { .. } | Report::TooMuch { .. });
        let Some(reports) = self.ask(&Order::Read, within, expected) else { return CutEvent::DiskLost };
        let too_much = |(lane, report): (&&LaneHandle, &Report)| match report {
            Report::TooMuch { why } => Some(format!("disk {}: {why}", lane.disk)),
            _ => None,
        };
        let bytes = |report: &Report| if let Report::Read { bytes } = report { *bytes } else { 0 };
        self.remainder_bytes = reports.iter().map(bytes).fold(0, u64::saturating_add);
        match self.lanes.iter().zip(&reports).find_map(too_much) {
            Some(reason) => self.failed(&reason, CutEvent::TooMuch),
            None => CutEvent::Read,
        }
    }

    fn check(&mut self) -> CutEvent {
        let within = self.budget_left();
        let expected = |report: &Report| matches!(report, Report::Unchanged | Report::Changed);
        match self.ask(&Order::Check, within, expected) {
            Some(reports) if !reports.contains(&Report::Changed) => CutEvent::Unchanged,
            Some(_) if self.budget_left().is_zero() => {
                self.failed("a writer that no freeze stops did not pause", CutEvent::TooMuch)
            }
            Some(_) => CutEvent::ChangedAgain,
            None => CutEvent::DiskLost,
        }
    }

    fn void_all(&mut self) {
        for lane in self.lanes {
            // A lane that is gone has nothing to void.
            let _ = lane.order(Order::Void);
        }
    }

    fn close(&mut self, state: MachineCut) -> CutEvent {
        if self.plan.last {
            self.note_freeze();
        } else {
            // Applications need not wait for the points.
            self.settled = None;
        }
        let label = self.label.clone();
        // Each of them, also behind one that is gone: none is left holding its changes.
        let taken = self.lanes.iter().filter(|lane| lane.order(Order::Close(label.clone()))).count();
        if taken == self.lanes.len() { self.await_points(state) } else { CutEvent::DiskLost }
    }

    /// Waits for the points of all disks; while the machine is frozen for good
    /// also for a thaw that nobody ordered.
    fn await_points(&mut self, state: MachineCut) -> CutEvent {
        let until = Instant::now() + limits::POINT_WITHIN;
        while self.points.iter().any(Option::is_none) {
            for (lane, point) in self.lanes.iter().zip(&mut self.points) {
                if point.is_some() {
                    continue;
                }
                match lane.report(POLL) {
                    Some(Report::Point { epoch, chain }) => *point = Some((epoch, chain)),
                    Some(_) => {
                        self.reason = format!("disk {} lost its cut ({:?})", lane.disk, lane.state());
                        return CutEvent::DiskLost;
                    }
                    None => {}
                }
            }
            if state.is_frozen() && !self.freezer.holds() {
                return self.failed("the machine was thawed before its final point", CutEvent::ThawedEarly);
            }
            if Instant::now() >= until {
                return self.failed("a target did not make its point in time", CutEvent::DiskLost);
            }
        }
        CutEvent::PointOnAll
    }

    /// A lane that loses its connection now connects again by itself; `None` where
    /// a target has not answered in time.
    fn fence_all(&mut self) -> Option<CutEvent> {
        let until = Instant::now() + limits::POINT_WITHIN;
        // One that takes no order has no fence, unless it has ended by it.
        let is_open = |lane: &&&LaneHandle| lane.order(Order::Fence) || lane.state() != Disk::Fenced;
        let mut missing: Vec<_> = self.lanes.iter().filter(is_open).collect();
        while !missing.is_empty() && Instant::now() < until {
            missing.retain(|lane| match lane.report(POLL) {
                Some(Report::Fenced) => false,
                // One that has ended says so at once.
                Some(_) => {
                    std::thread::sleep(POLL);
                    true
                }
                None => true,
            });
        }
        self.void |= !self.freezer.holds();
        missing.is_empty().then_some(CutEvent::FencedOnAll)
    }
}

/// How long to wait for one disk before looking at the others.
const POLL: Duration = Duration::from_millis(20);

//! A cut through all disks of the machine: the table says what follows, this
//! does it, on an ordinary thread.

use std::time::{Duration, Instant, SystemTime};

use super::order::{CutLabel, LaneHandle, Order, Report};
use crate::limits;
use crate::role::table::Table;
use crate::role::{CutAction, CutEvent, MachineCut};
use crate::unit::{Chain, Epoch};
use crate::wire::{self, CutKind};

/// Freezes the machine's filesystems.
pub trait Freezer {
    /// Freezes everything that can be; `hold`: until told otherwise, not within
    /// the budget of a cut.
    ///
    /// # Errors
    /// Why it is not frozen. Nothing is frozen then.
    fn freeze(&mut self, hold: bool) -> Result<(), String>;

    /// Whether it is frozen still.
    fn holds(&mut self) -> bool;

    /// Thaws; whether it was frozen until now.
    fn thaw(&mut self) -> bool;

    /// Powers the machine off, frozen as it is, where that is wanted.
    fn power_off(&mut self);
}

/// Asks applications to settle.
pub trait Hooks {
    /// Before a cut; whether all went well.
    fn before(&mut self) -> bool;

    /// After it, however it went.
    fn after(&mut self);
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
        /// Whether a hook failed, so that it is not what was asked for.
        downgraded: bool,
        /// Whether the machine is stopped for good, and its targets are fenced.
        finished: bool,
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

/// Makes a cut through the disks of `lanes`; `None` for hooks: crash-consistent.
pub fn cut_machine<'a>(
    lanes: &'a [LaneHandle],
    freezer: &'a mut (dyn Freezer + 'a),
    hooks: Option<&'a mut (dyn Hooks + 'a)>,
    name: &str,
    last: bool,
) -> Outcome {
    let kind = match (last, &hooks) {
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
        name: name.to_owned(),
        machine_cut: wire::MachineCut { number: u64::from_le_bytes(number), disks },
        cut_unix_ms: 0,
        freeze_ms: 0,
    };
    let driver = Driver {
        lanes,
        freezer,
        hooks,
        label,
        begun: false,
        frozen_at: None,
        points: vec![None; lanes.len()],
        downgraded: false,
        void: false,
        reason: String::new(),
        deadline: Instant::now() + limits::CUT_SHRINKS_WITHIN,
    };
    driver.run(if last { CutEvent::FinishOrdered } else { CutEvent::Due })
}

struct Driver<'a> {
    lanes: &'a [LaneHandle],
    freezer: &'a mut (dyn Freezer + 'a),
    hooks: Option<&'a mut (dyn Hooks + 'a)>,
    label: CutLabel,
    /// Whether the lanes hold their changes.
    begun: bool,
    frozen_at: Option<Instant>,
    points: Vec<Option<(Epoch, Chain)>>,
    downgraded: bool,
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

    fn made(self, finished: bool) -> Outcome {
        let disks = self.lanes.iter().zip(self.points);
        let points = disks
            .filter_map(|(lane, point)| point.map(|(epoch, chain)| (lane.disk.clone(), epoch, chain)))
            .collect();
        Outcome::Made { label: self.label, points, downgraded: self.downgraded, finished, void: self.void }
    }

    /// Does one thing; gives what came of it, where something was to come.
    fn perform(&mut self, action: CutAction, state: MachineCut) -> Option<CutEvent> {
        match action {
            CutAction::SendRounds => return Some(self.send_rounds()),
            CutAction::RunPreHooks => {
                if !self.hooks.as_mut().is_none_or(|hooks| hooks.before()) {
                    self.downgraded = true;
                    if self.label.kind == CutKind::App {
                        self.label.kind = CutKind::Crash;
                    }
                }
                return Some(CutEvent::Settled);
            }
            CutAction::RunPostHooks => {
                if let Some(hooks) = self.hooks.as_mut() {
                    hooks.after();
                }
            }
            CutAction::Freeze => return Some(self.freeze(false)),
            CutAction::FreezeAndHold => return Some(self.freeze(true)),
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
            CutAction::CloseEpochs => {
                self.note_freeze();
                let label = self.label.clone();
                let all = self.lanes.iter().all(|lane| lane.order(Order::Close(label.clone())));
                return Some(if all { self.await_points(state) } else { CutEvent::DiskLost });
            }
            CutAction::VoidEpochs => self.void_all(),
            CutAction::FenceAll => return self.fence_all(),
            CutAction::PowerOff => self.freezer.power_off(),
            CutAction::AlarmVoid => self.void = true,
            CutAction::Announce | CutAction::ReportSkipped => {}
        }
        None
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
            self.lanes.iter().for_each(LaneHandle::drain_reports);
            let order = Order::Begin { last: self.label.kind == CutKind::Final };
            self.begun = true;
            if self.ask(&order, limits::CUT_SHRINKS_WITHIN, |report| *report == Report::Ready).is_none() {
                return CutEvent::DiskLost;
            }
        }
        loop {
            let left = |report: &Report| matches!(report, Report::Left { .. });
            let Some(reports) = self.ask(&Order::Round, limits::CUT_SHRINKS_WITHIN, left) else {
                return CutEvent::DiskLost;
            };
            let bytes = |report: &Report| if let Report::Left { bytes } = report { *bytes } else { 0 };
            if reports.iter().map(bytes).fold(0, u64::saturating_add) <= limits::REMAINDER_BYTES_MAX / 4 {
                return CutEvent::Small;
            }
            if Instant::now() >= self.deadline {
                return self.failed("changes did not get few in time", CutEvent::StaysLarge);
            }
        }
    }

    fn freeze(&mut self, hold: bool) -> CutEvent {
        let begun = Instant::now();
        match self.freezer.freeze(hold) {
            Ok(()) => {
                self.frozen_at = Some(begun);
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                self.label.cut_unix_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
                CutEvent::Froze
            }
            Err(reason) => self.failed(&reason, CutEvent::NotFrozen),
        }
    }

    fn note_freeze(&mut self) {
        if let Some(begun) = self.frozen_at.take() {
            self.label.freeze_ms = u32::try_from(begun.elapsed().as_millis()).unwrap_or(u32::MAX);
        }
    }

    fn budget_left(&self) -> Duration {
        let spent = self.frozen_at.map_or(Duration::ZERO, |begun| begun.elapsed());
        let budget = if self.label.kind == CutKind::Final {
            limits::CUT_SHRINKS_WITHIN
        } else {
            limits::CUT_READS_WITHIN
        };
        budget.saturating_sub(spent)
    }

    fn read(&mut self) -> CutEvent {
        let within = self.budget_left();
        let expected = |report: &Report| matches!(report, Report::Read | Report::TooMuch);
        match self.ask(&Order::Read, within, expected) {
            Some(reports) if reports.contains(&Report::TooMuch) => {
                self.failed("more changed than could be read in the freeze", CutEvent::TooMuch)
            }
            Some(_) => CutEvent::Read,
            None => CutEvent::DiskLost,
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
        let mut missing: Vec<_> = self.lanes.iter().filter(|lane| lane.order(Order::Fence)).collect();
        while !missing.is_empty() && Instant::now() < until {
            missing.retain(|lane| lane.report(POLL) != Some(Report::Fenced));
        }
        self.void |= !self.freezer.holds();
        missing.is_empty().then_some(CutEvent::FencedOnAll)
    }
}

/// How long to wait for one disk before looking at the others.
const POLL: Duration = Duration::from_millis(20);

//! One cut: the table says what follows, this does it, on an ordinary thread.

use std::time::{Duration, Instant, SystemTime};

use super::members::Members;
use super::{CutPlan, Freezer, Outcome};
use crate::limits;
use crate::pipeline::Cancel;
use crate::quiesce::{Consistency, Occasion, Running};
use crate::role::agent::order::{CutLabel, Order, Report};
use crate::role::table::Table;
use crate::role::{CutAction, CutEvent, MachineCut};
use crate::wire::CutKind;

/// One cut under way.
pub(super) struct Driver<'a> {
    members: Members<'a>,
    freezer: &'a mut (dyn Freezer + 'a),
    plan: CutPlan<'a>,
    occasion: &'a Occasion,
    /// The hook before the cut was run; dropping this runs the one after it.
    settled: Option<Running<'a>>,
    label: CutLabel,
    /// Whether the lanes hold their changes.
    begun: bool,
    frozen_at: Option<Instant>,
    remainder_bytes: u64,
    downgraded: Option<String>,
    void: bool,
    reason: String,
    deadline: Instant,
}

impl<'a> Driver<'a> {
    pub(super) fn new(
        members: Members<'a>,
        freezer: &'a mut (dyn Freezer + 'a),
        plan: CutPlan<'a>,
        label: CutLabel,
        occasion: &'a Occasion,
    ) -> Self {
        Self {
            members,
            freezer,
            plan,
            occasion,
            settled: None,
            label,
            begun: false,
            frozen_at: None,
            remainder_bytes: 0,
            downgraded: None,
            void: false,
            reason: String::new(),
            deadline: Instant::now() + limits::CUT_SHRINKS_WITHIN,
        }
    }

    pub(super) fn run(mut self, first: CutEvent) -> Outcome {
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
        let (points, left_out) = self.members.end();
        let took = self.frozen_at.map_or(Duration::ZERO, |begun| begun.elapsed());
        let Self { label, remainder_bytes, downgraded, void, .. } = self;
        Outcome::Made { label, points, remainder_bytes, downgraded, finished, took, void, left_out }
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
            CutAction::VoidEpochs => drop(self.members.order_all(&Order::Void)),
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

    /// Gives an order to all disks and waits for all reports; `None` where one is
    /// missing, or is not one of those that `expected` takes, or none is left.
    fn ask(&mut self, order: &Order, within: Duration, expected: fn(&Report) -> bool) -> Option<Vec<Report>> {
        match self.members.ask(order, within, expected) {
            Ok(reports) => Some(reports),
            Err(reason) => {
                self.failed(&reason, CutEvent::DiskLost);
                None
            }
        }
    }

    /// Rounds until little is left on all disks.
    fn send_rounds(&mut self) -> CutEvent {
        if !self.begun {
            self.members.forget_reports();
            let order = Order::Begin { last: self.plan.last, budget: self.plan.budget };
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
            if self.plan.given_up.is_some_and(Cancel::is_cancelled) {
                return self.failed(GIVEN_UP, CutEvent::StaysLarge);
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
        let is_left = |report: &Report| matches!(report, Report::Left { .. });
        let reports = self.ask(&Order::Round, limits::CUT_SHRINKS_WITHIN, is_left)?;
        let bytes = |report: &Report| if let Report::Left { bytes } = report { *bytes } else { 0 };
        Some(reports.iter().map(bytes).fold(0, u64::saturating_add))
    }

    /// Writes out what is unwritten, sends that too, writes out what came meanwhile,
    /// and freezes what is left.
    fn freeze(&mut self) -> CutEvent {
        // The second time little has come since: in the freeze everybody would wait for it.
        for _ in 0..2 {
            if let Err(reason) = self.freezer.prepare() {
                return self.failed(&reason, CutEvent::NotFrozen);
            }
            self.deadline = self.deadline.max(Instant::now() + limits::CUT_SHRINKS_WITHIN / 4);
            if !self.is_small_enough() {
                self.freezer.thaw();
                return CutEvent::NotFrozen;
            }
        }
        if self.plan.given_up.is_some_and(Cancel::is_cancelled) {
            self.freezer.thaw();
            return self.failed(GIVEN_UP, CutEvent::NotFrozen);
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

    /// Sends until little is left; whether that is so.
    fn is_small_enough(&mut self) -> bool {
        match self.send_rounds() {
            CutEvent::Small => true,
            // A final cut has time: what is left is sent while the machine is frozen.
            CutEvent::StaysLarge if self.plan.last => {
                self.reason.clear();
                true
            }
            _ => false,
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
        let order = Order::Read { until: Instant::now() + within };
        let Some(reports) = self.ask(&order, within, expected) else { return CutEvent::DiskLost };
        let bytes = |report: &Report| if let Report::Read { bytes } = report { *bytes } else { 0 };
        self.remainder_bytes = reports.iter().map(bytes).fold(0, u64::saturating_add);
        match self.members.too_much(&reports) {
            Some(reason) => self.failed(&reason, CutEvent::TooMuch),
            None => CutEvent::Read,
        }
    }

    fn check(&mut self) -> CutEvent {
        let within = self.budget_left();
        let expected = |report: &Report| matches!(report, Report::Unchanged | Report::Changed);
        let Some(reports) = self.ask(&Order::Check, within, expected) else { return CutEvent::DiskLost };
        if !reports.contains(&Report::Changed) {
            return CutEvent::Unchanged;
        }
        let left = self.budget_left();
        // Others do not wait longer for disks that the cut can do without.
        if left < self.plan.budget * 2 / 5 && !self.members.give_up_changed(&reports) {
            return CutEvent::Unchanged;
        }
        if left.is_zero() {
            return self.failed("a writer that no freeze stops did not pause", CutEvent::TooMuch);
        }
        CutEvent::ChangedAgain
    }

    fn close(&mut self, state: MachineCut) -> CutEvent {
        if self.plan.last {
            self.note_freeze();
        } else {
            // Applications need not wait for the points.
            self.settled = None;
        }
        self.label.machine_cut.disks = self.members.count();
        let is_taken = self.members.order_all(&Order::Close(self.label.clone()));
        if is_taken { self.await_points(state) } else { CutEvent::DiskLost }
    }

    /// Waits for the points of all disks, not much longer for those that may be
    /// left out; while the machine is frozen for good also for a thaw that nobody
    /// ordered.
    fn await_points(&mut self, state: MachineCut) -> CutEvent {
        let until = Instant::now() + limits::POINT_WITHIN;
        let mut patience = None;
        loop {
            let (has_points, has_all) = match self.members.look_for_points() {
                Ok(found) => found,
                Err(reason) => return self.failed(&reason, CutEvent::DiskLost),
            };
            if has_points && has_all {
                return CutEvent::PointOnAll;
            }
            let now = Instant::now();
            if has_points && now >= *patience.get_or_insert(now + limits::LEFT_OUT_AFTER) {
                self.members.leave_out_late();
                continue;
            }
            if state.is_frozen() && !self.freezer.holds() {
                return self.failed("the machine was thawed before its final point", CutEvent::ThawedEarly);
            }
            if now >= until {
                return self.failed("a target did not make its point in time", CutEvent::DiskLost);
            }
        }
    }

    /// `None` where a target has not answered in time.
    fn fence_all(&mut self) -> Option<CutEvent> {
        let is_fenced = self.members.fence();
        self.void |= !self.freezer.holds();
        is_fenced.then_some(CutEvent::FencedOnAll)
    }
}

const GIVEN_UP: &str = "whoever asked for it has gone";

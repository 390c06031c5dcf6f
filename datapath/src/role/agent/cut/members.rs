//! The disks of one cut: those without which there is none, and those that it can
//! do without.
//!
//! A disk whose changes nobody knows may take long to be ready for a cut, or never
//! be. Beside disks that are tracked it is left out then, and the cut says so.

use std::time::{Duration, Instant};

use super::LeftOut;
use crate::limits;
use crate::role::Disk;
use crate::role::agent::order::{LaneHandle, Order, Report};
use crate::unit::{Chain, Epoch};

/// What a member has at the end: its epoch and the head of its chain.
pub(super) type Made = (String, Epoch, Chain);

/// The disks that are still in a cut.
pub(super) struct Members<'a> {
    members: Vec<Member<'a>>,
    left_out: Vec<LeftOut>,
}

struct Member<'a> {
    lane: &'a LaneHandle,
    /// The cut can do without it.
    is_optional: bool,
    point: Option<(Epoch, Chain)>,
}

/// How long to wait for one disk before looking at the others.
const POLL: Duration = Duration::from_millis(20);

impl Member<'_> {
    /// The next report; `None` where there is none in time.
    ///
    /// # Errors
    /// What its target waits for: nothing is gained by waiting with it.
    fn report(&self, until: Instant) -> Result<Option<Report>, String> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if let Some(report) = self.lane.report(left.min(LOOKS_EVERY)) {
                return Ok(Some(report));
            }
            if let Some(waiting) = self.lane.waits_for() {
                return Err(format!("waits for its target: {waiting}"));
            }
            if left <= LOOKS_EVERY {
                return Ok(None);
            }
        }
    }
}

/// How often it is looked whether a target waits.
const LOOKS_EVERY: Duration = Duration::from_millis(250);

impl<'a> Members<'a> {
    /// All of `lanes`. A final cut does without none of them.
    pub(super) fn new(lanes: &[&'a LaneHandle], is_final: bool) -> Self {
        let has_tracked = lanes.iter().any(|lane| !lane.passes_whole());
        let is_optional = |lane: &LaneHandle| has_tracked && !is_final && lane.passes_whole();
        let member = |lane: &&'a LaneHandle| Member { lane, is_optional: is_optional(lane), point: None };
        let mut members: Vec<_> = lanes.iter().map(member).collect();
        // Those that are waited for longest come first.
        members.sort_by_key(|member| member.is_optional);
        Self { members, left_out: Vec::new() }
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.members.len()).unwrap_or(u32::MAX)
    }

    /// Throws away what earlier cuts left.
    pub(super) fn forget_reports(&self) {
        self.members.iter().for_each(|member| member.lane.drain_reports());
    }

    /// Goes on without one of them.
    fn leave_out(&mut self, index: usize, reason: String) {
        let member = self.members.remove(index);
        // A lane that is gone has nothing to void.
        let _ = member.lane.order(Order::Void);
        self.left_out.push(LeftOut { disk: member.lane.disk.clone(), reason });
    }

    /// Gives an order to all and waits for all reports. Those that may be left out
    /// have half the time at most, and are left out where no report comes that is
    /// `expected`.
    ///
    /// # Errors
    /// Why a disk that cannot be left out has none.
    pub(super) fn ask(
        &mut self,
        order: &Order,
        within: Duration,
        expected: fn(&Report) -> bool,
    ) -> Result<Vec<Report>, String> {
        let begun = Instant::now();
        let takes: Vec<bool> = self.members.iter().map(|member| member.lane.order(order.clone())).collect();
        let mut reports = Vec::with_capacity(self.members.len());
        let mut index = 0;
        for takes in takes {
            let member = &self.members[index];
            let patience = (within / 2).min(limits::LEFT_OUT_AFTER);
            let within = if member.is_optional { patience } else { within };
            let report = if takes { member.report(begun + within) } else { Err(NO_ORDERS.to_owned()) };
            let why = match report {
                Ok(Some(Report::TooMuch { why })) if member.is_optional => why.to_owned(),
                Ok(Some(report)) if expected(&report) => {
                    reports.push(report);
                    index += 1;
                    continue;
                }
                Ok(report) => why_not(member.lane, report),
                Err(why) => why,
            };
            if !member.is_optional {
                return Err(format!("disk {} {why}", member.lane.disk));
            }
            self.leave_out(index, why);
        }
        Ok(reports)
    }

    /// Why one of those that cannot be left out says that there is too much.
    pub(super) fn too_much(&self, reports: &[Report]) -> Option<String> {
        self.members.iter().zip(reports).find_map(|(member, report)| match report {
            Report::TooMuch { why } => Some(format!("disk {}: {why}", member.lane.disk)),
            _ => None,
        })
    }

    /// Leaves out those that changed again, where the others did not; whether
    /// there are others that did.
    pub(super) fn give_up_changed(&mut self, reports: &[Report]) -> bool {
        let is_changed = |report: &Report| *report == Report::Changed;
        let by_others = self
            .members
            .iter()
            .zip(reports)
            .any(|(member, report)| !member.is_optional && is_changed(report));
        if !by_others {
            for index in (0..reports.len()).rev().filter(|index| is_changed(&reports[*index])) {
                self.leave_out(index, NEVER_STILL.to_owned());
            }
        }
        by_others
    }

    /// Gives each of them an order that is answered later, or not at all, also
    /// behind one that is gone: none is left holding its changes. Whether all took
    /// it.
    pub(super) fn order_all(&self, order: &Order) -> bool {
        let taken = self.members.iter().filter(|member| member.lane.order(order.clone())).count();
        taken == self.members.len()
    }

    /// Looks for points once; whether there is one of each disk that cannot be
    /// left out, and of each that can.
    ///
    /// # Errors
    /// Which disk has lost its cut.
    pub(super) fn look_for_points(&mut self) -> Result<(bool, bool), String> {
        let mut lost = Vec::new();
        for (index, member) in self.members.iter_mut().enumerate() {
            if member.point.is_some() {
                continue;
            }
            match member.lane.report(POLL) {
                Some(Report::Point { epoch, chain }) => member.point = Some((epoch, chain)),
                Some(_) => lost.push(index),
                None if member.lane.waits_for().is_some() => lost.push(index),
                None => {}
            }
        }
        for index in lost.into_iter().rev() {
            let lane = self.members[index].lane;
            let reason = match lane.waits_for() {
                Some(waiting) => format!("waits for its target: {waiting}"),
                None => format!("lost its cut ({})", lane.state().name()),
            };
            if !self.members[index].is_optional {
                return Err(format!("disk {} {reason}", lane.disk));
            }
            self.leave_out(index, reason);
        }
        let has_points =
            |optional| self.members.iter().all(|one| one.is_optional != optional || one.point.is_some());
        Ok((has_points(false), has_points(true)))
    }

    /// Goes on without those that have no point.
    pub(super) fn leave_out_late(&mut self) {
        for index in (0..self.members.len()).rev() {
            if self.members[index].point.is_none() {
                self.leave_out(index, "its target did not make its point in time".to_owned());
            }
        }
    }

    /// Has all targets fenced; whether all have said so in time. A lane that loses
    /// its connection now connects again by itself.
    pub(super) fn fence(&self) -> bool {
        let until = Instant::now() + limits::POINT_WITHIN;
        // One that takes no order has no fence, unless it has ended by it.
        let is_open = |lane: &&LaneHandle| lane.order(Order::Fence) || lane.state() != Disk::Fenced;
        let mut missing: Vec<_> = self.members.iter().map(|member| member.lane).filter(is_open).collect();
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
        missing.is_empty()
    }

    /// What came of it.
    pub(super) fn end(self) -> (Vec<Made>, Vec<LeftOut>) {
        let made =
            |member: &Member<'_>| member.point.map(|(epoch, chain)| (member.lane.disk.clone(), epoch, chain));
        (self.members.iter().filter_map(made).collect(), self.left_out)
    }
}

const NEVER_STILL: &str = "it was written again and again while it was compared in the freeze";

const NO_ORDERS: &str = "takes no orders now";

/// Why a disk is in no cut, after what it answered; nothing in time, perhaps.
fn why_not(lane: &LaneHandle, report: Option<Report>) -> String {
    let state = lane.state().name();
    match report {
        Some(Report::Unfit { why }) => why,
        Some(Report::Declined | Report::Lost) => format!("is {state}"),
        Some(report) => format!("is {state} and answered {report:?}"),
        None => format!("is {state} and did not answer in time"),
    }
}

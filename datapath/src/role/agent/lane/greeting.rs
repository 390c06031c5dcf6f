//! What agent and target tell each other of the past, and whether they mean the
//! same one.

use super::{Lane, News};
use crate::role::Disk;
use crate::role::agent::status::NewestPoint;
use crate::wire::{Intent, Position, Protect, Protecting};

const TARGET_WENT_BACK: &str = "its target has lost points that it had confirmed: it and its journal were taken back to \
    an earlier state; the disk is compared as a whole";
const MACHINE_WENT_BACK: &str = "its target holds what this agent has not sent: the machine was taken back to an earlier \
    state with its memory, as by a snapshot, or another one with its identity has sent it; the disk is compared as a \
    whole";

impl Lane {
    /// What the target is told of the disk.
    pub(super) fn greeting(&self) -> Protect {
        let intent = match self.state.reason() {
            Some(reason) => Intent::Synchronize { reason: reason.name().to_owned() },
            None => Intent::Continue,
        };
        let is_fenced = self.state == Disk::Fenced;
        Protect { intent, position: self.position(), is_fenced, ..self.settings.protect.clone() }
    }

    /// Where the target stood when it was last heard of.
    fn position(&self) -> Option<Position> {
        self.end.note(|status| status.position)
    }

    /// Whether what one end did is unknown to the other, so that marks do not tell
    /// in what they differ.
    pub(super) fn is_out_of_step(&self, protecting: &Protecting) -> bool {
        let why = if self.has_lost_points(protecting) {
            TARGET_WENT_BACK
        } else if self.is_behind(protecting.position) {
            MACHINE_WENT_BACK
        } else {
            return false;
        };
        (self.observe)(News::Alarm(why));
        true
    }

    /// Whether the target has not the points any more for which changes were
    /// forgotten.
    fn has_lost_points(&self, protecting: &Protecting) -> bool {
        let (position, newest) = self.end.note(|status| (status.position, status.newest));
        let is_same = position.is_some_and(|known| known.generation == protecting.position.generation);
        is_same && newest.map(|point| point.epoch) > protecting.newest
    }

    /// Whether the target stands further than this lane has ever sent anything.
    fn is_behind(&self, position: Position) -> bool {
        let place = |position: Position| (position.epoch, position.landed);
        self.told.is_some_and(|told| told.generation == position.generation && place(told) < place(position))
    }

    pub(super) fn welcomed(&mut self, protecting: &Protecting) {
        self.told = Some(protecting.position);
        self.end.counters().begin_pass();
        self.end.note(|status| {
            status.trouble = None;
            status.position = Some(protecting.position);
            let known = status.newest.filter(|newest| Some(newest.epoch) == protecting.newest);
            let told = protecting.newest.map(|epoch| NewestPoint { epoch, cut_unix_ms: None });
            status.newest = known.or(told);
        });
    }
}

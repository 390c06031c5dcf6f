//! Which disks of the machine a cut needs, which it can do without, and whether
//! they are ready for one.

use std::sync::Arc;
use std::time::Duration;

use super::Machine;
use super::error::MachineError;
use super::event::Event;
use super::handle::not_now;
use super::protected::Protected;
use super::source::How;
use crate::limits;
use crate::role::Disk;
use crate::role::agent::{LaneHandle, LeftOut, Passes};
use crate::telemetry::Notice;

impl Machine {
    pub(super) fn has_tracked(&self) -> bool {
        self.disks.iter().any(|disk| disk.nature.tracking == How::Ebpf)
    }

    /// Whether there is no cut without this disk. Disks without tracking hold up
    /// none of those that are tracked, until the machine is stopped for good.
    pub(super) fn is_needed(&self, disk: &Protected, is_final: bool) -> bool {
        is_final || disk.nature.tracking == How::Ebpf || !self.has_tracked()
    }

    /// Why no cut can be made now.
    pub(super) fn unready(&self, is_final: bool) -> Option<String> {
        if self.disks.is_empty() {
            return Some("no disk is protected".to_owned());
        }
        if let Some(missing) = self.missing_for_cut(is_final) {
            return Some(missing);
        }
        let needed = self.disks.iter().filter(|disk| self.is_needed(disk, is_final));
        needed.filter_map(|disk| Some(format!("disk {} {}", disk.settings.name, why_unready(disk)?))).next()
    }

    /// Whether the machine has made its final point.
    pub(super) fn is_fenced(&self) -> bool {
        self.disks.iter().all(|disk| disk.state() == Disk::Fenced)
    }

    /// Whether all disks are ready that a cut needs.
    pub(super) fn check_ready(&self, is_final: bool) -> Result<(), MachineError> {
        if let Some(text) = self.bound.relocated() {
            return Err(not_now(text));
        }
        if self.held.is_some() {
            return Err(not_now("the machine has made its final point; `thaw` it, then `resync` its disks"));
        }
        if self.is_fenced() && !self.disks.is_empty() {
            return Err(not_now(
                "the targets are fenced, by a final point of this machine or by an operator at home; `failback \
                 master-target unfence` there lets it go on",
            ));
        }
        self.unready(is_final).map_or(Ok(()), |reason| Err(not_now(reason)))
    }

    /// The lanes that a cut may be made of, and the disks that it does without
    /// from the beginning. Only what rests on the former is frozen.
    pub(super) fn fit_for_cut(&self, is_final: bool) -> (Vec<Arc<LaneHandle>>, Vec<LeftOut>) {
        let (mut lanes, mut numbers) = (Vec::new(), Vec::new());
        let left_out = |name: &str, reason: String| LeftOut { disk: name.to_owned(), reason };
        let mut others: Vec<_> = self
            .missing()
            .map(|missing| left_out(&missing.name, "could not be taken up".to_owned()))
            .collect();
        for disk in &self.disks {
            let reason = why_unready(disk).filter(|_| !self.is_needed(disk, is_final));
            match (disk.handle(), reason) {
                (Some(lane), None) => {
                    lanes.push(Arc::clone(lane));
                    numbers.push(disk.number);
                }
                (_, reason) => others.push(left_out(&disk.settings.name, reason.unwrap_or_default())),
            }
        }
        self.freezer.watch_over(numbers);
        (lanes, others)
    }

    /// Says beforehand how long the machine may be frozen because of disks whose
    /// changes are not known.
    pub(super) fn tell_passes(&self) -> Result<(), MachineError> {
        for disk in &self.disks {
            let Some(Passes { took_ms: Some(took_ms), is_current }) = disk.lane_status().passes else {
                continue;
            };
            let (name, took) = (&disk.settings.name, Duration::from_millis(took_ms));
            if took >= limits::FREEZE_HOLD_MAX && !is_current {
                return Err(not_now(format!(
                    "disk {name} is not tracked, and comparing it took {took:.0?}: longer than a machine is held \
                     frozen; unmount what lies on it, and finish when `agent status` shows it unwritten"
                )));
            }
            let text = format!(
                "disk {name} is not tracked: if it is written until then, it is compared as a whole while the machine \
                 is frozen, which took {took:.1?} the last time"
            );
            self.tell(Event::Notice(Notice::new("whole-pass", text)));
        }
        Ok(())
    }
}

/// Why a disk can be in no cut now.
fn why_unready(disk: &Protected) -> Option<String> {
    let status = disk.lane_status();
    if let Some(waiting) = status.waiting {
        return Some(format!("waits for its target: {waiting}"));
    }
    if status.state != Disk::Protecting {
        let more = status.reason.or(status.trouble).map(|more| format!(" ({more})")).unwrap_or_default();
        return Some(format!("is {}{more}", status.state.name()));
    }
    // Its last words may be those of a lane at work.
    if disk.handle().is_none() {
        return Some("is being taken up again".to_owned());
    }
    let is_passed = status.passes.is_some_and(|passes| passes.took_ms.is_some());
    (disk.nature.tracking == How::Digest && !is_passed)
        .then(|| "is not tracked, and is still being compared as a whole".to_owned())
}

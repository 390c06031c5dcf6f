//! Disks that are asked for and cannot be taken up: not there, or not what they
//! were. The others go on, and it is tried again and again.

use std::time::Instant;

use super::Machine;
use super::error::MachineError;
use super::event::Event;
use super::settings::{DiskSettings, Tracking};
use crate::limits;
use crate::role::agent::LeftOut;
use crate::telemetry::Notice;

/// Disks that a machine does without for now, though no point can.
pub(super) struct Absent {
    pub(super) disks: Vec<LeftOut>,
    again_at: Instant,
}

impl Default for Absent {
    fn default() -> Self {
        Self { disks: Vec::new(), again_at: Instant::now() }
    }
}

impl Absent {
    fn why(&self, name: &str) -> &str {
        self.disks.iter().find(|disk| disk.disk == name).map_or("not tried yet", |disk| &disk.reason)
    }
}

impl Machine {
    /// Takes a disk up, or notes why not.
    fn try_to_take_up(&mut self, settings: &DiskSettings) -> Result<(), MachineError> {
        match self.protect(settings, None) {
            Ok(disk) => self.disks.push(disk),
            Err(error) => {
                let (disk, reason) = (settings.name.clone(), error.to_string());
                self.absent.disks.push(LeftOut { disk, reason });
                self.absent.again_at = Instant::now() + limits::ABSENT_AGAIN_AFTER;
                return Err(error);
            }
        }
        Ok(())
    }

    /// The same for one that is asked for from now on: an alarm says why not.
    pub(super) fn take_up(&mut self, settings: &DiskSettings) -> Result<(), MachineError> {
        let taken_up = self.try_to_take_up(settings);
        if let Err(error) = &taken_up {
            let name = &settings.name;
            let text = format!("disk {name} cannot be taken up, and there is no point without it: {error}");
            self.tell(Event::Alarm { text });
        }
        taken_up
    }

    /// Tries again to take up those that are absent.
    pub(super) fn look_for_absent(&mut self) -> bool {
        if self.absent.disks.is_empty() || Instant::now() < self.absent.again_at {
            return false;
        }
        self.absent.again_at = Instant::now() + limits::ABSENT_AGAIN_AFTER;
        // One that was never there is bound as it is found now.
        if let Err(error) = self.bound.extend(&self.common.folder, &self.common.settings) {
            self.tell(Event::Alarm { text: error.to_string() });
            return false;
        }
        let wanted: Vec<DiskSettings> = self.missing().cloned().collect();
        self.absent.disks.clear();
        for settings in wanted {
            if self.try_to_take_up(&settings).is_ok() {
                let text = format!("disk {} is there now, and taken up", settings.name);
                self.tell(Event::Notice(Notice::new("taken-up", text)));
            }
        }
        true
    }

    /// Those that are asked for and are not there: a point without them is none of
    /// the machine.
    pub(super) fn missing(&self) -> impl Iterator<Item = &DiskSettings> {
        let is_here = |name: &String| self.disks.iter().any(|disk| disk.settings.name == *name);
        self.common.settings.disks.iter().filter(move |wanted| !is_here(&wanted.name))
    }

    /// The first of them that a cut needs, and why it is not there.
    pub(super) fn missing_for_cut(&self, is_final: bool) -> Option<String> {
        let mut missing = self.missing();
        let is_needed =
            |missing: &&DiskSettings| is_final || missing.tracking != Tracking::Digest || !self.has_tracked();
        missing.find(is_needed).map(|missing| {
            let name = &missing.name;
            format!("disk {name} could not be taken up ({}); it is tried again", self.absent.why(name))
        })
    }
}

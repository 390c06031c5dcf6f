//! Other settings for a machine that runs.

use std::collections::HashSet;
use std::time::Instant;

use super::Machine;
use super::absent::Absent;
use super::error::MachineError;
use super::policy::Policy;
use super::protected::{Located, Protected};
use super::settings::{MachineSettings, is_name};
use crate::pipeline::Load;
use crate::role::Disk;

/// Whether a machine can be protected by these settings.
pub(super) fn check(settings: &MachineSettings) -> Result<(), MachineError> {
    let mut names = HashSet::new();
    let mut numbers = HashSet::new();
    for name in settings.disks.iter().map(|disk| &disk.name).chain([&settings.name]) {
        if !is_name(name) {
            return Err(MachineError::Name { name: name.clone() });
        }
    }
    for disk in &settings.disks {
        if !names.insert(&disk.name) {
            return Err(MachineError::Twice { what: format!("the name {}", disk.name) });
        }
        let located = match Located::find(disk) {
            // One that is away for now is looked for again and again.
            Err(_) if !disk.device.exists() => continue,
            located => located?,
        };
        if !numbers.insert(located.number.to_raw()) {
            return Err(MachineError::Twice { what: disk.device.display().to_string() });
        }
    }
    Ok(())
}

impl Machine {
    /// Goes on with `settings`; says what changed. Disks that are protected as
    /// before do not notice, unless they were refused and try again.
    pub(super) fn reload(&mut self, settings: MachineSettings) -> Result<Vec<String>, MachineError> {
        self.check_reload(&settings)?;
        self.bound.extend(&self.common.folder, &settings)?;
        let is_same_for_lanes = settings.runs_like(&self.common.settings);
        if !is_same_for_lanes {
            self.common.load = Load::new(settings.limits);
        }
        self.policy = Policy::new(settings.points, settings.hooks.pre.is_some(), Instant::now());
        self.common.settings = settings.clone();
        let (mut changes, mut failed) = (Vec::new(), None);
        self.absent = Absent::default();
        let mut kept: Vec<Protected> = Vec::new();
        for mut disk in std::mem::take(&mut self.disks) {
            let name = &disk.settings.name;
            let wanted = settings.disks.iter().find(|wanted| wanted.name == *name);
            if wanted == Some(&disk.settings) && is_same_for_lanes && disk.state() != Disk::Refused {
                kept.push(disk);
                continue;
            }
            if wanted.is_none() {
                changes.push(format!("disk {name} is protected no more; `agent remove {name}` forgets it"));
            }
            failed = disk.end(&self.common.folder).err().or(failed);
        }
        for wanted in &settings.disks {
            if let Some(index) = kept.iter().position(|disk| disk.settings.name == wanted.name) {
                self.disks.push(kept.swap_remove(index));
                continue;
            }
            match self.take_up(wanted) {
                Ok(()) => changes.push(format!("disk {} is taken up", wanted.name)),
                Err(error) => failed = Some(error),
            }
        }
        self.show();
        failed.map_or(Ok(changes), Err)
    }

    /// What can be said before anything is changed.
    fn check_reload(&self, settings: &MachineSettings) -> Result<(), MachineError> {
        let known = &self.common.settings;
        let fixed = [
            ("the machine's name", settings.name == known.name),
            ("the master target", settings.remote.location() == known.remote.location()),
            ("the state folder", settings.state == known.state),
            ("the run folder", settings.run == known.run),
            ("the place of the pins", settings.pins == known.pins),
            ("the freeze budget", settings.freeze_budget == known.freeze_budget),
            ("the memory for the remainder", settings.remainder_bytes == known.remainder_bytes),
        ];
        if let Some((what, _)) = fixed.into_iter().find(|(_, is_same)| !is_same) {
            return Err(MachineError::Fixed { what });
        }
        self.check_running()?;
        check(settings)
    }
}

//! Whether the agent is on the machine that it belongs to.

use super::error::MachineError;
use super::protected::Located;
use super::settings::MachineSettings;
use super::stored::StateFolder;
use crate::quiesce::{Binding, Relocated};

/// What the agent is bound to, and what it finds.
pub(super) struct Bound {
    binding: Binding,
    relocated: Option<Relocated>,
    is_new_machine: bool,
}

impl Bound {
    /// Compares what is found with what is kept, and keeps what is new. A first
    /// agent is bound to what it finds; so is one that is told to be. One that has
    /// protected disks was bound, so that a copy of it is not let in by a lost file.
    pub(super) fn find(folder: &StateFolder, settings: &MachineSettings) -> Result<Self, MachineError> {
        let mut found = read(settings)?;
        let known = folder.binding()?;
        let is_lost = known.is_none() && !folder.names()?.is_empty();
        if is_lost && !settings.bind_anew {
            return Err(MachineError::Unbound { path: folder.binding_path() });
        }
        let relocated = known.as_ref().and_then(|known| known.check(&found).err());
        if relocated.is_some() && !settings.bind_anew {
            let binding = known.unwrap_or_default();
            return Ok(Self { binding, relocated, is_new_machine: false });
        }
        if let Some(known) = known.as_ref().filter(|_| relocated.is_none()) {
            remember_absent(&mut found, known, settings);
        }
        if known.as_ref() != Some(&found) {
            folder.write_binding(&found)?;
        }
        Ok(Self { binding: found, relocated: None, is_new_machine: relocated.is_some() || is_lost })
    }

    /// Takes in other disks. What is bound stays bound.
    pub(super) fn extend(
        &mut self,
        folder: &StateFolder,
        settings: &MachineSettings,
    ) -> Result<(), MachineError> {
        let mut found = read(settings)?;
        for (name, identity) in &mut found.disks {
            if let Some(bound) = self.binding.disks.get(name) {
                identity.clone_from(bound);
            }
        }
        remember_absent(&mut found, &self.binding, settings);
        if found != self.binding {
            folder.write_binding(&found)?;
            self.binding = found;
        }
        Ok(())
    }

    /// Why nothing may be sent, where that is so.
    pub(super) fn relocated(&self) -> Option<String> {
        self.relocated.as_ref().map(ToString::to_string)
    }

    /// Whether the agent was bound to another machine until now.
    pub(super) const fn is_new_machine(&self) -> bool {
        self.is_new_machine
    }

    pub(super) fn identity_of(&self, disk: &str) -> Option<&str> {
        self.binding.disks.get(disk).map(String::as_str)
    }

    /// What a master target knows the machine by.
    pub(super) fn machine_identity(&self) -> String {
        match (&self.binding.firmware, &self.binding.machine) {
            (Some(firmware), _) => format!("dmi:{firmware}"),
            (None, Some(machine)) => format!("machine-id:{machine}"),
            (None, None) => "unknown".to_owned(),
        }
    }
}

/// What is there.
fn read(settings: &MachineSettings) -> Result<Binding, MachineError> {
    let there =
        settings.disks.iter().filter_map(|disk| Some((disk.name.as_str(), Located::find(disk).ok()?.number)));
    Ok(Binding::read(there)?)
}

/// A disk that is away for now is bound as it was.
fn remember_absent(found: &mut Binding, known: &Binding, settings: &MachineSettings) {
    for name in settings.disks.iter().map(|disk| &disk.name) {
        if let (false, Some(identity)) = (found.disks.contains_key(name), known.disks.get(name)) {
            found.disks.insert(name.clone(), identity.clone());
        }
    }
}

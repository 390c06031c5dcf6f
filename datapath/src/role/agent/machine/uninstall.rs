//! Taking away all that an agent has left on its machine.

use std::io;
use std::path::PathBuf;

use super::error::MachineError;
use super::stored::StateFolder;
use crate::quiesce;

/// Where an agent keeps what it keeps.
#[derive(Clone, Debug)]
pub struct Uninstall {
    /// Its state, keys and binding included.
    pub state: PathBuf,
    /// Its freeze record.
    pub run: PathBuf,
    /// The BPF filesystem in which its trackers are pinned.
    pub pins: PathBuf,
}

/// Takes everything away: trackers with their programs, maps and pins, the state
/// of all disks, the binding, the keys. Asks nothing of the target. Gives the
/// disks that were protected.
///
/// # Errors
/// [`MachineError::Running`] while the agent runs: nothing is taken away then.
pub fn uninstall(places: &Uninstall) -> Result<Vec<String>, MachineError> {
    if !places.state.exists() {
        return Ok(Vec::new());
    }
    let folder = StateFolder::new(&places.state);
    let lock = folder.take()?;
    quiesce::recover(&places.run)?;
    let names = folder.names()?;
    for name in &names {
        folder.forget(&places.pins, name)?;
    }
    folder.clear(lock)?;
    match std::fs::remove_dir(&places.run) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            // Something of somebody else's is there.
        }
        _ => {}
    }
    Ok(names)
}

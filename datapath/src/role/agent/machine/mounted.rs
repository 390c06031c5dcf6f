//! The BPF filesystem that trackers are pinned in, where the agent mounted it
//! itself: then it goes with the agent, if nobody else pins anything there.
//!
//! ```text
//! STATE/mounted.json    {"version":1,"pins":"/sys/fs/bpf"}
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::umount;
use nix::sys::statfs::{FsType, statfs};
use serde::{Deserialize, Serialize};

use super::error::MachineError;
use super::stored::{VERSION, check_version, read, write};
use crate::landing::make_folder;

/// `BPF_FS_MAGIC`.
const KIND: FsType = FsType(0xcafe_4a11);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mounted {
    version: u32,
    pins: PathBuf,
}

fn is_mounted(pins: &Path) -> bool {
    statfs(pins).is_ok_and(|facts| facts.filesystem_type() == KIND)
}

/// Notes at `marker` that a filesystem at `pins` will be the agent's own, where
/// none is there yet; the tracker mounts it when it needs it.
pub(super) fn note(marker: &Path, pins: &Path) -> Result<(), MachineError> {
    if is_mounted(pins) {
        return Ok(());
    }
    make_folder(pins).map_err(|source| MachineError::State { path: pins.to_owned(), source })?;
    write(marker, &Mounted { version: VERSION, pins: pins.to_owned() })
}

/// Whether anything is pinned. The kernel shows files of its own (`maps.debug`)
/// at the top.
fn has_pins(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().extension().is_none_or(|kind| kind != "debug")).count() > 0
}

/// Takes away what was noted at `marker`, unless something is pinned there still.
pub(super) fn unmount(marker: &Path) -> Result<(), MachineError> {
    let Some(mounted) = read::<Mounted>(marker)? else { return Ok(()) };
    check_version(marker, mounted.version)?;
    if is_mounted(&mounted.pins) && !has_pins(&mounted.pins) {
        umount(&mounted.pins)
            .map_err(|errno| MachineError::State { path: mounted.pins.clone(), source: errno.into() })?;
    }
    fs::remove_file(marker).map_err(|source| MachineError::State { path: marker.to_owned(), source })
}

//! Which filesystems must be frozen so that a set of disks stands still.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::Error;
use super::stack::{Beneath, Stack};
use super::superblock::Superblock;
use crate::disk::guard;
use crate::disk::storage::{DeviceNumber, Host};
use crate::limits;

/// The filesystems that rest on a set of disks, in the order in which they are
/// frozen: what stands on a file of another one before that one.
///
/// An overlay holds nothing of its own: its writes are writes of the filesystem
/// below it, and wait when that is frozen. It is not in the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FreezePlan {
    superblocks: Vec<Superblock>,
    unquiesced: Vec<Unquiesced>,
}

/// A writer that no freeze stops. What it writes during a cut shows in the last
/// drain before the thaw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unquiesced {
    /// A filesystem of a kind that the kernel cannot freeze.
    Filesystem(Superblock),
    /// A swap area.
    Swap(PathBuf),
}

impl fmt::Display for Unquiesced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filesystem(superblock) => write!(f, "{superblock} (cannot be frozen)"),
            Self::Swap(path) => write!(f, "swap on {}", path.display()),
        }
    }
}

impl FreezePlan {
    /// The plan for whole disks (or loop devices) of this machine, as it stands
    /// now. What is mounted afterwards is not in it.
    ///
    /// # Errors
    /// [`Error::Unseen`] where `/proc` or `/sys` cannot be read;
    /// [`Error::TooMany`] past [`limits::SUPERBLOCKS_MAX`].
    pub fn of(disks: &[DeviceNumber]) -> Result<Self, Error> {
        Self::on(&Host::here(), disks)
    }

    /// The same on a given [`Host`].
    ///
    /// # Errors
    /// As [`FreezePlan::of`].
    pub fn on(host: &Host, disks: &[DeviceNumber]) -> Result<Self, Error> {
        let all = Superblock::all(host)?;
        let stack = Stack::new(host, &all);
        let rests = |beneath: &Beneath| disks.iter().any(|disk| beneath.devices.contains(disk));
        let mut resting: Vec<(usize, &Superblock)> = Vec::new();
        for superblock in all.values().filter(|superblock| !superblock.devices.is_empty()) {
            let beneath = stack.beneath(superblock.number);
            if rests(&beneath) {
                // What stands on another filesystem has that one beneath it, and
                // all that is beneath that one.
                resting.push((beneath.superblocks.len(), superblock));
            }
        }
        resting.sort_by_key(|(depth, superblock)| (std::cmp::Reverse(*depth), superblock.number));
        let mut plan = Self::default();
        for (_, superblock) in resting {
            if superblock.is_read_only {
                // Nobody writes to it.
            } else if superblock.may_freeze() {
                plan.superblocks.push(superblock.clone());
            } else {
                plan.unquiesced.push(Unquiesced::Filesystem(superblock.clone()));
            }
        }
        let unseen = |source| Error::Unseen { path: host.path("proc/swaps"), source };
        for area in guard::swaps(host).map_err(unseen)? {
            let beneath = match (host.number_of(&area), fs::metadata(host.inside(&area))) {
                (Some(device), _) => stack.beneath_device(device),
                (None, Ok(file)) => stack.beneath_file(file.dev(), &area),
                // A file that was deleted: nobody can tell where it lies.
                (None, Err(_)) => continue,
            };
            if rests(&beneath) {
                plan.unquiesced.push(Unquiesced::Swap(area));
            }
        }
        if plan.superblocks.len() > limits::SUPERBLOCKS_MAX {
            return Err(Error::TooMany { found: plan.superblocks.len() });
        }
        Ok(plan)
    }

    /// What is frozen, in this order.
    #[must_use]
    pub fn superblocks(&self) -> &[Superblock] {
        &self.superblocks
    }

    /// What writes to the disks and cannot be frozen.
    #[must_use]
    pub fn unquiesced(&self) -> &[Unquiesced] {
        &self.unquiesced
    }
}

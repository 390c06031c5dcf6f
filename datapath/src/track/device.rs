//! The disk behind a path, and whether it can be tracked.

use std::path::{Path, PathBuf};

use crate::disk::storage::{BlockDevice, DeviceNumber, Host, StorageError};
use crate::error::{Remediable, Remedy};

/// A whole disk whose requests can be followed.
#[derive(Clone, Debug)]
pub struct Device {
    host: Host,
    /// Its number.
    pub number: DeviceNumber,
    /// `/dev/sda`.
    pub node: PathBuf,
    /// Its folder in sysfs.
    pub(super) folder: PathBuf,
    /// Size in bytes when it was looked at.
    pub size_bytes: u64,
    /// Which of the disks of this number since boot; 0 on kernels before 5.15.
    pub sequence: u64,
    /// Whether a discard may have pieces that lie anywhere. To say so of a disk
    /// that has none is safe, and costs time.
    pub scattered_discards: bool,
}

/// Why a disk cannot be tracked. `tracking = "digest"` is what is left.
#[derive(Debug, thiserror::Error)]
pub enum Untrackable {
    /// A file, a folder, something else.
    #[error("{} is no block device", path.display())]
    NoDevice {
        /// What was given.
        path: PathBuf,
    },
    /// Sysfs does not tell.
    #[error("{} cannot be looked at", path.display())]
    Unseen {
        /// What was given.
        path: PathBuf,
        /// Why.
        source: StorageError,
    },
    /// Not proven for such a device, or not possible.
    #[error("{} cannot be tracked: {reason}", device.display())]
    Kind {
        /// The disk.
        device: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// Nothing is there yet.
    #[error("{} has no size: nothing is attached", device.display())]
    Empty {
        /// The disk.
        device: PathBuf,
    },
}

impl Remediable for Untrackable {
    fn remedy(&self) -> Remedy {
        Remedy::Refused
    }
}

impl Device {
    /// The whole disk that `path` names or is a partition of.
    ///
    /// # Errors
    /// [`Untrackable`], with the reason.
    pub fn find(path: &Path) -> Result<Self, Untrackable> {
        Self::find_on(&Host::here(), path)
    }

    /// The same on a machine seen through `host`.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn find_on(host: &Host, path: &Path) -> Result<Self, Untrackable> {
        let unseen = |source| Untrackable::Unseen { path: path.to_owned(), source };
        let number = host.number_of(path).ok_or_else(|| Untrackable::NoDevice { path: path.to_owned() })?;
        let mut block = host.device(number).map_err(unseen)?;
        if let Some((disk, _)) = block.partition_of {
            block = host.device(disk).map_err(unseen)?;
        }
        if let Some(reason) = obstacle(&block) {
            return Err(Untrackable::Kind { device: block.node, reason });
        }
        if block.length == 0 {
            return Err(Untrackable::Empty { device: block.node });
        }
        let scattered_discards = number_in(&block, "queue/max_discard_segments").is_none_or(|most| most != 1);
        let sequence = number_in(&block, "diskseq").unwrap_or(0);
        let BlockDevice { number, node, folder, length, .. } = block;
        Ok(Self {
            host: host.clone(),
            number,
            node,
            folder,
            size_bytes: length,
            sequence,
            scattered_discards,
        })
    }

    /// What the device is now: size in bytes and sequence number; `None` where it
    /// is gone.
    pub(super) fn now(&self) -> Option<(u64, u64)> {
        let block = self.host.device(self.number).ok()?;
        Some((block.length, number_in(&block, "diskseq").unwrap_or(0)))
    }

    /// Whether the kernel counts this disk's sectors.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.host.device(self.number).is_ok_and(|block| number_in(&block, "queue/iostats") == Some(1))
    }

    /// The identity of the boot, as a number.
    pub(super) fn boot(&self) -> Result<u128, StorageError> {
        let text = self.host.boot_id()?;
        let digits = text.chars().filter_map(|digit| digit.to_digit(16));
        Ok(digits.fold(0, |number, digit| number << 4 | u128::from(digit)))
    }
}

fn number_in(block: &BlockDevice, name: &str) -> Option<u64> {
    block.attribute(name)?.trim().parse().ok()
}

/// What speaks against tracking a disk by its requests.
fn obstacle(block: &BlockDevice) -> Option<&'static str> {
    let has = |name: &str| block.folder.join(name).exists();
    if has("dm") {
        return Some("a mapped device; protect the disks below it");
    }
    if has("md") {
        return Some("a RAID device; protect the disks below it");
    }
    if has("multipath") {
        return Some("an NVMe disk reached on several paths, whose requests go to hidden disks");
    }
    if !has("mq") {
        return Some("it takes writes without requests (as zram, brd and multipath NVMe do)");
    }
    if number_in(block, "hidden") == Some(1) {
        return Some("one of several paths to a disk, and hidden");
    }
    if block.attribute("queue/zoned").is_some_and(|zoned| zoned.trim() != "none") {
        return Some("a zoned disk");
    }
    if number_in(block, "queue/iostats") == Some(0) {
        return Some("the kernel does not count its sectors (queue/iostats is 0); write 1 there");
    }
    is_path(block).then_some("one of several paths to a disk; writes on the others would be missed")
}

/// Whether a multipath device stands on the disk.
fn is_path(block: &BlockDevice) -> bool {
    let holders = std::fs::read_dir(block.folder.join("holders")).into_iter().flatten().flatten();
    holders
        .filter_map(|holder| std::fs::read_to_string(holder.path().join("dm/uuid")).ok())
        .any(|uuid| uuid.starts_with("mpath-"))
}

#[cfg(test)]
mod tests;

//! The name of a target that outlives a reboot.
//!
//! In: an opened file. Out: an [`Identity`], the key of the target's state.
//! Invariants: a disk, a partition of it and a loop device on a file with the
//! same first byte have the same base and tell their offset, so that a target
//! keeps its name whichever way it is attached. Never: reads the disk's bytes.

use std::fmt;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use nix::sys::statvfs::statvfs;
use xxhash_rust::xxh3::xxh3_128;

use super::StorageError;
use super::host::{Backing, BackingGround, BlockDevice, DeviceNumber, Host, is_block_device};

/// The readable head of a file name, in bytes.
const FILE_NAME_HEAD_BYTES: usize = 80;

/// Devices on the way down to the one that has a name.
const DEPTH_MAX: usize = 24;

/// A stable name of a disk: what it is, and from which byte on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    base: String,
    offset: u64,
    stable: bool,
}

impl Identity {
    /// Whether the name means the same disk after a reboot. Where it does not
    /// (RAM disks, network disks without a serial), it names this boot.
    #[must_use]
    pub fn lasts_over_reboot(&self) -> bool {
        self.stable
    }

    /// What it is, without the place in it.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Its first byte in that.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// A name for a file: letters, digits and `.-_`, at most 113 bytes. Its
    /// head is readable, its end is a digest of the whole identity.
    #[must_use]
    pub fn file_name(&self) -> String {
        let text = self.to_string();
        let safe = |letter: char| {
            if letter.is_ascii_alphanumeric() || "-_.".contains(letter) { letter } else { '_' }
        };
        let head: String = text.chars().take(FILE_NAME_HEAD_BYTES).map(safe).collect();
        format!("{}-{:032x}", head.trim_start_matches('.'), xxh3_128(text.as_bytes()))
    }

    fn stable(base: String) -> Self {
        Self { base, offset: 0, stable: true }
    }

    /// Of a disk that is not there; no state is kept for it.
    pub(in crate::disk) fn imagined(path: &Path) -> Self {
        Self { base: format!("imagined:{}", path.display()), offset: 0, stable: false }
    }

    #[cfg(test)]
    pub(super) fn new_for_test(base: &str) -> Self {
        Self::stable(base.to_owned())
    }

    /// The same from a later byte on.
    pub(in crate::disk) fn shifted(self, by: u64) -> Self {
        Self { offset: self.offset.saturating_add(by), ..self }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)?;
        if self.offset > 0 { write!(f, "+{}", self.offset) } else { Ok(()) }
    }
}

/// The identity of `file`, opened from `path` (for messages only):
///
/// | what | name |
/// | --- | --- |
/// | mapped device, RAID | `dm:` or `md:` and its UUID |
/// | NVMe, SCSI | `wwid:` and what the disk calls itself |
/// | other disk with a serial number | `serial:` and it |
/// | partition | its disk's name, `+` its first byte; `partition:` and its UUID where the disk has no name of its own |
/// | loop device | its backing file's name, `+` its first byte |
/// | regular file | `file:` filesystem, inode and time of birth |
/// | other physical disk | `slot:` and where it is plugged in |
/// | anything else | `boot:` boot id, device number and sequence number |
///
/// # Errors
/// As [`super::Storage::of`].
pub fn identity(path: &Path, file: &File) -> Result<Identity, StorageError> {
    identity_on(&Host::here(), path, file)
}

/// The same on a given [`Host`].
///
/// # Errors
/// As [`identity`].
pub fn identity_on(host: &Host, path: &Path, file: &File) -> Result<Identity, StorageError> {
    let metadata = file.metadata().map_err(|source| StorageError::read(path, source))?;
    if metadata.is_file() {
        return of_file(host, path, &metadata);
    }
    if !is_block_device(&metadata) {
        return Err(StorageError::NotADisk { path: path.to_owned() });
    }
    of_device(host, DeviceNumber::from_raw(metadata.rdev()), Some(file), 0)
}

/// The identity of the block device with this number.
///
/// # Errors
/// As [`identity`].
pub fn identity_of_device(host: &Host, number: DeviceNumber) -> Result<Identity, StorageError> {
    of_device(host, number, None, 0)
}

fn of_file(host: &Host, path: &Path, metadata: &Metadata) -> Result<Identity, StorageError> {
    let number = DeviceNumber::from_raw(metadata.dev());
    let filesystem = statvfs(path).map_err(|errno| StorageError::read(path, errno.into()))?.filesystem_id();
    // Most filesystems derive their id from their UUID. XFS tells its device
    // number, which may change: there the device's own name is better.
    let (filesystem, stable) = if filesystem != 0 && filesystem != metadata.dev() {
        (format!("{filesystem:016x}"), true)
    } else if let Ok(device) = of_device(host, number, None, 0) {
        (format!("({device})"), device.stable)
    } else {
        (number.to_string(), false)
    };
    // Filesystems give the inode of a deleted file to the next new one; the
    // time of birth tells them apart.
    let birth = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let birth = birth.map(|time| format!(":{:x}", time.as_nanos())).unwrap_or_default();
    Ok(Identity { base: format!("file:{filesystem}:{}{birth}", metadata.ino()), offset: 0, stable })
}

pub(super) fn of_device(
    host: &Host,
    number: DeviceNumber,
    open: Option<&File>,
    depth: usize,
) -> Result<Identity, StorageError> {
    if depth > DEPTH_MAX {
        return Err(StorageError::TooDeep { number });
    }
    let device = host.device(number)?;
    if let Some((disk, place)) = device.partition_of {
        let disk = of_device(host, disk, None, depth + 1)?;
        // A slot or a boot names whatever disk is there; the partition knows better.
        let weak = !disk.stable || disk.base.starts_with("slot:");
        let own = device.uevent("PARTUUID").filter(|_| weak);
        return Ok(match own {
            Some(uuid) => Identity::stable(format!("partition:{uuid}")),
            None => disk.shifted(place.offset()),
        });
    }
    if let Some(backing) = host.backing(&device, open)
        && let Some(below) = of_backing(host, &backing, depth)?
    {
        return Ok(below.shifted(backing.offset));
    }
    Ok(match name(&device) {
        Some(base) => Identity::stable(base),
        None => Identity { base: host.attachment(&device)?, offset: 0, stable: false },
    })
}

/// The identity of what a loop device stands on; `None` where its file can no
/// longer be found by its path (deleted, renamed, another mount namespace).
fn of_backing(host: &Host, backing: &Backing, depth: usize) -> Result<Option<Identity>, StorageError> {
    match backing.ground {
        Some(BackingGround::Device(lower)) => of_device(host, lower, None, depth + 1).map(Some),
        Some(BackingGround::File { filesystem, inode }) => {
            let path = host.inside(&backing.path);
            let is_it = |found: &Metadata| found.dev() == filesystem && found.ino() == inode;
            match std::fs::metadata(&path) {
                Ok(found) if is_it(&found) => of_file(host, &path, &found).map(Some),
                _ => Ok(None),
            }
        }
        None => Ok(None),
    }
}

/// What a whole disk says about itself, best first.
fn name(device: &BlockDevice) -> Option<String> {
    let trimmed = |name: &str| device.attribute(name).map(|text| text.trim().to_owned());
    if let Some(uuid) = trimmed("dm/uuid") {
        return Some(format!("dm:{uuid}"));
    }
    if let Some(uuid) = trimmed("md/uuid") {
        return Some(format!("md:{uuid}"));
    }
    if let Some(wwid) = device.wwid() {
        return Some(format!("wwid:{wwid}"));
    }
    let serial = ["serial", "device/serial", "device/cid"].iter().find_map(|name| trimmed(name));
    if let Some(serial) = serial {
        let model = trimmed("device/model").map(|model| format!("{model}:")).unwrap_or_default();
        return Some(format!("serial:{model}{serial}"));
    }
    let slot = std::fs::canonicalize(device.folder.join("device")).ok()?;
    let slot = slot.to_string_lossy();
    let place = slot.split_once("/devices/").map_or(&*slot, |(_, place)| place);
    Some(format!("slot:{place}"))
}

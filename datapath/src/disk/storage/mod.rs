//! What a path stands for at the bottom: which bytes of which disk or file.
//!
//! ```text
//! /dev/disk/by-id/x ─┐                                ┌─ bytes of a disk
//! /dev/mapper/home  ─┼─ open ─> Storage (footprints) ─┼─ bytes of a file (st_dev, inode)
//! disk.vmdk         ─┘                                └─ a mapped device
//! ```
//!
//! In: opened files. Out: a [`Storage`], which tells whether two disks share a
//! byte, also between processes of one machine; an [`Identity`], which names a
//! target over reboots. Invariants: two paths to one inode, a partition and its
//! disk, a loop device and its backing file, a mapped device and what lies below
//! it always overlap; where the layout of a device is not known, all that lies
//! below it counts. Never: writes, opens anything for writing.
//! Limits: [`FOOTPRINTS_MAX`].
//!
//! What cannot be seen from here, and is taken for different storage:
//! - one file reached through an overlay filesystem and directly in its upper
//!   or lower folder, or through a FUSE filesystem and directly below it: the
//!   kernel shows different device and inode numbers;
//! - one file of a server mounted twice with separate caches (NFS `nosharecache`);
//! - one disk that two hosts reach, unless it tells a world-wide name;
//! - files that share extents (reflinks): these are different files, and a write
//!   to one never shows in the other.
//!
//! On btrfs every subvolume has its own device number, the same for all its
//! mounts, so that a file has one number on all paths to it.

mod host;
mod identity;
mod mapping;
mod resolve;
#[cfg(test)]
pub(crate) mod tests;
mod wire;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use host::read_bounded;
pub use host::{Backing, BackingGround, BlockDevice, DeviceNumber, Host, is_block_device};
pub use identity::{Identity, identity, identity_of_device, identity_on};

use crate::error::{Remediable, Remedy};
use crate::limits::PIECES_MAX;
use crate::unit::Extent;
use resolve::Descent;

/// Footprints of one [`Storage`]: the pieces of the largest composite disk, and
/// as many again for devices below it.
pub const FOOTPRINTS_MAX: usize = 2 * PIECES_MAX;

/// The bottom of everything: where bytes really lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ground {
    /// A block device that stands on no other that we can see, or a mapped one.
    Device(DeviceNumber),
    /// A regular file.
    File {
        /// Number of its filesystem (`st_dev`).
        filesystem: u64,
        /// Its inode.
        inode: u64,
    },
}

/// Some bytes of a [`Ground`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct Footprint {
    ground: Ground,
    range: Extent,
    /// Pools and snapshot origins on the way down: two volumes that share one
    /// of them were given different bytes by it, whatever the range says.
    allocators: Vec<DeviceNumber>,
    /// What a disk calls itself, see [`BlockDevice::world_wide_name`].
    world_wide_name: Option<String>,
    /// For messages; does not travel.
    label: String,
}

/// All that one disk stands on: the footprints of one or more opened files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "wire::Parcel", into = "wire::Parcel")]
pub struct Storage {
    /// The run of the kernel that the numbers belong to.
    boot_id: String,
    footprints: Vec<Footprint>,
    /// All devices between the files and the bottom; does not travel.
    stack: BTreeSet<DeviceNumber>,
}

/// What two storages have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Where.
    pub ground: Ground,
    /// The first shared bytes of it.
    pub range: Extent,
    /// The path of it, where known.
    pub label: String,
    /// Where not the kernel's numbers agree, but the name that the disk tells.
    pub world_wide_name: Option<String>,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.ground, self.label.as_str()) {
            (Ground::Device(number), "") => write!(f, "block device {number}")?,
            (Ground::File { filesystem, inode }, "") => {
                write!(
                    f,
                    "the file with inode {inode} on filesystem {}",
                    DeviceNumber::from_raw(*filesystem)
                )?;
            }
            (_, label) => f.write_str(label)?,
        }
        if self.range.end() == u64::MAX {
            write!(f, ", from byte {} on", self.range.offset())?;
        } else {
            write!(f, ", {}", self.range)?;
        }
        match &self.world_wide_name {
            Some(name) => write!(f, " (a disk that calls itself {name} on both sides)"),
            None => Ok(()),
        }
    }
}

impl Storage {
    /// What a disk that is not there yet stands for: nothing.
    pub(in crate::disk) const fn nowhere() -> Self {
        Self { boot_id: String::new(), footprints: Vec::new(), stack: BTreeSet::new() }
    }

    /// What `file`, opened from `path`, stands for. `path` is for messages only.
    ///
    /// # Errors
    /// [`StorageError::NotADisk`] for anything but a regular file or a block
    /// device; others where `/sys` or `/proc` cannot be read.
    pub fn of(path: &Path, file: &File) -> Result<Self, StorageError> {
        Self::of_on(&Host::here(), path, file)
    }

    /// The same on a given [`Host`].
    ///
    /// # Errors
    /// As [`Storage::of`].
    pub fn of_on(host: &Host, path: &Path, file: &File) -> Result<Self, StorageError> {
        let metadata = file.metadata().map_err(|source| StorageError::read(path, source))?;
        let mut descent = Descent::new(host);
        if metadata.is_file() {
            descent.file(path, metadata.dev(), metadata.ino())?;
        } else if is_block_device(&metadata) {
            descent.device(DeviceNumber::from_raw(metadata.rdev()), Some(file))?;
        } else {
            return Err(StorageError::NotADisk { path: path.to_owned() });
        }
        Self::landed(host, descent)
    }

    /// What the block device with this number stands for.
    ///
    /// # Errors
    /// As [`Storage::of`].
    pub fn of_device(host: &Host, number: DeviceNumber) -> Result<Self, StorageError> {
        let mut descent = Descent::new(host);
        descent.device(number, None)?;
        Self::landed(host, descent)
    }

    /// What the file or device at `path` stands for, without opening it. For
    /// what others use; a disk of ours is opened and asked for by [`Storage::of`].
    ///
    /// # Errors
    /// As [`Storage::of`].
    pub fn of_path(host: &Host, path: &Path) -> Result<Self, StorageError> {
        let metadata =
            std::fs::metadata(host.inside(path)).map_err(|source| StorageError::read(path, source))?;
        if is_block_device(&metadata) {
            return Self::of_device(host, DeviceNumber::from_raw(metadata.rdev()));
        }
        let mut descent = Descent::new(host);
        descent.file(path, metadata.dev(), metadata.ino())?;
        Self::landed(host, descent)
    }

    fn landed(host: &Host, descent: Descent<'_>) -> Result<Self, StorageError> {
        Ok(Self { boot_id: host.boot_id()?, footprints: descent.footprints, stack: descent.stack })
    }

    /// Takes in another part of the same disk (a VMDK has several files).
    pub fn merge(&mut self, other: Self) {
        self.footprints.extend(other.footprints);
        self.stack.extend(other.stack);
    }

    /// Whether `device` is one of those that the storage goes through: itself,
    /// the disk of its partition, the loop or mapped devices below.
    #[must_use]
    pub fn goes_through(&self, device: DeviceNumber) -> bool {
        self.stack.contains(&device)
    }

    /// The first bytes that both hold, or `None`. Numbers of devices and inodes
    /// count only between storages of the same machine since the same boot;
    /// world-wide names count between machines too.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> Option<Overlap> {
        let same_host = self.boot_id == other.boot_id;
        let mut grounds: HashMap<&Ground, Vec<&Footprint>> = HashMap::new();
        let mut names: HashMap<&str, Vec<&Footprint>> = HashMap::new();
        for footprint in &other.footprints {
            grounds.entry(&footprint.ground).or_default().push(footprint);
            if let Some(name) = &footprint.world_wide_name {
                names.entry(name).or_default().push(footprint);
            }
        }
        self.footprints.iter().find_map(|own| {
            if same_host && let Some(found) = grounds.get(&own.ground).and_then(|theirs| own.meets(theirs)) {
                return Some(found);
            }
            let name = own.world_wide_name.as_ref()?;
            let found = names.get(name.as_str()).and_then(|theirs| own.meets(theirs))?;
            Some(Overlap { world_wide_name: Some(name.clone()), ..found })
        })
    }
}

impl Footprint {
    const fn new(ground: Ground, range: Extent) -> Self {
        Self { ground, range, allocators: Vec::new(), world_wide_name: None, label: String::new() }
    }

    /// The first bytes shared with one of `others`, all on the same ground.
    fn meets(&self, others: &[&Self]) -> Option<Overlap> {
        others.iter().find_map(|other| {
            if self.allocators.iter().any(|device| other.allocators.contains(device)) {
                return None;
            }
            let range = self.range.intersection(other.range)?;
            let label = if self.label.is_empty() { &other.label } else { &self.label };
            Some(Overlap { ground: self.ground, range, label: label.clone(), world_wide_name: None })
        })
    }
}

/// Why it cannot be told what a path stands for.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Neither a regular file nor a block device.
    #[error("{} is neither a block device nor a regular file: name a disk or an image", .path.display())]
    NotADisk {
        /// What was named.
        path: PathBuf,
    },
    /// Sysfs does not know the device.
    #[error(
        "the kernel does not list block device {number} in /sys/dev/block ({source}): \
         see that /sys is mounted and the device still exists"
    )]
    Unknown {
        /// The device.
        number: DeviceNumber,
        /// What the look-up said.
        source: io::Error,
    },
    /// A file that the answer needs cannot be read.
    #[error("cannot read {} ({source}): see that /proc and /sys are mounted and readable", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What reading said.
        source: io::Error,
    },
    /// Devices stand on devices without end.
    #[error("more devices lie below block device {number} than failback follows: name the lowest one itself")]
    TooDeep {
        /// Where the descent ended.
        number: DeviceNumber,
    },
    /// A disk of too many pieces.
    #[error("the disk stands on more than {limit} pieces: name one of its devices or files itself")]
    TooMany {
        /// The bound.
        limit: usize,
    },
}

impl StorageError {
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }
}

impl Remediable for StorageError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::NotADisk { .. } | Self::TooMany { .. } | Self::TooDeep { .. } => Remedy::Refused,
            Self::Unknown { .. } | Self::Read { .. } => Remedy::Stop,
        }
    }
}

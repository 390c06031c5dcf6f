//! Who uses which storage on this machine: filesystems, swap, loop devices,
//! devices composed of others.
//!
//! Each use is followed down to its [`Storage`], so that a use of a target is
//! whatever shares a byte with it: its partitions, its disk, what is mounted on
//! a volume on it, a loop device over the same file.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Refusal;
use super::mounts::{self, Mount};
use super::swaps;
use crate::disk::storage::{BlockDevice, DeviceNumber, Host, Storage, StorageError};

/// Where a filesystem is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedAt {
    /// One place; `None` where it is mounted out of our sight.
    pub point: Option<PathBuf>,
    /// A process in whose mount namespace that place is, where it is not ours.
    pub process: Option<u32>,
    /// How many further places there are.
    pub others: usize,
    /// `ext4`, `btrfs`, …
    pub filesystem: String,
    /// Read-only as a whole, wherever it is mounted.
    pub read_only: bool,
}

/// What composes a device of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Composition {
    /// A logical volume of LVM.
    LogicalVolume,
    /// An opened LUKS or plain dm-crypt device.
    Encryption,
    /// Several paths to one disk as one.
    Multipath,
    /// Any other device-mapper device.
    Mapped,
    /// Linux software RAID.
    Raid,
    /// Anything else: bcache, drbd.
    Other,
}

/// How a storage is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    /// As a mounted filesystem.
    Mounted(MountedAt),
    /// As swap.
    Swap,
    /// As what a loop device stands on.
    Loop { backing: PathBuf },
    /// As a part of another device, which has this name.
    Composed { composition: Composition, name: String },
}

/// One use.
#[derive(Clone, Debug)]
pub(super) struct Use {
    /// The device (or swap file) that is mounted, swapped on, attached, composed.
    pub(super) node: PathBuf,
    /// Its number, where it is a device.
    pub(super) number: Option<DeviceNumber>,
    /// The disk that it is a partition of.
    pub(super) disk: Option<DeviceNumber>,
    pub(super) usage: Usage,
    pub(super) storage: Storage,
}

/// Who uses which storage, at the moment of [`Uses::scan`].
#[derive(Clone, Debug)]
pub struct Uses {
    host: Host,
    list: Vec<Use>,
}

impl Uses {
    /// Looks at the whole machine: once, however many files a disk has.
    ///
    /// # Errors
    /// [`Refusal::Unseen`] where `/proc` or `/sys` cannot be read: what was not
    /// looked at must not be written to.
    pub fn scan(host: &Host) -> Result<Self, Refusal> {
        let unseen = |what: &str| {
            let path = host.path(what);
            move |source: io::Error| Refusal::Unseen { path, source }
        };
        let mounts = mounts::mounts(host).map_err(unseen("proc/*/mountinfo"))?;
        let swaps = swaps::swaps(host).map_err(unseen("proc/swaps"))?;
        let devices = host.devices()?;
        let mut uses = Self { host: host.clone(), list: Vec::new() };
        uses.add_mounts(&mounts)?;
        for area in swaps {
            uses.add_swap(area)?;
        }
        for device in &devices {
            let usage = if let Some(backing) = host.backing(device, None) {
                Usage::Loop { backing: backing.path }
            } else if !host.slaves(device).is_empty() {
                composed(device)
            } else {
                continue;
            };
            uses.add_device(device.number, usage)?;
        }
        Ok(uses)
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    pub(super) fn list(&self) -> &[Use] {
        &self.list
    }

    /// One use for each device, however often it is mounted.
    fn add_mounts(&mut self, mounts: &[Mount]) -> Result<(), Refusal> {
        let mut mounted: BTreeMap<DeviceNumber, MountedAt> = BTreeMap::new();
        for mount in mounts {
            for device in devices_of(&self.host, mount) {
                let place = mounted.entry(device).and_modify(|place| place.others += 1);
                place.or_insert_with(|| MountedAt {
                    point: Some(mount.point.clone()),
                    process: mount.process,
                    others: 0,
                    filesystem: mount.filesystem.clone(),
                    read_only: mount.read_only,
                });
            }
        }
        for members in btrfs_members(&self.host) {
            // The mount names one member only, and the others are as mounted as it.
            let named = members.iter().find_map(|member| mounted.get(member)).cloned();
            let place = named.unwrap_or_else(|| MountedAt {
                point: None,
                process: None,
                others: 0,
                filesystem: "btrfs".to_owned(),
                read_only: false,
            });
            for member in members {
                mounted.entry(member).or_insert_with(|| place.clone());
            }
        }
        mounted.into_iter().try_for_each(|(device, place)| self.add_device(device, Usage::Mounted(place)))
    }

    fn add_swap(&mut self, area: PathBuf) -> Result<(), Refusal> {
        if let Some(number) = self.host.number_of(&area) {
            return self.add_device(number, Usage::Swap);
        }
        // A file of another mount namespace, or deleted: nobody can name it to us.
        let Ok(storage) = Storage::of_path(&self.host, &area) else { return Ok(()) };
        self.list.push(Use { node: area, number: None, disk: None, usage: Usage::Swap, storage });
        Ok(())
    }

    fn add_device(&mut self, number: DeviceNumber, usage: Usage) -> Result<(), Refusal> {
        let resolved =
            self.host.device(number).and_then(|device| Ok((device, Storage::of_device(&self.host, number)?)));
        let (device, storage) = match resolved {
            Ok(resolved) => resolved,
            // Gone meanwhile, or (in mountinfo) no block device at all.
            Err(StorageError::Unknown { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let disk = device.partition_of.map(|(disk, _)| disk);
        self.list.push(Use { node: device.node, number: Some(number), disk, usage, storage });
        Ok(())
    }
}

/// The block devices that a mount stands on, as far as it says.
pub(crate) fn devices_of(host: &Host, mount: &Mount) -> Vec<DeviceNumber> {
    if mount.device.major != 0 {
        return vec![mount.device];
    }
    // Filesystems with several devices have a number of their own and name a
    // device (btrfs), or all, with colons between (bcachefs).
    let source = mount.source.to_string_lossy();
    source
        .split(':')
        .filter(|path| path.starts_with("/dev/"))
        .filter_map(|path| host.number_of(Path::new(path)))
        .collect()
}

/// The devices of each mounted btrfs filesystem.
pub(crate) fn btrfs_members(host: &Host) -> Vec<Vec<DeviceNumber>> {
    let folders =
        |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    folders(host.path("sys/fs/btrfs"))
        .map(|filesystem| {
            folders(filesystem.join("devices"))
                .filter_map(|device| host.number_of(&Path::new("/dev").join(device.file_name()?)))
                .collect::<Vec<_>>()
        })
        .filter(|members| !members.is_empty())
        .collect()
}

fn composed(device: &BlockDevice) -> Usage {
    let own_name = || device.node.display().to_string();
    if let Some(name) = device.attribute("dm/name") {
        let uuid = device.attribute("dm/uuid").unwrap_or_default();
        let composition = match uuid.split('-').next() {
            Some("LVM") => Composition::LogicalVolume,
            Some("CRYPT") => Composition::Encryption,
            Some("mpath") => Composition::Multipath,
            _ => Composition::Mapped,
        };
        return Usage::Composed { composition, name: format!("/dev/mapper/{name}") };
    }
    let composition = if device.folder.join("md").exists() { Composition::Raid } else { Composition::Other };
    Usage::Composed { composition, name: own_name() }
}

//! What lies beneath a filesystem or a device, down to the disks: through
//! partitions, mapped devices, loop devices, and the filesystems that their
//! backing files lie on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::superblock::{Superblock, mount_of_path};
use crate::disk::storage::{Backing, BackingGround, DeviceNumber, Host};

/// Everything beneath, itself included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Beneath {
    /// Block devices.
    pub(super) devices: BTreeSet<DeviceNumber>,
    /// Filesystems, by their numbers.
    pub(super) superblocks: BTreeSet<DeviceNumber>,
}

/// The storage stack of a machine.
pub(super) struct Stack<'a> {
    host: &'a Host,
    superblocks: &'a BTreeMap<DeviceNumber, Superblock>,
}

impl<'a> Stack<'a> {
    pub(super) fn new(host: &'a Host, superblocks: &'a BTreeMap<DeviceNumber, Superblock>) -> Self {
        Self { host, superblocks }
    }

    /// All that lies beneath a filesystem.
    pub(super) fn beneath(&self, superblock: DeviceNumber) -> Beneath {
        let mut found = Beneath::default();
        self.superblock(superblock, &mut found);
        found
    }

    /// All that lies beneath a device.
    pub(super) fn beneath_device(&self, device: DeviceNumber) -> Beneath {
        let mut found = Beneath::default();
        self.device(device, &mut found);
        found
    }

    /// All that lies beneath a file with this `st_dev`.
    pub(super) fn beneath_file(&self, filesystem: u64, path: &Path) -> Beneath {
        let mut found = Beneath::default();
        self.file(filesystem, path, &mut found);
        found
    }

    // What was found before is not followed again, so that this ends, however
    // odd the answers of the kernel are.

    fn superblock(&self, number: DeviceNumber, found: &mut Beneath) {
        if !found.superblocks.insert(number) {
            return;
        }
        match self.superblocks.get(&number) {
            Some(superblock) => superblock.devices.iter().for_each(|device| self.device(*device, found)),
            // Mounted out of our sight, or unmounted but still in use.
            None => self.device(number, found),
        }
    }

    fn device(&self, number: DeviceNumber, found: &mut Beneath) {
        let Ok(device) = self.host.device(number) else { return };
        if !found.devices.insert(number) {
            return;
        }
        if let Some((disk, _)) = device.partition_of {
            self.device(disk, found);
        }
        match self.host.backing(&device, None) {
            Some(Backing { ground: Some(BackingGround::Device(lower)), .. }) => self.device(lower, found),
            Some(Backing { ground: Some(BackingGround::File { filesystem, .. }), path, .. }) => {
                self.file(filesystem, &path, found);
            }
            Some(Backing { ground: None, .. }) | None => {}
        }
        for lower in self.host.slaves(&device) {
            self.device(lower, found);
        }
    }

    fn file(&self, filesystem: u64, path: &Path, found: &mut Beneath) {
        let number = DeviceNumber::from_raw(filesystem);
        if number.major != 0 || self.superblocks.contains_key(&number) {
            return self.superblock(number, found);
        }
        // A subvolume of btrfs has a number that no mount shows.
        let mount = mount_of_path(self.host, path);
        let holds = |superblock: &&Superblock| mount.is_some_and(|mount| superblock.has_mount(mount));
        if let Some(superblock) = self.superblocks.values().find(holds) {
            self.superblock(superblock.number, found);
        }
    }
}

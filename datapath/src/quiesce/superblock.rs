//! One mounted filesystem, wherever and however often it is mounted.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Error;
use crate::disk::guard::{self, Mount};
use crate::disk::storage::{DeviceNumber, Host};

/// Kinds of filesystems that the kernel cannot freeze although they write to a
/// device. For those that are not listed the attempt decides.
const NOT_FREEZABLE: [&str; 9] =
    ["vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "udf", "hfs", "minix"];

/// A mounted filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The number by which the kernel tells it from others: that of its device,
    /// or (btrfs) one of its own.
    pub number: DeviceNumber,
    /// `ext4`, `xfs`, …
    pub filesystem: String,
    /// Its devices; empty where it has none.
    pub devices: Vec<DeviceNumber>,
    /// Whether it is read-only as a whole.
    pub is_read_only: bool,
    places: Vec<Place>,
}

/// One place where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    mount: u64,
    point: PathBuf,
    /// A process in whose mount namespace that place is, where it is not ours.
    process: Option<u32>,
}

impl fmt::Display for Superblock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.filesystem, self.number)?;
        match self.places.first() {
            Some(Place { point, process: None, .. }) => write!(f, " at {}", point.display()),
            Some(Place { point, process: Some(process), .. }) => {
                write!(f, " at {} of process {process}", point.display())
            }
            None => Ok(()),
        }
    }
}

impl Superblock {
    /// All mounted filesystems of the machine, each once, by their numbers.
    pub(super) fn all(host: &Host) -> Result<BTreeMap<DeviceNumber, Self>, Error> {
        let unseen = |source| Error::Unseen { path: host.path("proc/*/mountinfo"), source };
        let mut found: BTreeMap<DeviceNumber, Self> = BTreeMap::new();
        for mount in guard::mounts(host).map_err(unseen)? {
            found.entry(mount.device).or_insert_with(|| Self::of(host, &mount)).places.push(Place {
                mount: mount.id,
                point: mount.point,
                process: mount.process,
            });
        }
        // A mount of btrfs names one of its devices; it stands on all of them.
        for members in guard::btrfs_members(host) {
            let named = |superblock: &&mut Self| superblock.devices.iter().any(|one| members.contains(one));
            if let Some(superblock) = found.values_mut().find(named) {
                superblock.devices.clone_from(&members);
            }
        }
        Ok(found)
    }

    fn of(host: &Host, mount: &Mount) -> Self {
        Self {
            number: mount.device,
            filesystem: mount.filesystem.clone(),
            devices: guard::devices_of(host, mount),
            is_read_only: mount.read_only,
            places: Vec::new(),
        }
    }

    /// Whether an attempt to freeze it is worthwhile.
    pub(super) fn may_freeze(&self) -> bool {
        !NOT_FREEZABLE.contains(&self.filesystem.as_str())
    }

    /// Whether one of its mounts has this number.
    pub(super) fn has_mount(&self, mount: u64) -> bool {
        self.places.iter().any(|place| place.mount == mount)
    }

    /// Opens a file or folder of it, at the first place that leads there: another
    /// mount may cover a place, and a process whose namespace it is may be gone.
    pub(super) fn open(&self, host: &Host) -> Result<File, Error> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for place in &self.places {
            match place.open(host, self.number) {
                Ok(file) => return Ok(file),
                Err(error) => last = error,
            }
        }
        Err(Error::Unreachable { superblock: self.to_string(), source: last })
    }
}

impl Place {
    fn open(&self, host: &Host, number: DeviceNumber) -> io::Result<File> {
        let path = match self.process {
            None => host.inside(&self.point),
            Some(process) => {
                let root = host.path("proc").join(process.to_string()).join("root");
                root.join(self.point.strip_prefix("/").unwrap_or(&self.point))
            }
        };
        // A single file can be a mount point too, and a device node or FIFO among
        // them acts when it is opened.
        let kind = fs::symlink_metadata(&path)?.file_type();
        if !kind.is_dir() && !kind.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&path)?;
        let is_ours = number.major == 0 || file.metadata()?.dev() == number.to_raw();
        if !is_ours || mount_of(host, &file) != Some(self.mount) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "another mount covers it"));
        }
        Ok(file)
    }
}

/// The number of the mount that an opened file was reached through.
pub(super) fn mount_of(host: &Host, file: &File) -> Option<u64> {
    let path = host.path("proc/self/fdinfo").join(file.as_raw_fd().to_string());
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

/// The number of the mount that a path lies on, without acting on what it names.
pub(super) fn mount_of_path(host: &Host, path: &Path) -> Option<u64> {
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_PATH).open(host.inside(path)).ok()?;
    mount_of(host, &file)
}

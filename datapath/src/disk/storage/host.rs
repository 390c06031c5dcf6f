//! What this machine's kernel tells about block devices in `/sys`.
//!
//! In: device numbers. Out: [`BlockDevice`]s, what they stand on, attributes as
//! text. Invariants: nothing here trusts the shape of what it reads; an odd
//! attribute is an absent one. Limits: [`ATTRIBUTE_BYTES_MAX`] for each file.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::StorageError;
use crate::sys;
use crate::unit::Extent;

/// A sysfs attribute in bytes: the kernel shows at most one page.
const ATTRIBUTE_BYTES_MAX: u64 = 64 << 10;

/// Sysfs counts in sectors of this many bytes, whatever the device's sectors are.
const SYSFS_SECTOR_BYTES: u64 = 512;

/// A world-wide name in bytes: an NVMe UUID with its prefix has 41.
pub(super) const WORLD_WIDE_NAME_BYTES_MAX: usize = 64;

/// The number by which the kernel knows a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceNumber {
    /// The driver.
    pub major: u32,
    /// The device among those of the driver.
    pub minor: u32,
}

impl DeviceNumber {
    /// From `st_rdev` (a device itself) or `st_dev` (the device of a filesystem).
    #[must_use]
    pub fn from_raw(number: u64) -> Self {
        Self { major: libc::major(number), minor: libc::minor(number) }
    }

    /// As `st_rdev` has it.
    #[must_use]
    pub fn to_raw(self) -> u64 {
        libc::makedev(self.major, self.minor)
    }

    /// Reads `MAJOR:MINOR`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// A block device as sysfs describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDevice {
    /// Its number.
    pub number: DeviceNumber,
    /// Its place in the file system: `/dev/sda1`.
    pub node: PathBuf,
    /// Its folder in sysfs, without symbolic links.
    pub folder: PathBuf,
    /// Size in bytes.
    pub length: u64,
    /// Of a partition: its disk, and the bytes of the disk that it is.
    pub partition_of: Option<(DeviceNumber, Extent)>,
}

/// What a loop device stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// The backing file's path when it was attached, as the kernel tells it.
    pub path: PathBuf,
    /// The file or device itself; `None` where it can no longer be told.
    pub ground: Option<BackingGround>,
    /// First byte that the loop device shows.
    pub offset: u64,
}

/// The file or device below a loop device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackingGround {
    /// A regular file.
    File {
        /// `st_dev`.
        filesystem: u64,
        /// `st_ino`.
        inode: u64,
    },
    /// A block device.
    Device(DeviceNumber),
}

/// A machine, seen through its `/sys`, `/proc` and `/dev`.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
}

impl Host {
    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        Self::at("/")
    }

    /// A machine whose `sys`, `proc` and `dev` lie below `root`.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// A path below the root: `sys/block`.
    #[must_use]
    pub fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// Where an absolute path of that machine lies for us.
    #[must_use]
    pub fn inside(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The block device with this number.
    ///
    /// # Errors
    /// [`StorageError::Unknown`] where sysfs does not list it.
    pub fn device(&self, number: DeviceNumber) -> Result<BlockDevice, StorageError> {
        let link = self.path("sys/dev/block").join(number.to_string());
        let folder = fs::canonicalize(&link).map_err(|source| StorageError::Unknown { number, source })?;
        Ok(self.describe(number, folder))
    }

    fn describe(&self, number: DeviceNumber, folder: PathBuf) -> BlockDevice {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // Names with a slash (cciss/c0d0) are spelled with an exclamation mark in sysfs.
        let node = uevent(&folder, "DEVNAME").unwrap_or_else(|| name.replace('!', "/"));
        let length = sectors(&folder, "size").unwrap_or(0);
        let partition_of = folder.join("partition").exists().then_some(()).and_then(|()| {
            let disk = DeviceNumber::parse(&attribute(folder.parent()?, "dev")?)?;
            Some((disk, Extent::new(sectors(&folder, "start")?, length)?))
        });
        BlockDevice { number, node: Path::new("/dev").join(node), folder, length, partition_of }
    }

    /// All block devices and partitions, in the order of their numbers.
    ///
    /// # Errors
    /// [`StorageError::Read`] where sysfs cannot be read.
    pub fn devices(&self) -> Result<Vec<BlockDevice>, StorageError> {
        let folder = self.path("sys/class/block");
        let entries = fs::read_dir(&folder).map_err(|source| StorageError::read(&folder, source))?;
        // Devices come and go meanwhile, and hidden path disks have no number.
        let mut devices: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let folder = fs::canonicalize(entry.path()).ok()?;
                let number = DeviceNumber::parse(&attribute(&folder, "dev")?)?;
                Some(self.describe(number, folder))
            })
            .collect();
        devices.sort_by_key(|device| device.number);
        Ok(devices)
    }

    /// The number of the device that `path` (`/dev/sda1`) names, also where this
    /// mount namespace has no such node.
    #[must_use]
    pub fn number_of(&self, path: &Path) -> Option<DeviceNumber> {
        if let Ok(metadata) = fs::metadata(self.inside(path))
            && is_block_device(&metadata)
        {
            return Some(DeviceNumber::from_raw(metadata.rdev()));
        }
        let name = path.strip_prefix("/dev").ok()?.to_str()?.replace('/', "!");
        DeviceNumber::parse(&attribute(&self.path("sys/class/block").join(name), "dev")?)
    }

    /// What the loop device stands on; `None` where it is no loop device or
    /// nothing is attached. `open` spares opening the device again.
    #[must_use]
    pub fn backing(&self, device: &BlockDevice, open: Option<&File>) -> Option<Backing> {
        let folder = device.folder.join("loop");
        let path = PathBuf::from(attribute(&folder, "backing_file")?);
        let status = match open {
            Some(file) => sys::loopback::status(file).ok().flatten(),
            None => self.open_node(device).and_then(|file| sys::loopback::status(&file).ok().flatten()),
        };
        if let Some(status) = status {
            let ground = if status.backing_device == 0 {
                BackingGround::File { filesystem: status.filesystem, inode: status.inode }
            } else {
                BackingGround::Device(DeviceNumber::from_raw(status.backing_device))
            };
            return Some(Backing { path, ground: Some(ground), offset: status.offset });
        }
        // Without the right to open the device the path has to do. A path that
        // was replaced or belongs to another mount namespace misleads; whoever
        // may write to devices may open this one.
        let offset = attribute(&folder, "offset").and_then(|text| text.parse().ok()).unwrap_or(0);
        let ground = self.number_of(&path).map(BackingGround::Device).or_else(|| {
            let metadata = fs::metadata(self.inside(&path)).ok()?;
            let (filesystem, inode) = (metadata.dev(), metadata.ino());
            metadata.is_file().then_some(BackingGround::File { filesystem, inode })
        });
        Some(Backing { path, ground, offset })
    }

    /// Opens the node of a device, if it is really that device.
    fn open_node(&self, device: &BlockDevice) -> Option<File> {
        let path = self.inside(&device.node);
        // Opening a node that is something else (a FIFO, a tape) can block or act.
        let is_it = |metadata: &fs::Metadata| {
            is_block_device(metadata) && DeviceNumber::from_raw(metadata.rdev()) == device.number
        };
        fs::metadata(&path).ok().filter(is_it)?;
        let mode = sys::OpenMode { write: false, direct: false, exclusive: false };
        let file = sys::open_disk_file(&path, mode).ok()?;
        file.metadata().ok().filter(is_it)?;
        Some(file)
    }

    /// The devices that a mapped or composed device stands on.
    #[must_use]
    pub fn slaves(&self, device: &BlockDevice) -> Vec<DeviceNumber> {
        let Ok(entries) = fs::read_dir(device.folder.join("slaves")) else { return Vec::new() };
        let mut slaves: Vec<_> = entries
            .flatten()
            .filter_map(|entry| DeviceNumber::parse(&attribute(&entry.path(), "dev")?))
            .collect();
        slaves.sort();
        slaves
    }

    /// The live table of a mapped device, one call of `see` for each line;
    /// `false` where it cannot be read (no privileges, no such device).
    pub fn mapped_lines(&self, number: DeviceNumber, see: impl FnMut(sys::MappedLine<'_>)) -> bool {
        File::open(self.path("dev/mapper/control"))
            .and_then(|control| sys::mapped_lines(&control, number.to_raw(), see))
            .is_ok()
    }

    /// The identity of this run of this kernel: the same for all processes and
    /// containers, another one after a reboot.
    ///
    /// # Errors
    /// [`StorageError::Read`] where `/proc` is not mounted.
    pub fn boot_id(&self) -> Result<String, StorageError> {
        let path = self.path("proc/sys/kernel/random/boot_id");
        let text = read_bounded(&path).map_err(|source| StorageError::read(&path, source))?;
        Ok(text.trim().to_owned())
    }

    /// A name for what is attached as a whole disk now: another one after a reboot
    /// or when something else is attached there.
    ///
    /// # Errors
    /// As [`Self::boot_id`].
    pub fn attachment(&self, device: &BlockDevice) -> Result<String, StorageError> {
        let sequence = device.attribute("diskseq").unwrap_or_else(|| "0".to_owned());
        Ok(format!("boot:{}:{}:{}", self.boot_id()?, device.number, sequence.trim()))
    }
}

impl BlockDevice {
    /// An attribute of the device; `None` where it is absent, empty or unreadable.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<String> {
        attribute(&self.folder, name)
    }

    /// A value of the device's `uevent` file.
    #[must_use]
    pub fn uevent(&self, key: &str) -> Option<String> {
        uevent(&self.folder, key)
    }

    /// The name that the device identifies itself with to the whole world
    /// (`naa.…`, `eui.…`, `uuid.…`), so that two paths to it are told as one.
    /// Names that vendors merely compose (`t10.…`) are not unique and left out.
    #[must_use]
    pub fn world_wide_name(&self) -> Option<String> {
        let name = self.wwid()?;
        let digits = ["naa.", "eui.", "uuid."].iter().find_map(|kind| name.strip_prefix(kind))?;
        let hexadecimal = digits.chars().all(|digit| digit.is_ascii_hexdigit() || digit == '-');
        // Cheap bridges report nothing but zeroes.
        let says_something = digits.chars().any(|digit| digit != '0' && digit != '-');
        (hexadecimal && says_something && name.len() <= WORLD_WIDE_NAME_BYTES_MAX).then_some(name)
    }

    /// The identification that the kernel shows for NVMe (`wwid`) and SCSI
    /// disks (`device/wwid`), with runs of spaces made one.
    #[must_use]
    pub fn wwid(&self) -> Option<String> {
        let text = self.attribute("wwid").or_else(|| self.attribute("device/wwid"))?;
        Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

/// Whether the file is a block device.
#[must_use]
pub fn is_block_device(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_block_device(&metadata.file_type())
}

/// A file of `/proc` or `/sys` as text; bytes that are no UTF-8 are replaced.
pub(crate) fn read_bounded(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(ATTRIBUTE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn attribute(folder: &Path, name: &str) -> Option<String> {
    let text = read_bounded(&folder.join(name)).ok()?;
    // One line: the newline is sysfs's own, spaces may belong to a path.
    let text = text.trim_end_matches('\n');
    (!text.trim().is_empty()).then(|| text.to_owned())
}

fn uevent(folder: &Path, key: &str) -> Option<String> {
    let text = read_bounded(&folder.join("uevent")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.filter(|value| !value.is_empty()).map(str::to_owned)
}

fn sectors(folder: &Path, name: &str) -> Option<u64> {
    attribute(folder, name)?.trim().parse::<u64>().ok()?.checked_mul(SYSFS_SECTOR_BYTES)
}

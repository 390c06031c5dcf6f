//! Why an image cannot be attached, or a device not detached.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::disk::vmdk::{Advice, DescriptorError, LocateError};
use crate::error::{Remediable, Remedy};
use crate::unit::SectorSize;

/// Why an image was not attached, or a device not detached. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The file cannot be opened.
    #[error("{}: cannot be opened: {source}; {}", path.display(), advice_on_opening(source))]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a block device.
    #[error("{}: is a block device already; use it as it is", path.display())]
    IsDevice {
        /// The device.
        path: PathBuf,
    },
    /// It is a directory, a pipe, or the like.
    #[error("{}: is no regular file; name an image file", path.display())]
    NotAFile {
        /// What it is.
        path: PathBuf,
    },
    /// Its bytes are not the disk's bytes.
    #[error("{}: {advice}", path.display())]
    NotFlat {
        /// The file.
        path: PathBuf,
        /// What to do.
        advice: Advice,
    },
    /// Its descriptor is not good.
    #[error("{}: {source}", path.display())]
    Descriptor {
        /// The descriptor.
        path: PathBuf,
        /// Why.
        source: DescriptorError,
    },
    /// The files of the image are not good.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// One loop device is one range of one file.
    #[error(
        "{}: has {count} extents, and a loop device holds one; attach them one by one: {}",
        path.display(), Listed(files)
    )]
    SeveralExtents {
        /// The descriptor.
        path: PathBuf,
        /// How many.
        count: usize,
        /// Their files, in the order of the disk.
        files: Vec<PathBuf>,
    },
    /// There is no file to attach.
    #[error("{}: is all zeroes, without a file; nothing can be attached", path.display())]
    OnlyZeroes {
        /// The descriptor.
        path: PathBuf,
    },
    /// The descriptor allows no writes.
    #[error("{}, line {line}: the extent is RDONLY; attach it read-only", path.display())]
    ReadOnlyExtent {
        /// The descriptor.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// The wanted range is not all there.
    #[error(
        "{}: has {available} bytes, so {} from byte {offset} on cannot be attached; correct offset and size",
        path.display(), size_limit.map_or("nothing".to_owned(), |bytes| format!("{bytes} bytes"))
    )]
    Outside {
        /// The file.
        path: PathBuf,
        /// Where the device was to start.
        offset: u64,
        /// How long it was to be.
        size_limit: Option<u64>,
        /// How long it could be from the start.
        available: u64,
    },
    /// The kernel would hide the last bytes.
    #[error(
        "{}: {length} bytes are no whole number of {}-byte sectors, and the last {} would be out of reach; \
         choose a smaller sector size, or a size that is one",
        path.display(), sector_size.bytes(), length % u64::from(sector_size.bytes())
    )]
    NotSectors {
        /// The file.
        path: PathBuf,
        /// How long the device was to be.
        length: u64,
        /// In sectors of what size.
        sector_size: SectorSize,
    },
    /// The same bytes are behind another loop device.
    #[error(
        "{}: is attached as {} already, and two devices over the same bytes lose writes; detach that, \
         or attach both read-only",
        path.display(), device.display()
    )]
    AlreadyAttached {
        /// The file.
        path: PathBuf,
        /// The device.
        device: PathBuf,
    },
    /// Another file has taken its place while it was examined.
    #[error("{}: was replaced while it was examined; try again when nobody works on it", path.display())]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// No loop devices for this caller.
    #[error("/dev/loop-control: {source}; attaching needs root, and the kernel module loop (modprobe loop)")]
    Control {
        /// Why.
        source: io::Error,
    },
    /// Every free device was taken by somebody else.
    #[error("{}: others took every loop device that was free; try again", path.display())]
    NoFreeDevice {
        /// The file.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error(
        "{}: the kernel does not attach it: {source}; sectors above 4096 bytes, and all of this before \
         Linux 5.8, are not possible",
        path.display()
    )]
    Configure {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Only loop devices can be detached.
    #[error("{}: is no loop device; name the device that attaching printed", path.display())]
    NotALoopDevice {
        /// What was named.
        path: PathBuf,
    },
    /// A partition goes with its device.
    #[error("{}: is a partition; detach {}", path.display(), whole.display())]
    Partition {
        /// The partition.
        path: PathBuf,
        /// Its device.
        whole: PathBuf,
    },
    /// Nothing is attached to it.
    #[error("{}: has nothing attached", device.display())]
    NotAttached {
        /// The device.
        device: PathBuf,
    },
    /// Somebody uses it.
    #[error("{}: is in use: {users}; end that first", device.display())]
    InUse {
        /// The device.
        device: PathBuf,
        /// What is known about who.
        users: Users,
    },
    /// The kernel refused to free it.
    #[error("{}: cannot be detached, which needs root: {source}", device.display())]
    Release {
        /// The device.
        device: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl AttachError {
    pub(super) const fn open(path: PathBuf, source: io::Error) -> Self {
        Self::Open { path, source }
    }
}

fn advice_on_opening(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "check the name",
        io::ErrorKind::ReadOnlyFilesystem => "attach it read-only",
        io::ErrorKind::PermissionDenied => "run as root, or attach it read-only",
        _ => "correct that first",
    }
}

impl Remediable for AttachError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Replaced { .. } | Self::NoFreeDevice { .. } => Remedy::Retry,
            Self::Configure { .. } | Self::Release { .. } => Remedy::Stop,
            _ => Remedy::Refused,
        }
    }
}

/// Who uses a device, as far as that can be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// Where it, or a partition of it, is mounted.
    pub mount_points: Vec<PathBuf>,
    /// The devices that are made of it, such as `dm-0`.
    pub holders: Vec<PathBuf>,
}

impl fmt::Display for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.mount_points.is_empty(), self.holders.is_empty()) {
            (false, false) => {
                write!(f, "mounted on {}, held by {}", Listed(&self.mount_points), Listed(&self.holders))
            }
            (false, true) => write!(f, "mounted on {}", Listed(&self.mount_points)),
            (true, false) => write!(f, "held by {}", Listed(&self.holders)),
            (true, true) => f.write_str("another program has it open (fuser -v names it), or it is swap"),
        }
    }
}

/// The first few of a list, and how many more there are.
struct Listed<'a>(&'a [PathBuf]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        for (index, path) in self.0.iter().take(SHOWN).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", path.display())?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

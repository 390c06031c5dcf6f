//! Why a disk is refused, and what to do about it: one reason, one variant.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::uses::{Composition, MountedAt};
use crate::disk::storage::{Overlap, StorageError};
use crate::error::{Remediable, Remedy};

/// How a disk is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To be read: a source.
    Reading,
    /// To be written: a target.
    Writing,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reading => "reading",
            Self::Writing => "writing",
        })
    }
}

/// How what is used stands to the disk that was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relation {
    /// It is that disk.
    Itself,
    /// It is a partition of it.
    Partition,
    /// It is the disk of that partition.
    WholeDisk,
    /// It shares bytes with it in another way.
    Shares(Box<Overlap>),
}

/// What is used, told from the disk that was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The disk, as it was named.
    pub path: PathBuf,
    /// The device or file that is used.
    pub used: PathBuf,
    /// How the two stand to each other.
    pub relation: Relation,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, used) = (self.path.display(), self.used.display());
        match &self.relation {
            Relation::Itself => write!(f, "{path}"),
            Relation::Partition => write!(f, "{path}: its partition {used}"),
            Relation::WholeDisk => write!(f, "{path}: its disk {used}"),
            Relation::Shares(overlap) => write!(f, "{path}: {used}, which shares its storage ({overlap}),"),
        }
    }
}

/// `at /mnt/x (ext4)`
impl fmt::Display for MountedAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.point {
            Some(point) => write!(f, "at {}", point.display())?,
            None => write!(f, "in a mount namespace that cannot be seen")?,
        }
        if let Some(process) = self.process {
            write!(f, " in the mount namespace of process {process}")?;
        }
        match self.others {
            0 => {}
            1 => write!(f, " and at 1 other place")?,
            others => write!(f, " and at {others} other places")?,
        }
        write!(f, " ({}{})", self.filesystem, if self.read_only { ", read-only" } else { "" })
    }
}

fn unmount(mounted: &MountedAt) -> String {
    match (&mounted.point, mounted.process) {
        (None, _) => "find the process that has it mounted, and unmount it there".to_owned(),
        (Some(point), None) => format!("unmount it: umount {}", point.display()),
        (Some(point), Some(process)) => {
            format!("unmount it there: nsenter --target {process} --mount umount {}", point.display())
        }
    }
}

fn decompose(composition: Composition, name: &str) -> String {
    match composition {
        Composition::LogicalVolume => format!("deactivate it: lvchange --activate n {name}"),
        Composition::Encryption => format!("close it: cryptsetup close {name}, or use {name} itself"),
        Composition::Multipath => format!("use {name} itself: it is all paths to this disk as one"),
        Composition::Mapped => format!("remove it: dmsetup remove {name}, or use {name} itself"),
        Composition::Raid => format!("stop it: mdadm --stop {name}, or use {name} itself"),
        Composition::Other => format!("stop {name}, or use it itself"),
    }
}

fn detach(place: &Place, is_file: bool) -> String {
    let used = place.used.display();
    if is_file {
        format!("detach it: losetup --detach {used}, or use {used} itself")
    } else {
        format!("detach it: losetup --detach {used}")
    }
}

/// Why a disk is refused. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is nothing of that name.
    #[error("{} does not exist: check the name; for a new image file as target add --create", .path.display())]
    Missing {
        /// The name.
        path: PathBuf,
    },
    /// A folder, a terminal, a FIFO, a socket.
    #[error("{} is {found}: name a block device or a regular file", .path.display())]
    NotADisk {
        /// The name.
        path: PathBuf,
        /// `a folder`.
        found: &'static str,
    },
    /// A device node without a device.
    #[error("{}: no device answers behind this name ({source}): connect or attach it first", .path.display())]
    NoDevice {
        /// The name.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// No right to it.
    #[error(
        "permission denied opening {} for {access}: run failback as root, or as a user or group \
         that may (ls -l {})", .path.display(), .path.display()
    )]
    PermissionDenied {
        /// The name.
        path: PathBuf,
        /// How.
        access: Access,
    },
    /// The file's attributes forbid writing, even to root.
    #[error("{} must not be changed (EPERM): see lsattr and clear what is set: chattr -i -a {}", .path.display(), .path.display())]
    Immutable {
        /// The name.
        path: PathBuf,
    },
    /// The kernel refuses writes to the device.
    #[error(
        "{} is a read-only device: make it writable (blockdev --setrw {}; a loop device is attached \
         anew without --read-only), or name another target", .path.display(), .path.display()
    )]
    ReadOnlyDevice {
        /// The name.
        path: PathBuf,
    },
    /// The filesystem that holds the file is mounted read-only.
    #[error("{} lies on a read-only filesystem: remount it read-write (mount -o remount,rw …), or name another target", .path.display())]
    ReadOnlyFilesystem {
        /// The name.
        path: PathBuf,
    },
    /// Opening failed for a reason of its own.
    #[error("cannot open {} for {access}: {source}", .path.display())]
    Open {
        /// The name.
        path: PathBuf,
        /// How.
        access: Access,
        /// What the kernel said.
        source: io::Error,
    },
    /// A filesystem on it is mounted.
    #[error("{place} is mounted {mounted}: {}", unmount(.mounted))]
    Mounted {
        /// What.
        place: Box<Place>,
        /// Where.
        mounted: Box<MountedAt>,
    },
    /// The machine swaps to it.
    #[error("{place} is in use as swap: stop that: swapoff {}", .place.used.display())]
    Swap {
        /// What.
        place: Box<Place>,
    },
    /// A loop device stands on it.
    #[error("{}: loop device {} is attached to the same storage ({}): {}",
        .place.path.display(), .place.used.display(), .backing.display(), detach(.place, *.is_file))]
    LoopAttached {
        /// The target and the loop device.
        place: Box<Place>,
        /// What the loop device stands on.
        backing: PathBuf,
        /// Whether the target is a regular file, so that the loop device could
        /// be the target in its place.
        is_file: bool,
    },
    /// A volume, an opened LUKS device, a RAID stands on it.
    #[error("{}: {name} stands on the same storage: {}", .place.path.display(), decompose(*.composition, .name))]
    Composed {
        /// The target and the device that stands on it.
        place: Box<Place>,
        /// What kind of device that is.
        composition: Composition,
        /// Its name: `/dev/mapper/home`.
        name: String,
    },
    /// Somebody holds the device exclusively, and we cannot see who.
    #[error(
        "{} is held exclusively by another program or by the kernel (a running failback, a lazily \
         unmounted filesystem, a storage pool): end it; fuser -v {} may name it", .path.display(), .path.display()
    )]
    HeldExclusively {
        /// The name.
        path: PathBuf,
    },
    /// A running program or a swap file (`ETXTBSY`).
    #[error("{} is a running program or an active swap file: name another file", .path.display())]
    Executing {
        /// The name.
        path: PathBuf,
    },
    /// Somebody holds a lock on the file.
    #[error("{} is locked by {}: end it; lslocks may name it", .path.display(), holder(*.process))]
    Locked {
        /// The name.
        path: PathBuf,
        /// Who, where the kernel tells.
        process: Option<u32>,
    },
    /// Locking or claiming failed for another reason.
    #[error("cannot claim {}: {source}", .path.display())]
    Claim {
        /// The name.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The machine's mounts and devices cannot be read.
    #[error(
        "cannot see who uses which disk: {}: {source}: see that /proc and /sys are mounted and readable",
        .path.display()
    )]
    Unseen {
        /// What cannot be read.
        path: PathBuf,
        /// What reading said.
        source: io::Error,
    },
    /// What a path stands for cannot be told.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

fn holder(process: Option<u32>) -> String {
    process.map_or_else(
        || "another program (a running failback, or a virtual machine that has it open)".to_owned(),
        |process| format!("process {process}"),
    )
}

impl Remediable for Refusal {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Storage(error) => error.remedy(),
            _ => Remedy::Refused,
        }
    }
}

/// Why a source changes while it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LiveReason {
    /// A filesystem on it is mounted read-write.
    Mounted {
        /// What.
        place: Box<Place>,
        /// Where.
        mounted: Box<MountedAt>,
    },
    /// The machine swaps to it.
    Swap {
        /// What.
        place: Box<Place>,
    },
    /// A program holds the lock of somebody who writes: a virtual machine runs on it.
    Written {
        /// The name.
        path: PathBuf,
    },
    /// Somebody holds the device exclusively, and we cannot see who.
    HeldExclusively {
        /// The name.
        path: PathBuf,
    },
}

impl fmt::Display for LiveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted { place, mounted } => write!(f, "{place} is mounted read-write {mounted}"),
            Self::Swap { place } => write!(f, "{place} is in use as swap"),
            Self::Written { path } => {
                write!(f, "{} is open for writing in another program (a virtual machine?)", path.display())
            }
            Self::HeldExclusively { path } => write!(
                f,
                "{} is held exclusively by another program or by the kernel, which may write to it",
                path.display()
            ),
        }
    }
}

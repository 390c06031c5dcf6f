//! Who else uses a disk: what must be known before a byte of it is written or trusted.
//!
//! ```text
//! Storage of the target ──┐
//! mounts, in all visible  │
//!   mount namespaces      ├─ share a byte? ──> Refusal: what, where, what to do
//! swap, loop devices,     │
//!   dm, md, bcache        ┘
//! O_EXCL / file lock ──────────────────────> Claim, held for the run
//! ```
//!
//! In: opened disks and their [`Storage`]. Out: a [`Refusal`], or a [`Claim`];
//! for a source its [`Liveness`]. Invariants: nothing is written here; where the
//! machine cannot be looked at, the target is refused; the claim comes from the
//! kernel and so also covers what cannot be seen from outside.
//! Never: unmounts, detaches or kills anything. Limits: those of `mounts` and
//! of [`storage`](crate::disk::storage).
//!
//! Order for a target: [`check_kind`], open, [`check_target`] (it explains best),
//! [`claim_target`]. Whoever came in between holds the device by then, so the claim
//! fails; whoever comes later is kept out by it. Only a loop device attached to
//! a target file after the check goes unseen: `losetup` asks nobody.

mod claim;
mod mounts;
mod refusal;
mod swaps;
#[cfg(test)]
mod tests;
mod uses;

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, fstatvfs};

pub use claim::{Claim, claim_source, claim_target};
pub(crate) use mounts::{Mount, mounts};
pub use refusal::{Access, LiveReason, Place, Refusal, Relation};
pub(crate) use swaps::swaps;
pub use uses::{Composition, MountedAt, Uses};
pub(crate) use uses::{btrfs_members, devices_of};

use crate::disk::storage::{DeviceNumber, Host, Overlap, Storage, is_block_device};
use crate::sys;
use uses::{Usage, Use};

/// Whether a source can change while it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Liveness {
    /// Nobody is known to write to it.
    #[default]
    Quiet,
    /// Somebody may write to it: its copy is fuzzy.
    Live {
        /// Who.
        reason: LiveReason,
    },
}

/// Refuses a path that names no disk, without opening it: opening a FIFO waits,
/// opening a tape or a watchdog acts.
///
/// # Errors
/// [`Refusal::Missing`], [`Refusal::NotADisk`], [`Refusal::PermissionDenied`].
pub fn check_kind(path: &Path) -> Result<(), Refusal> {
    let metadata = std::fs::metadata(path).map_err(|error| explain_open(path, Access::Reading, error))?;
    is_device(path, &metadata).map(|_| ())
}

/// Whether an opened file is a block device or a regular file; all else is refused.
fn is_device(path: &Path, metadata: &Metadata) -> Result<bool, Refusal> {
    let kind = metadata.file_type();
    let found = if kind.is_file() {
        return Ok(false);
    } else if kind.is_block_device() {
        return Ok(true);
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_char_device() {
        "a character device"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "no kind of file that holds a disk"
    };
    Err(Refusal::NotADisk { path: path.to_owned(), found })
}

/// Says what an error of opening `path` means and what helps.
#[must_use]
pub fn explain_open(path: &Path, access: Access, source: io::Error) -> Refusal {
    let owned = path.to_owned();
    let writing = access == Access::Writing;
    let metadata = std::fs::metadata(path).ok();
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ENOTDIR) => Refusal::Missing { path: owned },
        Some(Errno::EISDIR) => Refusal::NotADisk { path: owned, found: "a folder" },
        Some(Errno::ENXIO | Errno::ENODEV | Errno::ENOMEDIUM) => Refusal::NoDevice { path: owned, source },
        Some(Errno::ETXTBSY) => Refusal::Executing { path: owned },
        Some(Errno::EBUSY) => Refusal::HeldExclusively { path: owned },
        Some(Errno::EROFS | Errno::EACCES | Errno::EPERM)
            if writing && metadata.as_ref().is_some_and(shows_read_only) =>
        {
            Refusal::ReadOnlyDevice { path: owned }
        }
        Some(Errno::EROFS) => Refusal::ReadOnlyFilesystem { path: owned },
        Some(Errno::EPERM) if writing && metadata.is_some_and(|metadata| metadata.is_file()) => {
            Refusal::Immutable { path: owned }
        }
        Some(Errno::EACCES | Errno::EPERM) => Refusal::PermissionDenied { path: owned, access },
        _ => Refusal::Open { path: owned, access, source },
    }
}

/// Whether sysfs calls this device read-only.
fn shows_read_only(metadata: &Metadata) -> bool {
    is_block_device(metadata)
        && Host::here()
            .device(DeviceNumber::from_raw(metadata.rdev()))
            .is_ok_and(|device| device.attribute("ro").is_some_and(|text| text.trim() == "1"))
}

/// Refuses a target that cannot or must not be written: no disk, read-only, or
/// used by anyone in any way that can be seen. `storage` is that of the whole
/// target. For a target of several files see [`Uses`].
///
/// # Errors
/// The [`Refusal`].
pub fn check_target(path: &Path, file: &File, storage: &Storage) -> Result<(), Refusal> {
    check_writable(path, file)?;
    Uses::scan(&Host::here())?.check_target(path, file, storage)
}

/// Refuses a target that is no disk or read-only.
///
/// # Errors
/// The [`Refusal`].
pub fn check_writable(path: &Path, file: &File) -> Result<(), Refusal> {
    let failed = |source| Refusal::Open { path: path.to_owned(), access: Access::Writing, source };
    if is_device(path, &file.metadata().map_err(failed)?)? {
        if sys::device_is_read_only(file).map_err(failed)? {
            return Err(Refusal::ReadOnlyDevice { path: path.to_owned() });
        }
        return Ok(());
    }
    let filesystem = fstatvfs(file).map_err(|errno| failed(errno.into()))?;
    if filesystem.flags().contains(FsFlags::ST_RDONLY) {
        return Err(Refusal::ReadOnlyFilesystem { path: path.to_owned() });
    }
    Ok(())
}

/// Whether a source can change while it is read.
///
/// # Errors
/// [`Refusal::NotADisk`], or [`Refusal::Unseen`] where the machine cannot be
/// looked at.
pub fn check_source(path: &Path, file: &File, storage: &Storage) -> Result<Liveness, Refusal> {
    Uses::scan(&Host::here())?.check_source(path, file, storage)
}

impl Uses {
    /// Refuses a target that anyone uses; for one look at the machine and
    /// several files. [`check_writable`] is not part of it.
    ///
    /// # Errors
    /// The [`Refusal`].
    pub fn check_target(&self, path: &Path, file: &File, storage: &Storage) -> Result<(), Refusal> {
        self.judge_target(&Named::new(path, file, self.host())?, storage)
    }

    fn judge_target(&self, named: &Named<'_>, storage: &Storage) -> Result<(), Refusal> {
        for (found, overlap) in self.sharing(storage) {
            let below = found.number.is_some_and(|number| storage.goes_through(number));
            let place = Box::new(named.place(found, overlap));
            match &found.usage {
                Usage::Mounted(mounted) => {
                    return Err(Refusal::Mounted { place, mounted: Box::new(mounted.clone()) });
                }
                Usage::Swap => return Err(Refusal::Swap { place }),
                // The target itself, or what it stands on.
                Usage::Loop { .. } | Usage::Composed { .. } if below => {}
                Usage::Loop { backing } => {
                    let is_file = named.number.is_none();
                    return Err(Refusal::LoopAttached { place, backing: backing.clone(), is_file });
                }
                Usage::Composed { composition, name } => {
                    return Err(Refusal::Composed { place, composition: *composition, name: name.clone() });
                }
            }
        }
        Ok(())
    }

    /// Whether a source can change while it is read; for one look at the
    /// machine and several files.
    ///
    /// # Errors
    /// As [`check_source`].
    pub fn check_source(&self, path: &Path, file: &File, storage: &Storage) -> Result<Liveness, Refusal> {
        let named = Named::new(path, file, self.host())?;
        let mut explained = false;
        for (found, overlap) in self.sharing(storage) {
            let place = Box::new(named.place(found, overlap));
            match &found.usage {
                Usage::Mounted(mounted) if !mounted.read_only => {
                    return Ok(Liveness::Live {
                        reason: LiveReason::Mounted { place, mounted: Box::new(mounted.clone()) },
                    });
                }
                Usage::Swap => return Ok(Liveness::Live { reason: LiveReason::Swap { place } }),
                Usage::Mounted(_) | Usage::Composed { .. } => explained = true,
                Usage::Loop { .. } => {}
            }
        }
        let reason = if named.number.is_none() {
            claim::is_being_written(file).then(|| LiveReason::Written { path: path.to_owned() })
        } else {
            (!explained && claim::is_held_exclusively(file))
                .then(|| LiveReason::HeldExclusively { path: path.to_owned() })
        };
        Ok(reason.map_or(Liveness::Quiet, |reason| Liveness::Live { reason }))
    }

    /// All uses that share a byte with `storage`.
    fn sharing<'a>(&'a self, storage: &'a Storage) -> impl Iterator<Item = (&'a Use, Overlap)> {
        self.list().iter().filter_map(|found| Some((found, storage.overlap(&found.storage)?)))
    }
}

/// The disk as it was named, to tell others' uses from it.
struct Named<'a> {
    path: &'a Path,
    /// Of a block device: its number, and that of the disk it is a partition of.
    number: Option<DeviceNumber>,
    disk: Option<DeviceNumber>,
    /// `st_dev` and `st_ino`.
    file: (u64, u64),
}

impl<'a> Named<'a> {
    fn new(path: &'a Path, file: &File, host: &Host) -> Result<Self, Refusal> {
        let failed = |source| Refusal::Open { path: path.to_owned(), access: Access::Reading, source };
        let metadata = file.metadata().map_err(failed)?;
        let number = is_device(path, &metadata)?.then(|| DeviceNumber::from_raw(metadata.rdev()));
        let device = number.map(|number| host.device(number)).transpose()?;
        let disk = device.and_then(|device| device.partition_of).map(|(disk, _)| disk);
        Ok(Self { path, number, disk, file: (metadata.dev(), metadata.ino()) })
    }

    fn place(&self, found: &Use, overlap: Overlap) -> Place {
        let is_this_file =
            || std::fs::metadata(&found.node).is_ok_and(|other| (other.dev(), other.ino()) == self.file);
        let relation = match (self.number, found.number) {
            (Some(own), Some(other)) if own == other => Relation::Itself,
            (Some(own), Some(_)) if found.disk == Some(own) => Relation::Partition,
            (Some(_), Some(other)) if self.disk == Some(other) => Relation::WholeDisk,
            (None, None) if is_this_file() => Relation::Itself,
            _ => Relation::Shares(Box::new(overlap)),
        };
        Place { path: self.path.to_owned(), used: found.node.clone(), relation }
    }
}

//! Images as block devices: a raw image, or one flat extent of a VMDK image,
//! behind a loop device.
//!
//! In: an image's path, [`Options`]. Out: a loop device that stays until it is
//! [`detach`]ed, whoever has made it. Invariants: a device that could not be set
//! up as asked is free again before the error is returned; the same bytes are
//! never behind two devices unless both are read-only; a device in use stays as
//! it is. Never: mounts, formats, attaches part of a sector.
//! Limits: `ATTEMPTS` tries for a free device, `RELEASE_WAIT` for the last
//! program to close one.
//!
//! ```text
//! disk.vmdk ─locate─> disk-flat.vmdk, offset, length ─LOOP_CONFIGURE─> /dev/loop7
//! disk.img ────────────────────────────┘
//! ```

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use loopdev::{LoopControl, LoopDevice};

use super::vmdk::FileIdentity;
use crate::sys::loopback::{self, Binding};
use crate::sys::{OpenMode, open_disk_file};
use crate::unit::SectorSize;

mod backing;
mod detach;
mod error;
mod listing;

use backing::Backing;
pub use detach::detach;
pub use error::{AttachError, Users};
pub use listing::{Attachment, list_for};

/// Tries to get a free loop device. Each loss of a race costs one, and as many
/// programs would have to win in a row.
const ATTEMPTS: u32 = 64;

/// Between tries: a device node that is being made needs some milliseconds.
const ATTEMPT_WAIT: Duration = Duration::from_millis(5);

/// How long a device that is being detached may stay open elsewhere: the
/// system's own probes of a device that changed take well below a second.
const RELEASE_WAIT: Duration = Duration::from_secs(3);

/// How an image is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Refuse writes.
    pub read_only: bool,
    /// Logical sector size of the device: 512 to 4096 bytes on most kernels.
    pub sector_size: SectorSize,
    /// Bypass the page cache for the image, where its filesystem can.
    pub direct_io: bool,
    /// Where the device starts, in bytes of the raw image or of the extent.
    pub offset: u64,
    /// How long it is, in bytes; all the rest where `None`.
    pub size_limit: Option<u64>,
    /// Make a device of each partition too.
    pub scan_partitions: bool,
}

impl Default for Options {
    /// All of the image, writable, 512-byte sectors, direct I/O, no partitions.
    fn default() -> Self {
        Self {
            read_only: false,
            sector_size: SectorSize::BYTES_512,
            direct_io: true,
            offset: 0,
            size_limit: None,
            scan_partitions: false,
        }
    }
}

/// An attached image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The loop device, such as `/dev/loop7`.
    pub device: PathBuf,
    /// The file behind it: the image, or the extent of a VMDK image.
    pub backing: PathBuf,
    /// Its first byte in that file.
    pub offset: u64,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its logical sector size.
    pub sector_size: SectorSize,
    /// Whether it refuses writes.
    pub read_only: bool,
    /// Whether the page cache is bypassed. Where that was asked for and is not
    /// so, the filesystem cannot at this offset and sector size.
    pub direct_io: bool,
}

/// Attaches the raw image or the VMDK image with one flat extent at `path`.
///
/// # Errors
/// Where the image cannot be read as one range of one file, does not consist of
/// whole sectors, is attached already, or where the system has no loop device
/// for this caller. No device stays behind.
pub fn attach(path: &Path, options: Options) -> Result<Attached, AttachError> {
    let backing = Backing::find(path, options)?;
    refuse_second(&backing, options)?;
    let file = open(&backing, options)?;
    let control = LoopControl::open().map_err(|source| AttachError::Control { source })?;
    let binding = Binding {
        backing: &file,
        offset: backing.range.offset(),
        size_limit: backing.size_limit,
        sector_size: options.sector_size,
        read_only: options.read_only,
        direct_io: options.direct_io,
        scan_partitions: options.scan_partitions,
    };
    let bound = Bound::new(&control, &binding, &backing.path)?;
    let failed = |source| AttachError::Configure { path: backing.path.clone(), source };
    let status = loopback::status(&bound.device).map_err(failed)?;
    let status = status.ok_or_else(|| failed(io::ErrorKind::ConnectionAborted.into()))?;
    let device = bound.device.path().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    bound.keep();
    Ok(Attached {
        device,
        offset: backing.range.offset(),
        size_bytes: backing.range.length(),
        backing: backing.path,
        sector_size: options.sector_size,
        read_only: status.read_only,
        direct_io: status.direct_io,
    })
}

/// Two caches over the same bytes lose writes.
fn refuse_second(backing: &Backing, options: Options) -> Result<(), AttachError> {
    let harmful = |other: &Attachment| {
        !(options.read_only && other.read_only) && other.range.intersection(backing.range).is_some()
    };
    match listing::list_identities(&[backing.identity]).into_iter().find(harmful) {
        Some(other) => Err(AttachError::AlreadyAttached { path: backing.path.clone(), device: other.device }),
        None => Ok(()),
    }
}

fn open(backing: &Backing, options: Options) -> Result<File, AttachError> {
    let path = || backing.path.clone();
    let mode = OpenMode { write: !options.read_only, direct: false, exclusive: false };
    let file = open_disk_file(&backing.path, mode).map_err(|source| AttachError::open(path(), source))?;
    let metadata = file.metadata().map_err(|source| AttachError::open(path(), source))?;
    if FileIdentity::of(&metadata) != backing.identity {
        return Err(AttachError::Replaced { path: path() });
    }
    Ok(file)
}

/// A loop device that is set up, and free again unless it is kept.
struct Bound {
    device: LoopDevice,
    kept: bool,
}

impl Bound {
    fn new(control: &LoopControl, binding: &Binding<'_>, path: &Path) -> Result<Self, AttachError> {
        for _ in 0..ATTEMPTS {
            match control.next_free() {
                Ok(device) => match loopback::bind(&device, binding) {
                    Ok(()) => return Ok(Self { device, kept: false }),
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                    Err(source) => {
                        return Err(AttachError::Configure { path: path.to_owned(), source });
                    }
                },
                // Free a moment ago, or so new that its node is not there yet.
                Err(error) if lost_race(&error) => {}
                Err(source) => return Err(AttachError::Control { source }),
            }
            std::thread::sleep(ATTEMPT_WAIT);
        }
        Err(AttachError::NoFreeDevice { path: path.to_owned() })
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if !self.kept {
            // The error that led here is what the caller must see.
            let _ = self.device.detach();
        }
    }
}

fn lost_race(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENXIO | libc::EBUSY | libc::ENODEV))
}

#[cfg(test)]
mod tests;

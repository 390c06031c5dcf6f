//! Which loop devices hold which files, by the kernel's word.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::backing::Backing;
use super::error::AttachError;
use crate::disk::vmdk::FileIdentity;
use crate::sys::{OpenMode, loopback, open_disk_file};
use crate::unit::Extent;

/// A loop device over bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The device.
    pub device: PathBuf,
    /// The file behind it, as the kernel calls it now.
    pub backing: PathBuf,
    /// The bytes of the file.
    pub range: Extent,
    /// Whether it refuses writes.
    pub read_only: bool,
    /// Whether the page cache is bypassed.
    pub direct_io: bool,
}

/// The loop devices over the image at `path`: over the file itself, by whatever
/// name, or over any extent of a VMDK image.
///
/// # Errors
/// Where the image cannot be read.
pub fn list_for(path: &Path) -> Result<Vec<Attachment>, AttachError> {
    Ok(list_identities(&Backing::identities(path)?))
}

/// The loop devices over any of `files`.
pub(super) fn list_identities(files: &[FileIdentity]) -> Vec<Attachment> {
    // Without sysfs there is nothing to list, and nothing else works either.
    let Ok(devices) = fs::read_dir("/sys/block") else { return Vec::new() };
    let mut found: Vec<_> =
        devices.flatten().filter_map(|device| attachment(&device.path(), files)).collect();
    found.sort_by(|one, other| one.device.cmp(&other.device));
    found
}

/// The attachment of the device that `system` in sysfs describes, if it is a
/// loop device over one of `files`. It may vanish at any moment.
fn attachment(system: &Path, files: &[FileIdentity]) -> Option<Attachment> {
    let read = |name: &str| fs::read_to_string(system.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let backing = read("loop/backing_file")?;
    let backing = PathBuf::from(backing.strip_suffix('\n').unwrap_or(&backing));
    let device = Path::new("/dev").join(system.file_name()?);
    let identity = match identity(&device) {
        Ok(identity) => identity?,
        // Whoever may not ask the device can still look at the path.
        Err(_) => FileIdentity::of(&backing.metadata().ok()?),
    };
    if !files.contains(&identity) {
        return None;
    }
    let offset = number("loop/offset")?;
    // In sectors of 512 bytes, whatever those of the device are.
    let length = number("size")?.saturating_mul(512);
    Some(Attachment {
        range: Extent::new(offset, length)?,
        read_only: number("ro")? != 0,
        direct_io: number("loop/dio")? != 0,
        device,
        backing,
    })
}

fn identity(device: &Path) -> io::Result<Option<FileIdentity>> {
    let device = open_disk_file(device, OpenMode { write: false, direct: false, exclusive: false })?;
    let status = loopback::status(&device)?;
    Ok(status.map(|status| FileIdentity { device: status.filesystem, inode: status.inode }))
}

//! Freeing a loop device, unless somebody uses it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use loopdev::LoopDevice;

use super::RELEASE_WAIT;
use super::error::{AttachError, Users};
use crate::sys::loopback::{self, Status};
use crate::sys::{OpenMode, open_disk_file};

/// Between looks at a device that is being freed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Detaches the image from the loop device `device`.
///
/// # Errors
/// Where it is no loop device, has nothing attached, or is in use: mounted, held
/// by another device, or open in another program for longer than a moment. Then
/// it stays attached.
pub fn detach(device: &Path) -> Result<(), AttachError> {
    let system = examine(device)?;
    let release = |source| AttachError::Release { device: device.to_owned(), source };
    // The claim fails while the device or a partition is mounted or held, and
    // keeps others from doing so until the device is free.
    let claim = match open(device, true) {
        Ok(claim) => claim,
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            return Err(AttachError::InUse { device: device.to_owned(), users: users_of(&system) });
        }
        Err(source) => return Err(release(source)),
    };
    let before = loopback::status(&claim).map_err(release)?;
    let before = before.ok_or_else(|| AttachError::NotAttached { device: device.to_owned() })?;
    LoopDevice::open(device).and_then(|device| device.detach()).map_err(release)?;
    drop(claim);
    wait_until_free(device, before)
}

/// Waits for the last program that has `device` open; where that takes too long,
/// leaves it attached as `before`.
fn wait_until_free(device: &Path, before: Status) -> Result<(), AttachError> {
    let release = |source| AttachError::Release { device: device.to_owned(), source };
    let deadline = Instant::now() + RELEASE_WAIT;
    loop {
        let opened = match open(device, false) {
            Ok(opened) => opened,
            // A device on its way to be free cannot be opened, and a free one
            // may be removed.
            Err(error) if is_gone(&error) => return Ok(()),
            Err(source) => return Err(release(source)),
        };
        if loopback::status(&opened).map_err(release)? != Some(before) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            loopback::keep_bound(&opened).map_err(release)?;
            return Err(AttachError::InUse { device: device.to_owned(), users: Users::default() });
        }
        drop(opened);
        std::thread::sleep(LOOK_EVERY);
    }
}

fn open(device: &Path, exclusive: bool) -> io::Result<File> {
    open_disk_file(device, OpenMode { write: false, direct: false, exclusive })
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENOENT | libc::ENODEV))
}

/// The folder in sysfs of a loop device that has something attached.
fn examine(device: &Path) -> Result<PathBuf, AttachError> {
    let path = || device.to_owned();
    let metadata = device.metadata().map_err(|source| AttachError::open(path(), source))?;
    if !metadata.file_type().is_block_device() {
        return Err(AttachError::NotALoopDevice { path: path() });
    }
    let number = metadata.rdev();
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    let link = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let system = link.canonicalize().map_err(|source| AttachError::open(link, source))?;
    if system.join("loop").is_dir() {
        return Ok(system);
    }
    match (system.parent(), system.parent().and_then(Path::file_name)) {
        (Some(parent), Some(name)) if parent.join("loop").is_dir() => {
            Err(AttachError::Partition { path: path(), whole: Path::new("/dev").join(name) })
        }
        _ if major == LOOP_MAJOR => Err(AttachError::NotAttached { device: path() }),
        _ => Err(AttachError::NotALoopDevice { path: path() }),
    }
}

/// The major number of loop devices, from the kernel's list of devices.
const LOOP_MAJOR: u64 = 7;

/// Who uses the device that `system` in sysfs describes, or a partition of it.
fn users_of(system: &Path) -> Users {
    let mut parts: Vec<PathBuf> = fs::read_dir(system)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    parts.retain(|part| part.join("partition").exists());
    parts.push(system.to_owned());
    let numbers: Vec<String> =
        parts.iter().filter_map(|part| fs::read_to_string(part.join("dev")).ok()).collect();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // Identifier, parent, major:minor, root, mount point.
    let mount_point = |line: &str| {
        let mut fields = line.split(' ').skip(2);
        let number = fields.next()?;
        let mounted = numbers.iter().any(|ours| ours.trim() == number);
        fields.nth(1).filter(|_| mounted).map(PathBuf::from)
    };
    let holders = |part: &PathBuf| {
        let entries = fs::read_dir(part.join("holders")).into_iter().flatten().flatten();
        entries.map(|entry| PathBuf::from(entry.file_name())).collect::<Vec<_>>()
    };
    Users {
        mount_points: mounts.lines().filter_map(mount_point).collect(),
        holders: parts.iter().flat_map(holders).collect(),
    }
}

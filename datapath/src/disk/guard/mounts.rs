//! Which filesystems are mounted, in every mount namespace that we may look into.
//!
//! In: the text of `mountinfo` files. Out: [`Mount`]s. Invariants: each view
//! (namespace and root folder) is read once; processes that vanish meanwhile are
//! none. Limits: [`MOUNTINFO_BYTES_MAX`] for each view; more is an error, because
//! a mount that was not read is a mount that was not seen.
//!
//! A namespace that no process lives in (kept by a bind mount of its file), a
//! process that we may not look at, and a filesystem unmounted lazily (`umount -l`)
//! are invisible here. A target is then still protected by its exclusive claim.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::disk::storage::{DeviceNumber, Host};
use crate::unit::to_u64;

/// One view of mounts in bytes: 300,000 mounts of 200 bytes each; the kernel's
/// own default is 100,000 mounts (`fs.mount-max`).
const MOUNTINFO_BYTES_MAX: u64 = 64 << 20;

/// A mounted filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The number of this mount, which `fdinfo` tells for an opened file of it.
    pub(crate) id: u64,
    /// `st_dev` of its files; major 0 where that is no block device.
    pub(crate) device: DeviceNumber,
    /// What was mounted, as the one who mounted it named it.
    pub(crate) source: PathBuf,
    /// Where.
    pub(crate) point: PathBuf,
    /// `ext4`, `btrfs`, …
    pub(crate) filesystem: String,
    /// The filesystem itself is read-only, not merely this mount of it.
    pub(crate) read_only: bool,
    /// A process in whose mount namespace it is, where that is not ours.
    pub(crate) process: Option<u32>,
}

/// All mounts: first those of our namespace, then those of others.
pub(crate) fn mounts(host: &Host) -> io::Result<Vec<Mount>> {
    let processes = host.path("proc");
    let mut seen = BTreeSet::new();
    let own = processes.join("self");
    seen.insert(view(&own));
    let mut mounts = parse(&read(&own.join("mountinfo"))?, None);
    for entry in fs::read_dir(&processes)?.flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let folder = entry.path();
        let view = view(&folder);
        // Without the right to see the namespace there is none to see its mounts.
        if view.0.is_none() || seen.contains(&view) {
            continue;
        }
        match read(&folder.join("mountinfo")) {
            Ok(text) => mounts.extend(parse(&text, Some(process))),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Err(error),
            // Ended, or not ours to look at: another process may show this view.
            Err(_) => continue,
        }
        seen.insert(view);
    }
    Ok(mounts)
}

/// A process sees the mounts of its namespace below its root folder.
fn view(process: &Path) -> (Option<PathBuf>, Option<PathBuf>) {
    (fs::read_link(process.join("ns/mnt")).ok(), fs::read_link(process.join("root")).ok())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MOUNTINFO_BYTES_MAX + 1).read_to_end(&mut text)?;
    if to_u64(text.len()) > MOUNTINFO_BYTES_MAX {
        let message = format!("{} is larger than {MOUNTINFO_BYTES_MAX} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

/// Reads a `mountinfo` file (proc_pid_mountinfo(5)); lines of another shape are
/// left out.
pub(super) fn parse(text: &[u8], process: Option<u32>) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(|line| parse_line(line, process)).collect()
}

/// `36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue`
fn parse_line(line: &[u8], process: Option<u32>) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = DeviceNumber::parse(std::str::from_utf8(fields.nth(1)?).ok()?)?;
    let point = path(fields.nth(1)?);
    let _own_options = fields.next()?;
    fields.by_ref().find(|field| field == b"-")?;
    let filesystem = String::from_utf8_lossy(&unescape(fields.next()?)).into_owned();
    let source = path(fields.next()?);
    let options = fields.next().unwrap_or_default();
    let read_only = options.split(|byte| *byte == b',').any(|option| option == b"ro");
    Some(Mount { id, device, source, point, filesystem, read_only, process })
}

fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

/// Undoes the kernel's `\040` for spaces and the like. What is no escape stays.
pub(super) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|digits| digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        let value = digits.and_then(|digits| {
            u8::try_from(digits.iter().fold(0_u16, |value, digit| value * 8 + u16::from(digit - b'0'))).ok()
        });
        match value {
            Some(value) if *first == b'\\' => {
                plain.push(value);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

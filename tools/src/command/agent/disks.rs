//! The disks of a machine, and which of them are worth protecting.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use failback_datapath::quiesce::{FreezePlan, Unquiesced};
use failback_datapath::role::agent::{DiskSettings, Tracking};
use failback_datapath::track::Device;

use crate::config::agent::Exclude;
use crate::control::Failed;
use crate::exit::Exit;

/// Drivers whose devices hold nothing of their own: they are protected by what
/// they rest on, or forgotten at the next boot.
const NO_DISKS: [&str; 7] = ["loop", "ram", "zram", "dm-", "md", "sr", "fd"];

/// Models of disks that a cloud gives with a machine and forgets with it.
const TEMPORARY: [&str; 3] = ["Amazon EC2 NVMe Instance Storage", "Microsoft NVMe Direct Disk", "nvme_card"];

/// Where Azure names the one it gives.
const AZURE_TEMPORARY: &str = "/dev/disk/azure/resource";

/// The disks of this machine.
pub fn all() -> Result<Vec<PathBuf>, Failed> {
    let disks = all_in(Path::new("/sys/block"));
    disks.map_err(|error| (Exit::Failed, format!("/sys/block cannot be read: {error}")))
}

/// All of them but those that are excluded, named as the kernel names them; and
/// why the others are left out.
pub fn protected(exclude: &Exclude) -> Result<(Vec<DiskSettings>, Vec<String>), Failed> {
    let (mut disks, mut left_out) = (Vec::new(), Vec::new());
    for device in all()? {
        if let Some(why) = why_not(&device, exclude) {
            left_out.push(format!("{} is not protected: {why}", device.display()));
            continue;
        }
        let name = device.strip_prefix("/dev").unwrap_or(&device).to_string_lossy().replace('/', "_");
        disks.push(DiskSettings { name, device, tracking: Tracking::Auto, chunk: None });
    }
    if disks.is_empty() {
        return Err((Exit::Refused, "no disk is left to protect: name one with [[disk]]".to_owned()));
    }
    Ok((disks, left_out))
}

fn why_not(device: &Path, exclude: &Exclude) -> Option<&'static str> {
    let same = |other: &Path| fs::canonicalize(other).is_ok_and(|other| other == device);
    if exclude.devices.iter().any(|other| other == device || same(other)) {
        return Some("it is excluded");
    }
    if exclude.temporary && (same(Path::new(AZURE_TEMPORARY)) || is_temporary(device)) {
        return Some("it is a temporary disk of the cloud");
    }
    (exclude.swap && is_swap(device)).then_some("it holds swap and nothing that is mounted")
}

fn is_temporary(device: &Path) -> bool {
    let Ok(name) = device.strip_prefix("/dev") else { return false };
    let entry = name.to_string_lossy().replace('/', "!");
    let model = fs::read_to_string(Path::new("/sys/block").join(entry).join("device/model"));
    model.is_ok_and(|model| TEMPORARY.contains(&model.trim()))
}

fn is_swap(device: &Path) -> bool {
    let plan = Device::find(device).ok().and_then(|device| FreezePlan::of(&[device.number]).ok());
    plan.is_some_and(|plan| {
        let only_swap = plan.unquiesced().iter().all(|writer| matches!(writer, Unquiesced::Swap(_)));
        plan.superblocks().is_empty() && !plan.unquiesced().is_empty() && only_swap
    })
}

/// The disks that hold something of their own.
fn all_in(blocks: &Path) -> io::Result<Vec<PathBuf>> {
    let mut disks = Vec::new();
    for entry in fs::read_dir(blocks)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let sectors = fs::read_to_string(entry.path().join("size")).unwrap_or_default();
        let is_empty = sectors.trim() == "0";
        if !is_empty && !NO_DISKS.iter().any(|prefix| is_of(&name, prefix)) {
            // The kernel writes `!` for the `/` of names such as cciss/c0d0.
            disks.push(Path::new("/dev").join(name.replace('!', "/")));
        }
    }
    disks.sort();
    Ok(disks)
}

/// Whether `name` is one of `prefix` with a number: `md0`, but not `mdsomething`.
fn is_of(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_holds_something_of_its_own_is_a_disk() {
        let folder = tempfile::tempdir().expect("a scratch directory");
        for (name, sectors) in [("sda", "8"), ("loop0", "8"), ("dm-0", "8"), ("md127", "8"), ("sdb", "0")] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
            fs::write(folder.path().join(name).join("size"), format!("{sectors}\n")).expect("a file");
        }
        for name in ["cciss!c0d0", "mdisk"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let found = all_in(folder.path()).expect("it can be read");
        assert_eq!(found, ["/dev/cciss/c0d0", "/dev/mdisk", "/dev/sda"].map(PathBuf::from));
    }

    #[test]
    fn what_is_excluded_is_told() {
        let exclude = Exclude { devices: vec![PathBuf::from("/dev/nothing")], ..Exclude::default() };
        assert_eq!(why_not(Path::new("/dev/nothing"), &exclude), Some("it is excluded"));
        assert_eq!(why_not(Path::new("/dev/another"), &exclude), None);
    }
}

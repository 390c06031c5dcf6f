//! The guard against devices composed of others: device mapper, RAID, btrfs.
//!
//! Many kernels lack one or the other; such a test says so and passes, whatever
//! `FAILBACK_REQUIRE` demands, since a kernel cannot be installed.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare itself has failed")]

use std::path::PathBuf;

use super::rig::{
    MEBIBYTE, Undo, able, attach, check, image, is_there, lacks, liveness, make_filesystem, mount, run,
    storage,
};
use crate::disk::guard::{Composition, LiveReason, Liveness, Refusal};
use crate::disk::storage::identity;

/// Sectors of 512 bytes in a MiB.
const SECTORS: u64 = MEBIBYTE / 512;

/// Makes a mapped device of a table; `name` is made unique.
fn map(name: &str, table: &str) -> (PathBuf, Undo) {
    let name = format!("failback-{}-{name}", std::process::id());
    run("dmsetup", &["create", &name, "--noudevsync", "--table", table]).unwrap();
    // Without udev, nobody else makes the node.
    run("dmsetup", &["mknodes", &name]).unwrap();
    let undo = Undo::by(&["dmsetup", "remove", "--noudevsync", &name]);
    (PathBuf::from(format!("/dev/mapper/{name}")), undo)
}

fn has_device_mapper(targets: &[&str]) -> bool {
    if !able(&["dmsetup", "losetup", "mkfs.ext4", "mount"]) {
        return false;
    }
    let known = run("dmsetup", &["targets"]).unwrap_or_default();
    let there = |target: &&str| known.lines().any(|line| line.split_whitespace().next() == Some(target));
    if targets.iter().all(there) {
        return true;
    }
    lacks(&format!("a kernel with the device-mapper targets {}", targets.join(", ")));
    false
}

#[test]
fn volumes_side_by_side_on_one_disk_are_apart() {
    if !has_device_mapper(&["linear"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (disk, _disk) = attach(&image(&folder, "disk"), &[]);
    let disk_name = disk.display();
    let half = 8 * SECTORS;
    check(&disk).unwrap();
    let (first, _first) = map("first", &format!("0 {half} linear {disk_name} 0"));
    let (second, _second) = map("second", &format!("0 {half} linear {disk_name} {half}"));
    let refusal = check(&disk).unwrap_err();
    assert!(matches!(refusal, Refusal::Composed { composition: Composition::Mapped, .. }), "{refusal}");
    assert!(refusal.to_string().contains("dmsetup remove /dev/mapper/failback-"), "{refusal}");
    assert_eq!(storage(&first).overlap(&storage(&second)), None);
    assert!(storage(&first).overlap(&storage(&disk)).is_some());
    assert!(storage(&second).overlap(&storage(&disk)).is_some());
    make_filesystem(&second);
    let _mounted = mount(&second, &folder.path().join("point"), "rw");
    check(&first).unwrap();
    assert_eq!(liveness(&first), Liveness::Quiet);
    for path in [&second, &disk] {
        assert!(matches!(check(path), Err(Refusal::Mounted { .. })), "{}", path.display());
        assert!(matches!(liveness(path), Liveness::Live { reason: LiveReason::Mounted { .. } }));
    }
    // A second mapping of the same bytes is the same storage.
    let (alias, _alias) = map("alias", &format!("0 {SECTORS} linear {disk_name} {SECTORS}"));
    assert!(storage(&first).overlap(&storage(&alias)).is_some());
    assert!(matches!(check(&first), Err(Refusal::Composed { .. })));
    assert_eq!(storage(&alias).overlap(&storage(&second)), None);
    let (striped, _striped) =
        map("striped", &format!("0 {SECTORS} striped 2 8 {disk_name} 0 {disk_name} {half}"));
    for path in [&first, &second, &disk] {
        assert!(storage(&striped).overlap(&storage(path)).is_some());
    }
    assert_eq!(storage(&striped).overlap(&storage(&alias)), None);
}

#[test]
fn thin_volumes_of_one_pool_are_apart() {
    if !has_device_mapper(&["linear", "thin-pool", "thin"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (disk, _disk) = attach(&image(&folder, "disk"), &[]);
    let disk_name = disk.display();
    let (records, _records) = map("records", &format!("0 {} linear {disk_name} 0", 4 * SECTORS));
    let (data, _data) = map("data", &format!("0 {} linear {disk_name} {}", 12 * SECTORS, 4 * SECTORS));
    let size = 12 * SECTORS;
    let table = format!("0 {size} thin-pool {} {} 128 0", records.display(), data.display());
    let (pool, _pool) = map("pool", &table);
    let pool_name = pool.display();
    for volume in ["0", "1"] {
        run("dmsetup", &["message", pool.to_str().unwrap(), "0", &format!("create_thin {volume}")]).unwrap();
    }
    let (one, _one) = map("one", &format!("0 {} thin {pool_name} 0", 8 * SECTORS));
    let (two, _two) = map("two", &format!("0 {} thin {pool_name} 1", 8 * SECTORS));
    assert_eq!(storage(&one).overlap(&storage(&two)), None);
    for path in [&pool, &data, &disk] {
        assert!(storage(&one).overlap(&storage(path)).is_some(), "{}", path.display());
        assert!(matches!(check(path), Err(Refusal::Composed { .. })), "{}", path.display());
    }
    make_filesystem(&two);
    let _mounted = mount(&two, &folder.path().join("point"), "rw");
    check(&one).unwrap();
    assert_eq!(liveness(&one), Liveness::Quiet);
    assert!(matches!(check(&disk), Err(Refusal::Mounted { .. })));
}

#[test]
fn a_snapshot_of_a_mounted_volume_is_quiet() {
    if !has_device_mapper(&["linear", "snapshot", "snapshot-origin"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (disk, _disk) = attach(&image(&folder, "disk"), &[]);
    let (store, _store) = attach(&image(&folder, "store"), &[]);
    let size = 16 * SECTORS;
    let (real, _real) = map("real", &format!("0 {size} linear {} 0", disk.display()));
    let (origin, _origin) = map("origin", &format!("0 {size} snapshot-origin {}", real.display()));
    let table = format!("0 {size} snapshot {} {} N 8", real.display(), store.display());
    make_filesystem(&origin);
    let (snapshot, _snapshot) = map("snapshot", &table);
    let _mounted = mount(&origin, &folder.path().join("point"), "rw");
    assert!(matches!(liveness(&origin), Liveness::Live { .. }));
    assert!(matches!(liveness(&disk), Liveness::Live { .. }));
    assert_eq!(liveness(&snapshot), Liveness::Quiet);
    assert!(matches!(check(&store), Err(Refusal::Composed { .. })));
}

#[test]
fn members_of_a_raid_are_refused_and_the_raid_is_not() {
    if !able(&["losetup"]) {
        return;
    }
    if !is_there("mdadm") {
        return lacks("mdadm, and a kernel with RAID 1");
    }
    let folder = tempfile::tempdir().unwrap();
    let (one, _one) = attach(&image(&folder, "one"), &[]);
    let (two, _two) = attach(&image(&folder, "two"), &[]);
    let array = "/dev/md/failback";
    let (first, second) = (one.to_str().unwrap(), two.to_str().unwrap());
    let make =
        ["--create", array, "--run", "--metadata=1.2", "--level=1", "--raid-devices=2", "--homehost=any"];
    if run("mdadm", &[&make[..], &[first, second]].concat()).is_none() {
        return lacks("a kernel with RAID 1");
    }
    let _array = Undo::by(&["mdadm", "--stop", array]);
    let array = PathBuf::from(array);
    check(&array).unwrap();
    for member in [&one, &two] {
        let refusal = check(member).unwrap_err();
        assert!(matches!(refusal, Refusal::Composed { composition: Composition::Raid, .. }), "{refusal}");
        assert!(storage(member).overlap(&storage(&array)).is_some());
        assert_eq!(liveness(member), Liveness::Quiet);
    }
    let file = std::fs::File::open(&array).unwrap();
    let name = identity(&array, &file).unwrap();
    assert!(name.to_string().starts_with("md:") || !name.lasts_over_reboot(), "{name}");
}

#[test]
fn the_second_device_of_a_mounted_btrfs_is_in_use() {
    if !able(&["losetup", "mount"]) {
        return;
    }
    if !is_there("mkfs.btrfs") {
        return lacks("mkfs.btrfs, and a kernel with btrfs");
    }
    let folder = tempfile::tempdir().unwrap();
    let disks = ["one", "two"].map(|name| {
        let path = image(&folder, name);
        std::fs::File::options().write(true).open(&path).unwrap().set_len(256 * MEBIBYTE).unwrap();
        attach(&path, &[])
    });
    let [(one, _one), (two, _two)] = disks;
    let (first, second) = (one.to_str().unwrap(), two.to_str().unwrap());
    run("mkfs.btrfs", &["--force", "--data", "single", "--metadata", "raid1", first, second]).unwrap();
    check(&two).unwrap();
    let point = folder.path().join("point");
    std::fs::create_dir(&point).unwrap();
    let options = format!("device={second}");
    if run("mount", &["-o", &options, first, point.to_str().unwrap()]).is_none() {
        return lacks("a kernel with btrfs");
    }
    let mounted = Undo::by(&["umount", point.to_str().unwrap()]);
    for path in [&one, &two] {
        let refusal = check(path).unwrap_err();
        assert!(matches!(refusal, Refusal::Mounted { .. }), "{refusal}");
        assert!(refusal.to_string().ends_with(&format!("umount {}", point.display())), "{refusal}");
        assert!(matches!(liveness(path), Liveness::Live { reason: LiveReason::Mounted { .. } }));
    }
    drop(mounted);
    check(&two).unwrap();
}

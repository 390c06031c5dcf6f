//! The guard against real loop devices, mounts, swap and virtual machines' locks.
//!
//! Each test says `skipped: needs …` where the machine lacks something; with
//! `FAILBACK_REQUIRE=all` that is a failure.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare itself has failed")]

use std::fs::{self, OpenOptions};
use std::process::{Command, Stdio};

use super::super::*;
use super::rig::{
    MEBIBYTE, Running, Undo, able, attach, check, image, liveness, make_filesystem, mount, open, partition,
    run, skip, storage,
};
use crate::disk::storage::identity;

#[test]
fn a_mounted_device_is_refused_until_it_is_unmounted() {
    if !able(&["losetup", "mkfs.ext4", "mount"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (device, _attached) = attach(&image(&folder, "disk"), &[]);
    make_filesystem(&device);
    check(&device).unwrap();
    assert_eq!(liveness(&device), Liveness::Quiet);
    let point = folder.path().join("a point");
    let mounted = mount(&device, &point, "rw");
    let refusal = check(&device).unwrap_err();
    assert!(matches!(refusal, Refusal::Mounted { .. }));
    assert!(refusal.to_string().ends_with(&format!("unmount it: umount {}", point.display())), "{refusal}");
    assert!(matches!(liveness(&device), Liveness::Live { reason: LiveReason::Mounted { .. } }));
    assert!(matches!(claim_target(&device, &open(&device, true)), Err(Refusal::HeldExclusively { .. })));
    drop(mounted);
    let read_only = mount(&device, &point, "ro");
    assert!(matches!(check(&device), Err(Refusal::Mounted { .. })));
    assert_eq!(liveness(&device), Liveness::Quiet);
    drop(read_only);
    check(&device).unwrap();
    // A mount cannot come between: the claim keeps it out.
    let file = open(&device, true);
    let held = claim_target(&device, &file).unwrap();
    check_target(&device, &file, &storage(&device)).unwrap();
    assert!(run("mount", &[device.to_str().unwrap(), point.to_str().unwrap()]).is_none());
    assert!(matches!(liveness(&device), Liveness::Live { reason: LiveReason::HeldExclusively { .. } }));
    drop(held);
}

#[test]
fn a_mount_in_another_namespace_is_seen() {
    if !able(&["losetup", "mkfs.ext4", "mount", "unshare"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (device, _attached) = attach(&image(&folder, "disk"), &[]);
    make_filesystem(&device);
    let point = folder.path().join("inside");
    fs::create_dir(&point).unwrap();
    let script = format!("mount {} {} && echo ready && exec sleep 60", device.display(), point.display());
    let child = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Running(child);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.0.stdout.as_mut().unwrap()), &mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    let refusal = check(&device).unwrap_err().to_string();
    assert!(
        refusal.contains(&format!("at {} in the mount namespace of process ", point.display())),
        "{refusal}"
    );
    assert!(matches!(liveness(&device), Liveness::Live { reason: LiveReason::Mounted { .. } }));
    drop(child);
}

#[test]
fn partitions_of_a_loop_device_are_told_apart() {
    if !able(&["losetup", "mkfs.ext4", "mount", "addpart"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let backing = image(&folder, "disk");
    let (device, _attached) = attach(&backing, &["--partscan"]);
    let (first, _first) = partition(&device, "1", MEBIBYTE, 7 * MEBIBYTE);
    let (second, _second) = partition(&device, "2", 8 * MEBIBYTE, 8 * MEBIBYTE);
    make_filesystem(&first);
    for path in [&device, &first, &second] {
        check(path).unwrap();
        assert!(storage(path).overlap(&storage(&device)).is_some());
        assert!(storage(path).overlap(&storage(&backing)).is_some());
    }
    assert_eq!(storage(&first).overlap(&storage(&second)), None);
    let name = |path: &Path| identity(path, &open(path, false)).unwrap().to_string();
    assert_eq!(name(&device), name(&backing));
    assert_eq!(name(&second), format!("{}+{}", name(&backing), 8 * MEBIBYTE));
    let point = folder.path().join("point");
    let mounted = mount(&first, &point, "rw");
    for path in [&device, &first] {
        assert!(matches!(check(path), Err(Refusal::Mounted { .. })), "{}", path.display());
        assert!(matches!(liveness(path), Liveness::Live { .. }));
    }
    assert!(
        check(&device)
            .unwrap_err()
            .to_string()
            .contains(&format!("its partition {} is mounted", first.display()))
    );
    assert!(matches!(liveness(&backing), Liveness::Live { .. }));
    check(&second).unwrap();
    assert_eq!(liveness(&second), Liveness::Quiet);
    drop(mounted);
    // Claims know partitions and disks as well.
    let held = claim_target(&first, &open(&first, true)).unwrap();
    assert!(claim_target(&device, &open(&device, true)).is_err());
    let other = claim_target(&second, &open(&second, true)).unwrap();
    drop((held, other));
    claim_target(&device, &open(&device, true)).unwrap();
}

#[test]
fn a_disk_mounted_whole_keeps_its_partitions_from_being_targets() {
    if !able(&["losetup", "mkfs.ext4", "mount", "addpart"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (device, _attached) = attach(&image(&folder, "disk"), &["--partscan"]);
    let (first, _first) = partition(&device, "1", MEBIBYTE, MEBIBYTE);
    make_filesystem(&device);
    let _mounted = mount(&device, &folder.path().join("point"), "rw");
    let refusal = check(&first).unwrap_err().to_string();
    assert!(refusal.contains(&format!("its disk {} is mounted at ", device.display())), "{refusal}");
}

#[test]
fn swap_on_a_device_and_in_a_file_is_refused() {
    if !able(&["losetup", "mkfs.ext4", "mount", "mkswap", "swapon"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (device, _attached) = attach(&image(&folder, "disk"), &[]);
    let name = device.to_str().unwrap();
    run("mkswap", &[name]).unwrap();
    if run("swapon", &[name]).is_none() {
        return skip("the right to swap");
    }
    let swapping = Undo::by(&["swapoff", name]);
    let refusal = check(&device).unwrap_err();
    assert_eq!(refusal.to_string(), format!("{name} is in use as swap: stop that: swapoff {name}"));
    assert!(matches!(liveness(&device), Liveness::Live { reason: LiveReason::Swap { .. } }));
    drop(swapping);
    check(&device).unwrap();

    make_filesystem(&device);
    let point = folder.path().join("point");
    let _mounted = mount(&device, &point, "rw");
    let file = point.join("swap file");
    fs::write(&file, vec![0_u8; 4 << 20]).unwrap();
    let hard = point.join("hard link");
    fs::hard_link(&file, &hard).unwrap();
    let name = file.to_str().unwrap();
    run("chmod", &["600", name]).unwrap();
    run("mkswap", &[name]).unwrap();
    run("swapon", &[name]).unwrap();
    let _swapping = Undo::by(&["swapoff", name]);
    for path in [&file, &hard] {
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(open) => {
                let refusal = check_target(path, &open, &storage(path)).unwrap_err();
                assert!(matches!(refusal, Refusal::Swap { .. }), "{refusal}");
            }
            Err(error) => {
                let refusal = explain_open(path, Access::Writing, error);
                assert!(matches!(refusal, Refusal::Executing { .. }), "{refusal}");
            }
        }
        assert!(matches!(liveness(path), Liveness::Live { reason: LiveReason::Swap { .. } }));
    }
}

#[test]
fn a_file_and_its_loop_devices_are_one_disk() {
    if !able(&["losetup", "mount"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let backing = image(&folder, "disk");
    check(&backing).unwrap();
    let (device, _attached) = attach(&backing, &[]);
    let hard = folder.path().join("hard");
    fs::hard_link(&backing, &hard).unwrap();
    let bound = folder.path().join("bound");
    File::create(&bound).unwrap();
    run("mount", &["--bind", backing.to_str().unwrap(), bound.to_str().unwrap()]).unwrap();
    let _bound = Undo::by(&["umount", bound.to_str().unwrap()]);
    for path in [&backing, &hard, &bound] {
        let refusal = check(path).unwrap_err();
        assert!(matches!(refusal, Refusal::LoopAttached { is_file: true, .. }), "{refusal}");
        assert!(storage(path).overlap(&storage(&device)).is_some());
        assert_eq!(liveness(path), Liveness::Quiet);
    }
    check(&device).unwrap();
    let (second, second_attached) = attach(&hard, &[]);
    for (path, other) in [(&device, &second), (&second, &device)] {
        let refusal = check(path).unwrap_err();
        assert!(refusal.to_string().ends_with(&format!("losetup --detach {}", other.display())), "{refusal}");
    }
    assert!(storage(&device).overlap(&storage(&second)).is_some());
    drop(second_attached);
    // A renamed file, and one under a deleted name, are still themselves.
    let renamed = folder.path().join("renamed");
    fs::rename(&backing, &renamed).unwrap();
    fs::write(&backing, "another file").unwrap();
    assert_eq!(storage(&backing).overlap(&storage(&device)), None);
    assert!(storage(&renamed).overlap(&storage(&device)).is_some());
    check(&backing).unwrap();
}

#[test]
fn loop_devices_on_loop_devices_and_on_parts_of_a_file() {
    if !able(&["losetup"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let backing = image(&folder, "disk");
    let half = (8 * MEBIBYTE).to_string();
    let (lower, _lower) = attach(&backing, &["--sizelimit", &half]);
    let (upper, _upper) = attach(&backing, &["--offset", &half]);
    check(&lower).unwrap();
    check(&upper).unwrap();
    assert_eq!(storage(&lower).overlap(&storage(&upper)), None);
    let (nested, _nested) = attach(&lower, &["--offset", "1048576"]);
    check(&nested).unwrap();
    assert!(matches!(check(&lower), Err(Refusal::LoopAttached { is_file: false, .. })));
    assert!(storage(&nested).overlap(&storage(&backing)).is_some());
    assert_eq!(storage(&nested).overlap(&storage(&upper)), None);
}

#[test]
fn what_is_read_only_is_refused() {
    if !able(&["losetup", "mkfs.ext4", "mount"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (device, attached) = attach(&image(&folder, "disk"), &[]);
    make_filesystem(&device);
    let point = folder.path().join("point");
    let mounted = mount(&device, &point, "rw");
    let file = point.join("image");
    fs::write(&file, "bytes").unwrap();
    drop(mounted);
    let mounted = mount(&device, &point, "ro");
    let error = OpenOptions::new().write(true).open(&file).unwrap_err();
    assert!(matches!(explain_open(&file, Access::Writing, error), Refusal::ReadOnlyFilesystem { .. }));
    assert!(matches!(check_writable(&file, &open(&file, false)), Err(Refusal::ReadOnlyFilesystem { .. })));
    drop((mounted, attached));
    let (device, _attached) = attach(&image(&folder, "disk"), &["--read-only"]);
    assert!(matches!(check_writable(&device, &open(&device, false)), Err(Refusal::ReadOnlyDevice { .. })));
    if let Err(error) = OpenOptions::new().write(true).open(&device) {
        assert!(matches!(explain_open(&device, Access::Writing, error), Refusal::ReadOnlyDevice { .. }));
    }
}

#[test]
fn a_virtual_machine_s_locks_are_respected() {
    if !able(&["qemu-nbd", "qemu-img"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = image(&folder, "disk");
    let name = disk.to_str().unwrap();
    let socket = folder.path().join("socket");
    let serve = |options: &[&str]| {
        let child = Command::new("qemu-nbd")
            .args(["--format", "raw", "--persistent", "--socket", socket.to_str().unwrap()])
            .args(options)
            .arg(name)
            .spawn()
            .unwrap();
        let child = Running(child);
        for _ in 0..100 {
            if socket.exists() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        child
    };
    let writer = serve(&[]);
    assert!(matches!(liveness(&disk), Liveness::Live { reason: LiveReason::Written { .. } }));
    assert!(matches!(claim_target(&disk, &open(&disk, true)), Err(Refusal::Locked { .. })));
    let live = claim_source(&disk, &open(&disk, false), true).unwrap();
    drop((live, writer));
    fs::remove_file(&socket).unwrap();

    let reader = serve(&["--read-only"]);
    assert_eq!(liveness(&disk), Liveness::Quiet);
    assert!(matches!(claim_target(&disk, &open(&disk, true)), Err(Refusal::Locked { .. })));
    drop(reader);

    let source = open(&disk, false);
    let reading = claim_source(&disk, &source, false).unwrap();
    let copy = folder.path().join("copy");
    let read = || run("qemu-img", &["convert", "-f", "raw", "-O", "raw", name, copy.to_str().unwrap()]);
    assert!(read().is_some(), "readers go on beside us");
    assert!(run("qemu-img", &["resize", "-f", "raw", name, "17M"]).is_none(), "writers do not start");
    drop(reading);
    let target = open(&disk, true);
    let _writing = claim_target(&disk, &target).unwrap();
    assert!(read().is_none(), "nobody opens a target");
}

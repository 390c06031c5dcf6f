//! Tables of the kernel as text, uses on a machine made of folders, messages,
//! and claims on files.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare itself has failed")]

mod devices;
mod rig;
mod stacks;

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::disk::storage::tests::FakeHost;
use crate::error::{Remediable, Remedy};

const DISK: DeviceNumber = DeviceNumber { major: 250, minor: 0 };
const FIRST: DeviceNumber = DeviceNumber { major: 250, minor: 1 };
const SECOND: DeviceNumber = DeviceNumber { major: 250, minor: 2 };

/// A disk with two partitions.
fn disk() -> FakeHost {
    let fake = FakeHost::new();
    fake.disk("pci/block/xa", 0, 100);
    fake.partition("pci/block/xa/xa1", 1, 1, 9);
    fake.partition("pci/block/xa/xa2", 2, 10, 90);
    fake
}

/// What is said about the device `number` as a target.
fn refusal(fake: &FakeHost, number: DeviceNumber) -> Option<Refusal> {
    let uses = Uses::scan(&fake.host()).unwrap();
    let device = fake.host().device(number).unwrap();
    let named = Named {
        path: &device.node,
        number: Some(number),
        disk: device.partition_of.map(|(disk, _)| disk),
        file: (0, 0),
    };
    uses.judge_target(&named, &fake.storage(number)).err()
}

fn said(fake: &FakeHost, number: DeviceNumber) -> String {
    refusal(fake, number).map(|refusal| refusal.to_string()).unwrap_or_default()
}

#[test]
fn mountinfo_is_read_with_its_escapes() {
    let text = b"36 35 98:0 /mnt1 /mnt/two\\040words rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw,errors=continue\n\
        odd line\n\
        37 35 0:40 / /b\\134s\\011t rw - btrfs /dev/sda2 ro,subvol=/\n\
        38 35 7:3 / /ro ro,relatime - ext4 /dev/loop3 rw\n\
        39 35 x:y / / rw - ext4 a rw\n\
        40 35 8:1 / /cut rw -\n\
        41 35 0:41 / /nothing rw - tmpfs  rw\n";
    let mounts = mounts::parse(text, Some(12));
    let points: Vec<_> = mounts.iter().map(|mount| mount.point.to_str().unwrap()).collect();
    assert_eq!(points, ["/mnt/two words", "/b\\s\tt", "/ro", "/nothing"]);
    assert_eq!(mounts[0].device, DeviceNumber { major: 98, minor: 0 });
    assert_eq!((mounts[0].filesystem.as_str(), mounts[0].source.to_str().unwrap()), ("ext3", "/dev/root"));
    // The filesystem counts, not this one view of it.
    assert_eq!([0, 1, 2].map(|index| mounts[index].read_only), [false, true, false]);
    assert_eq!(mounts[0].process, Some(12));
}

#[test]
fn swaps_are_read_with_their_escapes() {
    let text = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
        /dev/sda2                               partition\t4194300\t\t0\t\t-2\n\
        /swap\\040file                           file\t\t524284\t\t0\t\t-3\n\
        /old\\040(deleted)                       file\t\t524284\t\t0\t\t-3\n\
        \nodd\n";
    let paths: Vec<PathBuf> = ["/dev/sda2", "/swap file", "/old"].map(PathBuf::from).to_vec();
    assert_eq!(swaps::parse(text), paths);
    assert!(swaps::parse(b"").is_empty());
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(text in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _mounts = mounts::parse(&text, None);
        let _swaps = swaps::parse(&text);
        prop_assert!(mounts::unescape(&text).len() <= text.len());
    }

    #[test]
    fn what_the_kernel_escapes_comes_back(name in proptest::collection::vec(1_u8..=255, 0..60)) {
        let escaped: Vec<u8> = name
            .iter()
            .flat_map(|byte| match byte {
                b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
                _ => vec![*byte],
            })
            .collect();
        prop_assert_eq!(mounts::unescape(&escaped), name);
    }
}

#[test]
fn a_mount_is_told_from_the_disk_the_partition_and_its_neighbour() {
    let fake = disk();
    assert_eq!(said(&fake, DISK), "");
    fake.write(
        "proc/self/mountinfo",
        "1 1 250:1 / /boot rw - ext4 /dev/xa1 rw\n2 1 250:1 /x /etc/x rw - ext4 /dev/xa1 rw\n",
    );
    assert_eq!(
        said(&fake, FIRST),
        "/dev/xa1 is mounted at /boot and at 1 other place (ext4): unmount it: umount /boot"
    );
    assert!(said(&fake, DISK).starts_with("/dev/xa: its partition /dev/xa1 is mounted at /boot"));
    assert_eq!(said(&fake, SECOND), "");
    fake.write("proc/self/mountinfo", "1 1 250:0 / /data rw - xfs /dev/xa ro\n");
    assert_eq!(
        said(&fake, SECOND),
        "/dev/xa2: its disk /dev/xa is mounted at /data (xfs, read-only): unmount it: umount /data"
    );
}

#[test]
fn mounts_of_other_namespaces_are_seen_and_each_view_is_read_once() {
    let fake = disk();
    let process = |number: u32, namespace: &str, root: &str, text: &str| {
        fake.write(&format!("proc/{number}/mountinfo"), text);
        fs::create_dir_all(fake.path(&format!("proc/{number}/ns"))).unwrap();
        symlink(namespace, fake.path(&format!("proc/{number}/ns/mnt"))).unwrap();
        symlink(root, fake.path(&format!("proc/{number}/root"))).unwrap();
    };
    let line = "1 1 250:1 / /inside rw - ext4 /dev/xa1 rw\n";
    process(7, "mnt:[1]", "/", "");
    process(8, "mnt:[1]", "/chroot", line);
    process(9, "mnt:[1]", "/chroot", line);
    let text = said(&fake, DISK);
    assert!(text.contains("at /inside in the mount namespace of process "), "{text}");
    assert!(text.contains("(ext4): unmount it there: nsenter --target "), "{text}");
    // A process that ended between listing and reading.
    fs::create_dir_all(fake.path("proc/10")).unwrap();
    assert!(refusal(&fake, DISK).is_some());
}

#[test]
fn all_members_of_a_mounted_btrfs_are_in_use() {
    let fake = disk();
    for name in ["xa1", "xa2"] {
        fake.write(&format!("sys/fs/btrfs/8d1a/devices/{name}/size"), "1\n");
    }
    fake.write("sys/fs/btrfs/features/raid56", "1\n");
    assert!(said(&fake, SECOND).contains("in a mount namespace that cannot be seen (btrfs)"));
    fake.write("proc/self/mountinfo", "1 1 0:50 / /pool rw - btrfs /dev/xa1 rw\n");
    for number in [FIRST, SECOND, DISK] {
        assert!(said(&fake, number).contains(" mounted at /pool (btrfs): unmount it: umount /pool"));
    }
    // Others name all their devices.
    let fake = disk();
    fake.write("proc/self/mountinfo", "1 1 0:50 / /pool rw - bcachefs /dev/xa1:/dev/xa2 rw\n");
    assert!(said(&fake, FIRST).contains("/pool") && said(&fake, SECOND).contains("/pool"));
}

#[test]
fn swap_on_a_device_or_in_a_file_is_told() {
    let fake = disk();
    fake.write("images/x.img", "");
    let image = fake.attached("xloop0", 9, 8, "/images/x.img", 0);
    fake.write("proc/swaps", "Filename Type\n/dev/xa2 partition 1 0 -2\n/images/x.img file 1 0 -3\n");
    assert_eq!(said(&fake, SECOND), "/dev/xa2 is in use as swap: stop that: swapoff /dev/xa2");
    assert!(said(&fake, DISK).contains("its partition /dev/xa2 is in use as swap"));
    assert_eq!(said(&fake, FIRST), "");
    assert!(said(&fake, image).ends_with("is in use as swap: stop that: swapoff /images/x.img"));
}

#[test]
fn devices_composed_of_a_target_are_told_and_what_lies_below_it_is_not() {
    let fake = disk();
    let volume = fake.disk("virtual/block/dm-0", 8, 4);
    fake.stands_on("virtual/block/dm-0", "pci/block/xa/xa2");
    fake.write("sys/devices/virtual/block/dm-0/dm/name", "home-data\n");
    fake.write("sys/devices/virtual/block/dm-0/dm/uuid", "LVM-abc\n");
    assert_eq!(
        said(&fake, DISK),
        "/dev/xa: /dev/mapper/home-data stands on the same storage: \
         deactivate it: lvchange --activate n /dev/mapper/home-data"
    );
    assert_eq!(said(&fake, volume), "");
    assert_eq!(said(&fake, FIRST), "");
    let array = fake.disk("virtual/block/md0", 9, 4);
    fake.write("sys/devices/virtual/block/md0/md/level", "raid1\n");
    fake.stands_on("virtual/block/md0", "virtual/block/dm-0");
    assert!(said(&fake, volume).ends_with("stop it: mdadm --stop /dev/md0, or use /dev/md0 itself"));
    assert_eq!(said(&fake, array), "");
    // Something mounted far above is still a mount.
    fake.write("proc/self/mountinfo", "1 1 250:9 / /srv rw - ext4 /dev/md0 rw\n");
    assert!(said(&fake, DISK).contains("/dev/md0, which shares its storage (/dev/xa, bytes "));
}

#[test]
fn a_second_loop_device_on_the_same_bytes_is_told() {
    let fake = FakeHost::new();
    fake.write("images/x.img", "");
    let one = fake.attached("xloop1", 1, 8, "/images/x.img", 0);
    let nested = fake.attached("xloop2", 2, 2, "/dev/xloop1", 0);
    assert!(said(&fake, one).ends_with("(/dev/xloop1): detach it: losetup --detach /dev/xloop2"));
    assert_eq!(said(&fake, nested), "");
    let apart = fake.attached("xloop3", 3, 8, "/images/x.img", 8 << 20);
    assert_eq!(said(&fake, apart), "");
    let image = fake.path("images/x.img");
    let file = File::open(&image).unwrap();
    let storage = Storage::of_on(&fake.host(), &image, &file).unwrap();
    let refusal = Uses::scan(&fake.host()).unwrap().check_target(&image, &file, &storage).unwrap_err();
    assert!(matches!(refusal, Refusal::LoopAttached { is_file: true, .. }));
    assert!(refusal.to_string().ends_with("losetup --detach /dev/xloop1, or use /dev/xloop1 itself"));
    assert_eq!(refusal.remedy(), Remedy::Refused);
}

#[test]
fn a_machine_that_cannot_be_seen_is_no_free_machine() {
    let fake = disk();
    fs::remove_file(fake.path("proc/self/mountinfo")).unwrap();
    assert!(matches!(Uses::scan(&fake.host()), Err(Refusal::Unseen { .. })));
}

#[test]
fn only_devices_and_files_are_disks() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [folder.path(), &fifo, &socket, Path::new("/dev/null")] {
        assert!(matches!(check_kind(path), Err(Refusal::NotADisk { .. })), "{}", path.display());
    }
    let missing = check_kind(&folder.path().join("none"));
    assert!(matches!(missing, Err(Refusal::Missing { .. })));
    let image = folder.path().join("image");
    fs::write(&image, "").unwrap();
    check_kind(&image).unwrap();
}

#[test]
fn errors_of_opening_say_what_helps() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    fs::write(&image, "").unwrap();
    let explained = |errno: Errno| explain_open(&image, Access::Writing, errno.into()).to_string();
    for (errno, says) in [
        (Errno::EACCES, "run failback as root"),
        (Errno::EPERM, "chattr -i"),
        (Errno::EROFS, "read-only filesystem"),
        (Errno::EBUSY, "held exclusively"),
        (Errno::ETXTBSY, "swap file"),
        (Errno::ENXIO, "connect or attach it first"),
        (Errno::EIO, "cannot open"),
    ] {
        assert!(explained(errno).contains(says), "{errno}: {}", explained(errno));
    }
    let plain = explain_open(&image, Access::Reading, ErrorKind::OutOfMemory.into());
    assert!(matches!(plain, Refusal::Open { .. }));
}

#[test]
fn a_target_file_is_claimed_by_one_run_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
    let (one, other) = (open(), open());
    let held = claim_target(&path, &one).unwrap();
    assert_eq!(held.notice(), None);
    assert!(matches!(claim_target(&path, &other), Err(Refusal::Locked { .. })));
    assert!(matches!(claim_source(&path, &other, true), Err(Refusal::Locked { .. })));
    // Closing another descriptor of the file, as a ring does, gives up nothing.
    drop(one);
    assert!(claim::is_being_written(&other));
    drop(held);
    claim_target(&path, &File::open(&path).unwrap()).unwrap();
}

#[test]
fn a_source_file_is_claimed_by_many_readers_and_no_target() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    fs::write(&path, "bytes").unwrap();
    let open = || File::open(&path).unwrap();
    let (one, other) = (open(), open());
    let _first = claim_source(&path, &one, false).unwrap();
    let second = claim_source(&path, &other, true).unwrap();
    assert!(!claim::is_being_written(&open()));
    let target = OpenOptions::new().write(true).open(&path).unwrap();
    assert!(matches!(claim_target(&path, &target), Err(Refusal::Locked { .. })));
    drop(second);
    assert!(claim_target(&path, &target).is_err());
}

#[test]
fn a_file_is_a_quiet_source_until_somebody_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    fs::write(&path, "bytes").unwrap();
    let file = File::open(&path).unwrap();
    let storage = Storage::of(&path, &file).unwrap();
    assert_eq!(check_source(&path, &file, &storage).unwrap(), Liveness::Quiet);
    let target = OpenOptions::new().write(true).open(&path).unwrap();
    let _held = claim_target(&path, &target).unwrap();
    let reason = LiveReason::Written { path: path.clone() };
    assert_eq!(check_source(&path, &file, &storage).unwrap(), Liveness::Live { reason });
}

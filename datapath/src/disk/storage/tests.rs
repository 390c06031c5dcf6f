//! Storages and identities on machines made of folders.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare itself has failed")]

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

/// A machine made of folders.
pub(crate) struct FakeHost {
    folder: tempfile::TempDir,
}

impl FakeHost {
    pub(crate) fn new() -> Self {
        let host = Self { folder: tempfile::tempdir().unwrap() };
        host.write("proc/sys/kernel/random/boot_id", "4f3c0c1e-0000-4000-8000-000000000001\n");
        host.write("proc/self/mountinfo", "");
        fs::create_dir_all(host.path("sys/class/block")).unwrap();
        fs::create_dir_all(host.path("sys/dev/block")).unwrap();
        host
    }

    pub(crate) fn host(&self) -> Host {
        Host::at(self.folder.path())
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub(crate) fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A disk `below` (a folder of `sys/devices`) with a size in MiB.
    pub(crate) fn disk(&self, below: &str, minor: u32, mebibytes: u64) -> DeviceNumber {
        let number = DeviceNumber { major: 250, minor };
        let folder = format!("sys/devices/{below}");
        let name = Path::new(below).file_name().unwrap();
        self.write(&format!("{folder}/dev"), &format!("{number}\n"));
        self.write(&format!("{folder}/size"), &format!("{}\n", mebibytes * 2048));
        symlink(self.path(&folder), self.path("sys/class/block").join(name)).unwrap();
        symlink(self.path(&folder), self.path("sys/dev/block").join(number.to_string())).unwrap();
        number
    }

    pub(crate) fn partition(&self, below: &str, minor: u32, start: u64, mebibytes: u64) -> DeviceNumber {
        let number = self.disk(below, minor, mebibytes);
        self.write(&format!("sys/devices/{below}/partition"), "1\n");
        self.write(&format!("sys/devices/{below}/start"), &format!("{}\n", start * 2048));
        number
    }

    pub(crate) fn stands_on(&self, upper: &str, lower: &str) {
        let folder = self.path(&format!("sys/devices/{upper}/slaves"));
        fs::create_dir_all(&folder).unwrap();
        let lower = self.path(&format!("sys/devices/{lower}"));
        symlink(&lower, folder.join(lower.file_name().unwrap())).unwrap();
    }

    /// A loop device on the file or device `backing`, as this machine names it.
    pub(crate) fn attached(
        &self,
        name: &str,
        minor: u32,
        mebibytes: u64,
        backing: &str,
        offset: u64,
    ) -> DeviceNumber {
        let number = self.disk(&format!("virtual/block/{name}"), minor, mebibytes);
        self.write(&format!("sys/devices/virtual/block/{name}/loop/backing_file"), &format!("{backing}\n"));
        self.write(&format!("sys/devices/virtual/block/{name}/loop/offset"), &format!("{offset}\n"));
        number
    }

    pub(crate) fn storage(&self, number: DeviceNumber) -> Storage {
        Storage::of_device(&self.host(), number).unwrap()
    }
}

fn overlap(one: &Storage, other: &Storage) -> Option<Overlap> {
    let found = one.overlap(other);
    assert_eq!(found.is_some(), other.overlap(one).is_some(), "an overlap is mutual");
    found
}

#[test]
fn a_partition_is_bytes_of_its_disk() {
    let fake = FakeHost::new();
    let disk = fake.disk("pci/block/sda", 0, 100);
    let first = fake.partition("pci/block/sda/sda1", 1, 1, 9);
    let second = fake.partition("pci/block/sda/sda2", 2, 10, 90);
    let other = fake.disk("pci/block/sdb", 16, 100);
    let (disk, first, second, other) =
        (fake.storage(disk), fake.storage(first), fake.storage(second), fake.storage(other));
    let found = overlap(&disk, &first).unwrap();
    assert_eq!(found.range, Extent::between(1 << 20, 10 << 20));
    assert_eq!(found.to_string(), "/dev/sda, bytes 1048576..10485760");
    assert!(overlap(&disk, &second).is_some() && overlap(&first, &first.clone()).is_some());
    assert_eq!(overlap(&first, &second), None);
    assert_eq!(overlap(&disk, &other), None);
}

#[test]
fn a_loop_device_is_bytes_of_its_file_however_deep() {
    let fake = FakeHost::new();
    fake.write("images/disk.img", "bytes");
    let image = Storage::of_path(&fake.host(), Path::new("/images/disk.img")).unwrap();
    let whole = fake.attached("loop0", 0, 8, "/images/disk.img", 0);
    let later = fake.attached("loop1", 1, 8, "/images/disk.img", 8 << 20);
    let nested = fake.attached("loop2", 2, 4, "/dev/loop1", 1 << 20);
    let partition = fake.partition("virtual/block/loop2/loop2p1", 3, 1, 1);
    let storages = [whole, later, nested, partition].map(|number| fake.storage(number));
    for storage in &storages {
        assert!(overlap(&image, storage).is_some());
    }
    let [whole, later, nested, partition] = storages;
    assert_eq!(overlap(&whole, &later), None);
    assert_eq!(overlap(&whole, &partition), None);
    assert_eq!(overlap(&later, &partition).unwrap().range, Extent::between(10 << 20, 11 << 20));
    assert!(overlap(&nested, &partition).unwrap().to_string().starts_with("/images/disk.img, bytes "));
    assert!(partition.goes_through(DeviceNumber { major: 250, minor: 1 }));
    assert!(!later.goes_through(DeviceNumber { major: 250, minor: 2 }));
}

#[test]
fn a_mapped_device_without_a_table_is_all_that_lies_below() {
    let fake = FakeHost::new();
    fake.disk("pci/block/sda", 0, 100);
    let volume = fake.partition("pci/block/sda/sda1", 1, 1, 9);
    let free = fake.partition("pci/block/sda/sda2", 2, 10, 90);
    let array = fake.disk("virtual/block/md0", 3, 8);
    let mapped = fake.disk("virtual/block/dm-0", 4, 4);
    fake.stands_on("virtual/block/md0", "pci/block/sda/sda1");
    fake.stands_on("virtual/block/dm-0", "virtual/block/md0");
    let mapped = fake.storage(mapped);
    for lower in [volume, array] {
        assert!(overlap(&mapped, &fake.storage(lower)).is_some());
    }
    assert_eq!(overlap(&mapped, &fake.storage(free)), None);
}

#[test]
fn two_paths_to_one_disk_are_told_by_its_world_wide_name() {
    let fake = FakeHost::new();
    let names = [
        ("naa.600508b4000971ca0000f00000f30000", true),
        ("eui.0025388b710116a1", true),
        ("uuid.8d1a3e0a-5b0e-4c41-9d1e-0c7a1a5a1a5a", true),
        ("t10.ATA     QEMU HARDDISK      QM00001", false),
        ("eui.0000000000000000", false),
        ("naa.\u{1b}[31m", false),
    ];
    for (index, (name, told)) in names.iter().enumerate() {
        let minor = u32::try_from(index).unwrap() * 2;
        let paths = [minor, minor + 1].map(|minor| {
            fake.write(&format!("sys/devices/pci/block/sd{minor}/device/wwid"), &format!("{name}\n"));
            fake.storage(fake.disk(&format!("pci/block/sd{minor}"), minor, 10))
        });
        let found = overlap(&paths[0], &paths[1]);
        assert_eq!(found.is_some(), *told, "{name}");
        let [one, mut elsewhere] = paths;
        elsewhere.boot_id = "another machine".to_owned();
        assert_eq!(one.overlap(&elsewhere).is_some(), *told, "{name}");
    }
}

#[test]
fn numbers_mean_nothing_to_another_machine() {
    let fake = FakeHost::new();
    let disk = fake.storage(fake.disk("pci/block/sda", 0, 100));
    let mut elsewhere = disk.clone();
    elsewhere.boot_id = "another".to_owned();
    assert!(overlap(&disk, &disk.clone()).is_some());
    assert_eq!(overlap(&disk, &elsewhere), None);
}

#[test]
fn volumes_of_one_pool_lie_apart_but_not_from_what_the_pool_stands_on() {
    let fake = FakeHost::new();
    let disk = fake.storage(fake.disk("pci/block/sda", 0, 100));
    let pool = DeviceNumber { major: 253, minor: 0 };
    let mut one = disk.clone();
    one.footprints[0].allocators = vec![pool];
    let other = one.clone();
    assert_eq!(overlap(&one, &other), None);
    assert!(overlap(&one, &disk).is_some());
}

#[test]
fn hard_links_and_symbolic_links_are_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let [image, hard, symbolic, copy] =
        ["a.img", "hard.img", "symbolic.img", "copy.img"].map(|name| folder.path().join(name));
    fs::write(&image, "bytes").unwrap();
    fs::write(&copy, "bytes").unwrap();
    fs::hard_link(&image, &hard).unwrap();
    symlink(&image, &symbolic).unwrap();
    let of = |path: &Path| Storage::of(path, &File::open(path).unwrap()).unwrap();
    let name = |path: &Path| identity(path, &File::open(path).unwrap()).unwrap();
    for alias in [&hard, &symbolic] {
        assert!(overlap(&of(&image), &of(alias)).is_some());
        assert_eq!(name(&image), name(alias));
    }
    assert_eq!(overlap(&of(&image), &of(&copy)), None);
    assert_ne!(name(&image), name(&copy));
}

#[test]
fn merged_storages_overlap_where_any_part_does() {
    let fake = FakeHost::new();
    let [one, two, three] =
        [0, 1, 2].map(|minor| fake.storage(fake.disk(&format!("block/sd{minor}"), minor, 1)));
    let mut both = one;
    both.merge(two.clone());
    assert!(overlap(&both, &two).is_some());
    assert_eq!(overlap(&both, &three), None);
}

#[test]
fn what_travels_comes_back_and_bounds_are_kept() {
    let fake = FakeHost::new();
    fake.write("sys/devices/block/sda/wwid", "naa.5000c500a1b2c3d4\n");
    let disk = fake.storage(fake.disk("block/sda", 0, 100));
    let text = serde_json::to_string(&disk).unwrap();
    let back: Storage = serde_json::from_str(&text).unwrap();
    assert!(overlap(&disk, &back).is_some());
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
    let long = "x".repeat(1000);
    for (from, to) in [
        ("naa.5000c500a1b2c3d4", long.as_str()),
        ("naa.5000c500a1b2c3d4", "naa.\\u001b[31m"),
        ("\"offset\":0", "\"offset\":18446744073709551615"),
        ("\"offset\":0", "\"offset\":-1"),
        ("4f3c0c1e", &long),
    ] {
        assert!(text.contains(from));
        assert!(serde_json::from_str::<Storage>(&text.replace(from, to)).is_err(), "{to}");
    }
    let many = |count: usize| {
        let inodes = vec!["1"; count].join(",");
        serde_json::from_str::<Storage>(&format!(r#"{{"boot_id":"b","files":[[1,[{inodes}]]]}}"#))
    };
    assert!(many(FOOTPRINTS_MAX).is_ok() && many(FOOTPRINTS_MAX + 1).is_err());
    let last = format!(r#"{{"boot_id":"b","files":[[1,[{},1]]]}}"#, u64::MAX);
    assert!(serde_json::from_str::<Storage>(&last).is_err());
}

#[test]
fn the_files_of_a_split_disk_of_ten_tebibytes_fit_into_a_control_frame() {
    let image = |inode: u64| Footprint::new(Ground::File { filesystem: 65_024, inode }, resolve::ALL);
    let footprints = (0..5120).rev().map(|index| image(84_378_000 + index * 97)).collect();
    let split = Storage { boot_id: "b".to_owned(), footprints, stack: BTreeSet::new() };
    let text = serde_json::to_string(&split).unwrap();
    assert!(text.len() < 32 << 10, "{}", text.len());
    let back: Storage = serde_json::from_str(&text).unwrap();
    let footprints = |storage: &Storage| {
        storage.footprints.iter().map(|footprint| footprint.ground).collect::<BTreeSet<_>>()
    };
    assert_eq!(footprints(&split), footprints(&back));
}

#[test]
fn an_identity_is_the_same_however_the_bytes_are_attached() {
    let fake = FakeHost::new();
    fake.write("images/disk.img", "bytes");
    let host = fake.host();
    let image = fake.path("images/disk.img");
    let own = identity_on(&host, &image, &File::open(&image).unwrap()).unwrap();
    let of = |number| identity::of_device(&host, number, None, 0).unwrap();
    let whole = of(fake.attached("loop0", 0, 8, "/images/disk.img", 0));
    assert_eq!(whole, own);
    let later = of(fake.attached("loop1", 1, 8, "/images/disk.img", 1 << 20));
    let partition = of(fake.partition("virtual/block/loop0/loop0p1", 2, 1, 2));
    assert_eq!(later, partition);
    assert_eq!(later.to_string(), format!("{own}+1048576"));
    assert!(own.to_string().contains(&fs::metadata(&image).unwrap().ino().to_string()));
    // Another file of that name below the loop device: no longer its identity.
    fs::remove_file(&image).unwrap();
    assert!(of(DeviceNumber { major: 250, minor: 0 }).to_string().starts_with("boot:"));
}

#[test]
fn identities_name_disks_by_the_best_they_have() {
    let fake = FakeHost::new();
    let host = fake.host();
    let of = |number| identity::of_device(&host, number, None, 0).unwrap();
    fake.write("sys/devices/pci/a/block/sda/device/wwid", "t10.ATA     Disk   X1  \n");
    let disk = fake.disk("pci/a/block/sda", 0, 100);
    fake.write("sys/devices/pci/a/block/sda/sda1/uevent", "PARTUUID=8d1a3e0a\n");
    let partition = fake.partition("pci/a/block/sda/sda1", 1, 1, 9);
    assert_eq!(of(disk).to_string(), "wwid:t10.ATA Disk X1");
    assert_eq!(of(partition).to_string(), "wwid:t10.ATA Disk X1+1048576");
    fake.write("sys/devices/pci/b/block/vda/serial", "home-1\n");
    assert_eq!(of(fake.disk("pci/b/block/vda", 2, 1)).to_string(), "serial:home-1");
    fake.write("sys/devices/pci/b/block/vdb/serial", "\n");
    fs::create_dir_all(fake.path("sys/devices/pci/b/virtio1")).unwrap();
    fs::create_dir_all(fake.path("sys/devices/pci/b/block/vdb")).unwrap();
    symlink("../../virtio1", fake.path("sys/devices/pci/b/block/vdb/device")).unwrap();
    let slot = of(fake.disk("pci/b/block/vdb", 3, 100));
    assert_eq!(slot.to_string(), "slot:pci/b/virtio1");
    assert!(slot.lasts_over_reboot());
    fake.write("sys/devices/pci/b/block/vdb/vdb1/uevent", "PARTN=1\nPARTUUID=8d1a3e0a\n");
    assert_eq!(of(fake.partition("pci/b/block/vdb/vdb1", 4, 1, 9)).to_string(), "partition:8d1a3e0a");
    fake.write("sys/devices/virtual/block/dm-0/dm/uuid", "LVM-abc\n");
    assert_eq!(of(fake.disk("virtual/block/dm-0", 5, 1)).to_string(), "dm:LVM-abc");
    fake.write("sys/devices/virtual/block/ram0/diskseq", "7\n");
    let fleeting = of(fake.disk("virtual/block/ram0", 6, 1));
    assert!(!fleeting.lasts_over_reboot());
    assert_eq!(fleeting.to_string(), "boot:4f3c0c1e-0000-4000-8000-000000000001:250:6:7");
}

#[test]
fn odd_sysfs_is_an_error_or_an_empty_disk_never_a_panic() {
    let fake = FakeHost::new();
    assert!(matches!(
        Storage::of_device(&fake.host(), DeviceNumber { major: 1, minor: 1 }),
        Err(StorageError::Unknown { .. })
    ));
    let huge = fake.disk("block/sda", 0, 1);
    for size in ["18446744073709551615", "-1", "", "x", "\u{fffd}"] {
        fake.write("sys/devices/block/sda/size", size);
        assert_eq!(fake.storage(huge).footprints[0].range.length(), 0);
    }
    // A stack that goes round ends with an error.
    let first = fake.disk("block/dm-1", 1, 1);
    fake.disk("block/dm-2", 2, 1);
    fake.stands_on("block/dm-1", "block/dm-2");
    fake.stands_on("block/dm-2", "block/dm-1");
    assert!(matches!(Storage::of_device(&fake.host(), first), Err(StorageError::TooDeep { .. })));
}

proptest! {
    #[test]
    fn file_names_are_safe_and_apart(one in ".{0,300}", other in ".{0,300}") {
        let name = |text: &str| Identity::new_for_test(text).file_name();
        prop_assert!(name(&one).len() <= 113);
        prop_assert!(name(&one).chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter)));
        prop_assert!(!name(&one).starts_with('.'));
        prop_assert_eq!(name(&one) == name(&other), one == other);
    }
}

//! Disks of a made-up machine.

use std::fs;

use super::*;

/// A machine with one disk `sda` (8:0), of these sysfs attributes and folders.
fn machine(attributes: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("sys/devices/sda");
    fs::create_dir_all(root.path().join("sys/class/block")).unwrap();
    fs::create_dir_all(root.path().join("sys/dev/block")).unwrap();
    let usual =
        [("dev", "8:0\n"), ("size", "2048\n"), ("mq/0/x", ""), ("queue/zoned", "none\n"), ("diskseq", "9\n")];
    for (name, value) in usual.iter().chain(attributes) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, value).unwrap();
    }
    for link in ["sys/class/block/sda", "sys/dev/block/8:0"] {
        std::os::unix::fs::symlink(&folder, root.path().join(link)).unwrap();
    }
    let partition = folder.join("sda1");
    fs::create_dir_all(&partition).unwrap();
    for (name, value) in [("dev", "8:1\n"), ("size", "1024\n"), ("start", "512\n"), ("partition", "1\n")] {
        fs::write(partition.join(name), value).unwrap();
    }
    for link in ["sys/class/block/sda1", "sys/dev/block/8:1"] {
        std::os::unix::fs::symlink(&partition, root.path().join(link)).unwrap();
    }
    let host = Host::at(root.path());
    (root, host)
}

fn find(attributes: &[(&str, &str)]) -> Result<Device, Untrackable> {
    let (_root, host) = machine(attributes);
    Device::find_on(&host, Path::new("/dev/sda"))
}

#[test]
fn a_partition_is_tracked_as_its_disk() {
    let (_root, host) = machine(&[("queue/max_discard_segments", "1\n")]);
    for path in ["/dev/sda", "/dev/sda1"] {
        let device = Device::find_on(&host, Path::new(path)).unwrap();
        assert_eq!((device.number, device.size_bytes), (DeviceNumber { major: 8, minor: 0 }, 1 << 20));
        assert_eq!((device.sequence, device.scattered_discards), (9, false));
        assert_eq!(device.now(), Some((1 << 20, 9)));
    }
    assert!(find(&[("queue/max_discard_segments", "256\n")]).unwrap().scattered_discards);
}

#[test]
fn what_cannot_be_tracked_says_why() {
    let cases: [(&[(&str, &str)], &str); 8] = [
        (&[("dm/uuid", "LVM-x")], "mapped"),
        (&[("md/level", "raid1")], "RAID"),
        (&[("multipath/x", "")], "NVMe"),
        (&[("hidden", "1\n")], "hidden"),
        (&[("queue/zoned", "host-managed\n")], "zoned"),
        (&[("holders/dm-0/dm/uuid", "mpath-3600\n")], "several paths"),
        (&[("queue/iostats", "0\n")], "does not count"),
        (&[("size", "0\n")], "nothing is attached"),
    ];
    for (attributes, reason) in cases {
        let error = find(attributes).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let (root, host) = machine(&[]);
    fs::remove_dir_all(root.path().join("sys/devices/sda/mq")).unwrap();
    let error = Device::find_on(&host, Path::new("/dev/sda")).unwrap_err().to_string();
    assert!(error.contains("without requests"), "{error}");
    assert!(matches!(Device::find(Path::new("/etc/passwd")), Err(Untrackable::NoDevice { .. })));
}

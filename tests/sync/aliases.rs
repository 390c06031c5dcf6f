//! One storage under two names is refused, whatever the names are.

use std::fs::hard_link;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, mknod};

use crate::fixture::Need::{LoopDevices, Program};
use crate::fixture::{LoopDevice, LoopOptions, Model, Mount, Random, Scratch, need, program, run};

use super::disks::{Disk, Kind};
use super::refusals::{assert_refused, noise};
use super::{MIB, sync_well};

const SAME: &str = "are the same storage";

fn refused_both_ways(scratch: &Scratch, one: &Path, other: &Path, kept: &[&Path], words: &[&str]) {
    assert_refused(scratch, one, other, kept, words);
    assert_refused(scratch, other, one, kept, words);
}

#[test]
fn a_file_by_all_its_names() {
    let scratch = Scratch::new();
    let disk = noise(&scratch, "disk", MIB);
    let (linked, hard) = (scratch.path("symbolic"), scratch.path("hard"));
    symlink(&disk, &linked).expect("links can be made");
    hard_link(&disk, &hard).expect("links can be made");
    let roundabout = scratch.folder("folder").join("..").join("disk");
    for other in [&disk, &linked, &hard, &roundabout] {
        refused_both_ways(&scratch, &disk, other, &[&disk], &[SAME, "nothing was written"]);
    }
}

#[test]
fn a_file_through_a_bind_mount() {
    let Some(()) = need(&[LoopDevices]) else { return };
    let scratch = Scratch::new();
    let folder = scratch.folder("folder");
    let disk = noise(&scratch, "folder/disk", MIB);
    let _mount = Mount::new(&folder, &scratch.folder("mount"), "bind");
    refused_both_ways(&scratch, &disk, &scratch.path("mount/disk"), &[&disk], &[SAME]);
}

#[test]
fn a_loop_device_and_its_file() {
    let Some(()) = need(&[LoopDevices]) else { return };
    let scratch = Scratch::new();
    let disk = noise(&scratch, "disk", MIB);
    let device = LoopDevice::attach(&disk, 512);
    refused_both_ways(&scratch, &disk, device.path(), &[&disk], &[SAME]);
}

#[test]
fn two_loop_devices_over_one_file() {
    let Some(()) = need(&[LoopDevices]) else { return };
    let scratch = Scratch::new();
    let disk = noise(&scratch, "disk", MIB);
    let (one, other) = (LoopDevice::attach(&disk, 512), LoopDevice::attach(&disk, 512));
    refused_both_ways(&scratch, one.path(), other.path(), &[&disk], &["same storage"]);
}

#[test]
fn a_device_by_another_node() {
    let Some(()) = need(&[LoopDevices]) else { return };
    let scratch = Scratch::new();
    let disk = noise(&scratch, "disk", MIB);
    let device = LoopDevice::attach(&disk, 512);
    let (node, link) = (scratch.path("node"), scratch.path("by-id"));
    let number = std::fs::metadata(device.path()).expect("it is attached").rdev();
    mknod(&node, SFlag::S_IFBLK, Mode::S_IRWXU, number).expect("root can make nodes");
    symlink(device.path(), &link).expect("links can be made");
    for other in [device.path(), &node, &link] {
        refused_both_ways(&scratch, device.path(), other, &[&disk], &[SAME]);
    }
}

#[test]
fn a_partition_and_its_disk() {
    let Some(()) = need(&[LoopDevices, Program("addpart")]) else { return };
    let scratch = Scratch::new();
    let backing = noise(&scratch, "disk", 24 * MIB);
    let options = LoopOptions { has_partitions: true, ..LoopOptions::default() };
    let disk = LoopDevice::attach_with(&backing, options);
    let first = disk.add_partition(1, 1 << 20, 8 << 20);
    let second = disk.add_partition(2, 12 << 20, 8 << 20);
    assert_refused(&scratch, &first, disk.path(), &[&backing], &[SAME]);
    let larger = disk.add_partition(3, 20 << 20, 4 << 20);
    assert_refused(&scratch, disk.path(), &larger, &[&backing], &["same storage"]);
    // Two partitions of one disk are two disks.
    sync_well(&scratch, &["--verify"], &first, &second);
    run(program("blockdev").arg("--flushbufs").arg(&second));
    run(program("cmp").arg(&first).arg(&second));
}

#[test]
fn an_image_and_its_extent() {
    let scratch = Scratch::new();
    let model = Model::random(9 * MIB, &mut Random::new());
    for (name, kind) in [("flat", Kind::Vmfs), ("split", Kind::Split)] {
        let image = Disk::make(&scratch, name, kind, 9 * MIB);
        image.fill(&model);
        let extent = if kind == Kind::Vmfs { "disk-flat.vmdk" } else { "disk-f004.vmdk" };
        let extent = scratch.path(&format!("{name}/{extent}"));
        assert_refused(&scratch, &extent, image.path(), &[&extent], &[SAME]);
        let before = image.read();
        refused_both_ways(&scratch, image.path(), image.path(), &[image.path(), &extent], &[SAME]);
        assert!(image.read() == before);
    }
    let whole = scratch.path("flat/disk-flat.vmdk");
    assert_refused(&scratch, &scratch.path("flat/disk.vmdk"), &whole, &[&whole], &[SAME]);
}

#[test]
fn two_images_that_share_an_extent() {
    let scratch = Scratch::new();
    let image = Disk::make(&scratch, "image", Kind::Split, 9 * MIB);
    image.fill(&Model::random(9 * MIB, &mut Random::new()));
    let other = scratch.path("image/other.vmdk");
    let text = std::fs::read_to_string(image.path()).expect("it was made");
    std::fs::write(&other, text).expect("the scratch directory has room");
    let extent = scratch.path("image/disk-f002.vmdk");
    refused_both_ways(&scratch, image.path(), &other, &[&extent], &[SAME]);
}

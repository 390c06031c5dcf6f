//! Disks that are protected onto VMDK images: points and rewinds as on any target,
//! past the ends of extents, and a descriptor that nobody writes.

use std::fs;
use std::path::{Path, PathBuf};

use super::ends::Ends;
use super::rig::{Protected, Rig, Setup, able, failback, path_text};
use super::volume::fill;
use crate::fixture::{Random, Scratch, assert_image_sound, assert_same_image};
use crate::sync::disks::{Disk, Kind};

const MIB: u64 = 1 << 20;
const DISK_BYTES: u64 = 10 * MIB;
const POINTS: [&str; 3] = ["one", "two", "three"];

/// The image holds `bytes`, as a program reads it that shares no code with failback.
fn assert_holds(rig: &Rig, image: &Path, bytes: &[u8]) {
    let expected = rig.scratch.file("expected.raw", bytes);
    assert_same_image(&expected, "raw", image, "vmdk");
    assert_image_sound(image, "vmdk");
}

fn protects_onto(make: impl FnOnce(&Scratch) -> PathBuf) {
    let Some(()) = able(&["qemu-img"]) else { return };
    let (mut random, scratch) = (Random::new(), Scratch::new());
    let image = make(&scratch);
    let descriptor = fs::read(&image).expect("it was made");
    let source = scratch.image("source", DISK_BYTES);
    let disk = Protected::onto_image("data", DISK_BYTES, &source, &image);
    let rig = Rig::with(scratch, vec![disk], Setup::default());
    let source = rig.disks[0].source.path();
    // The end stays zeroes.
    fill(source, 0, 9 << 20, &mut random);
    let ends = Ends::start(&rig);
    rig.wait_for_points();
    let states = POINTS.map(|name| {
        // Across the ends of the extents of a split image, and anywhere.
        for (at, bytes) in [(MIB, 8 << 10), (4 * MIB + (32 << 10), 64 << 10), (random.below(9 * MIB), 5000)] {
            fill(source, at, bytes, &mut random);
        }
        rig.cut(name, &[]);
        fs::read(source).expect("a device can be read")
    });
    rig.agent(&["finish"]).expect_success();
    ends.stop();
    assert_holds(&rig, &image, &states[2]);
    for number in [0, 2, 1] {
        let epoch = rig.point("data", POINTS[number]).epoch;
        assert!(fs::read(rig.copy("data", epoch)).expect("it was made") == states[number], "{number}");
        rig.rewind("data", epoch);
        assert_holds(&rig, &image, &states[number]);
    }
    assert!(fs::read(&image).expect("it is there") == descriptor, "the descriptor was changed");
}

#[test]
fn a_disk_is_protected_onto_an_image_that_failback_made() {
    protects_onto(|scratch| {
        let image = scratch.folder("target").join("disk.vmdk");
        failback(&["image", "create", path_text(&image), "--size", "10M"]).expect_success();
        image
    });
}

fn protects_onto_kind(kind: Kind) {
    let bytes = usize::try_from(DISK_BYTES).expect("a small disk");
    protects_onto(|scratch| Disk::make(scratch, "target", kind, bytes).path().to_path_buf());
}

#[test]
fn a_disk_is_protected_onto_several_extents() {
    protects_onto_kind(Kind::Split);
}

/// Both halves lie in one file, the second one first.
#[test]
fn a_disk_is_protected_onto_extents_at_offsets() {
    protects_onto_kind(Kind::Offsets);
}

#[test]
fn a_disk_is_protected_onto_an_image_of_vmfs() {
    protects_onto_kind(Kind::Vmfs);
}

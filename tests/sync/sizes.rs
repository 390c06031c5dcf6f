//! Sizes at which arithmetic goes wrong: around sectors, chunks, windows and
//! segments; and targets that are larger.

use std::fs;
use std::path::Path;

use crate::fixture::Need::{LoopDevices, Program};
use crate::fixture::{
    LoopDevice, Model, Random, Scratch, assert_image_sound, assert_same_bytes, assert_same_image, need,
};

use super::{CHUNK, KIB, MIB, notices, number, qemu_img, sync, sync_well};

/// A page of bytes after the source's end that nobody may touch.
const TAIL: usize = 3 * MIB + 77;

const SIZES: [usize; 14] = [
    1,
    511,
    512,
    513,
    4095,
    CHUNK - 1,
    CHUNK + 1,
    MIB - 512,
    MIB,
    MIB + 1,
    MIB + CHUNK + 1,
    3 * MIB - 1,
    3 * MIB + 5 * KIB + 3,
    8 * MIB + 4096,
];

fn with_tail(model: &Model, tail: &Model) -> Model {
    Model { bytes: [&model.bytes[..], &tail.bytes[..]].concat() }
}

#[test]
fn files_of_odd_sizes() {
    let mut random = Random::new();
    let scratch = Scratch::new();
    for size in SIZES {
        let (source, target) = (scratch.path(&format!("{size}")), scratch.path(&format!("{size}.copy")));
        let mut model = Model::mixed(size, &mut random);
        model.save(&source);
        sync_well(&scratch, &["--create", "--verify"], &source, &target);
        assert_eq!(fs::metadata(&target).expect("it was made").len(), size as u64);
        model.assert_starts(&target);
        model.scribble(3, &mut random);
        model.write_over(&source);
        sync_well(&scratch, &["--verify"], &source, &target);
        model.assert_starts(&target);
    }
}

#[test]
fn a_larger_file_keeps_its_tail() {
    let mut random = Random::new();
    let scratch = Scratch::new();
    for size in SIZES {
        let (source, target) = (scratch.path(&format!("{size}")), scratch.path(&format!("{size}.larger")));
        let (model, tail) = (Model::mixed(size, &mut random), Model::random(TAIL, &mut random));
        model.save(&source);
        with_tail(&Model::random(size, &mut random), &tail).save(&target);
        let outcome = sync(&scratch, &["--json"], &source, &target).run().expect_success();
        assert!(notices(&outcome).contains(&"larger-target".to_owned()), "{outcome}");
        with_tail(&model, &tail).assert_starts(&target);
        assert_eq!(fs::metadata(&target).expect("it is there").len(), (size + TAIL) as u64);
        let outcome = sync(&scratch, &[], &source, &target).run().expect_success();
        let said = format!("larger by {TAIL} bytes");
        assert!(outcome.stderr.contains(&said), "{outcome}");
    }
}

fn onto_a_larger_device(sector_bytes: u32) {
    let Some(()) = need(&[LoopDevices]) else { return };
    let mut random = Random::new();
    let scratch = Scratch::new();
    let device = LoopDevice::attach(&scratch.image("device.raw", 12 << 20), sector_bytes);
    for size in SIZES {
        let source = scratch.path(&format!("{size}"));
        let (model, tail) = (Model::mixed(size, &mut random), Model::random(12 * MIB - size, &mut random));
        model.save(&source);
        with_tail(&Model::random(size, &mut random), &tail).write_over(device.path());
        sync_well(&scratch, &["--verify"], &source, device.path());
        let expected = scratch.path("expected.raw");
        with_tail(&model, &tail).save(&expected);
        assert_same_bytes(&expected, device.path(), 12 << 20);
        // A source that ends in zeroes within a sector.
        Model::zeroes(size).write_over(&source);
        sync_well(&scratch, &["--verify"], &source, device.path());
        with_tail(&Model::zeroes(size), &tail).save(&expected);
        assert_same_bytes(&expected, device.path(), 12 << 20);
    }
}

#[test]
fn a_larger_device_keeps_its_tail() {
    onto_a_larger_device(512);
}

#[test]
fn a_larger_device_of_large_sectors_keeps_its_tail() {
    onto_a_larger_device(4096);
}

/// Data on both sides of every border between segments of 64 MiB, and at the end.
fn around_segments(length: usize, random: &mut Random) -> Model {
    let mut model = Model::zeroes(length);
    for border in (0..length).step_by(64 * MIB).chain([length]) {
        let (start, end) = (border.saturating_sub(300 * KIB), length.min(border + 300 * KIB));
        random.fill(&mut model.bytes[start..end]);
    }
    model
}

#[test]
fn segments_are_dealt_to_any_number_of_streams() {
    let mut random = Random::new();
    let scratch = Scratch::new();
    let length = 200 * MIB + 12_345;
    let (source, target) = (scratch.path("source.raw"), scratch.image("target.raw", length as u64));
    let mut model = around_segments(length, &mut random);
    model.save_sparse(&source);
    for streams in ["1", "2", "3", "4", "16"] {
        let summary = sync_well(&scratch, &["--streams", streams, "--verify"], &source, &target);
        assert_same_bytes(&source, &target, length as u64);
        let lanes = streams.parse::<u64>().expect("it is a number").min(4);
        assert_eq!(number(&summary, "streams"), lanes, "no more lanes than segments");
        assert_eq!(summary["verified"], true);
        model.scribble(9, &mut random);
        model.write_over(&source);
    }
}

#[test]
fn an_image_across_the_border_of_two_gigabytes() {
    let Some(()) = need(&[Program("qemu-img")]) else { return };
    let mut random = Random::new();
    let scratch = Scratch::new();
    let size = (2_u64 << 30) + (64 << 20);
    let source = scratch.image("source.raw", size);
    let piece = Model::random(3 * MIB, &mut random);
    write_at(&source, &piece, 0);
    write_at(&source, &piece, (2 << 30) - (1 << 20) - 700);
    write_at(&source, &piece, size - piece.bytes.len() as u64);
    let theirs = scratch.path("theirs.vmdk");
    let bytes = size.to_string();
    let options = ["create", "-q", "-f", "vmdk", "-o", "subformat=twoGbMaxExtentFlat"];
    qemu_img(options.map(Path::new).into_iter().chain([theirs.as_path(), Path::new(&bytes)]));
    let ours = scratch.path("ours.vmdk");
    let mut create: Vec<&std::ffi::OsStr> =
        ["image", "create", "--format", "vmdk-split", "--size"].map(AsRef::as_ref).into();
    create.extend([bytes.as_ref(), ours.as_os_str()]);
    crate::fixture::Failback::new(&scratch, create).run().expect_success();
    for target in [&theirs, &ours] {
        sync_well(&scratch, &["--verify"], &source, target);
        assert_same_image(&source, "raw", target, "vmdk");
        assert_image_sound(target, "vmdk");
    }
    let back = scratch.path("back.raw");
    let summary = sync_well(&scratch, &["--create"], &theirs, &back);
    assert_eq!(number(&summary, "bytes_total"), size);
    assert_same_image(&source, "raw", &back, "raw");
}

fn write_at(path: &Path, model: &Model, offset: u64) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).open(path).expect("it was made");
    file.write_all_at(&model.bytes, offset).expect("the filesystem has room");
}

//! `failback image`: made by us and read by others, made by others and read by us.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::fixture::Need::{LoopDevices, Program};
use crate::fixture::{
    Failback, LoopDevice, Model, Mount, Outcome, Random, Scratch, assert_image_sound, assert_same_bytes,
    assert_same_image, need, program, run,
};

use super::{MIB, hash, make_filesystem, number, qemu_img, sync_well};

fn image(scratch: &Scratch, arguments: &[&str], path: &Path) -> Outcome {
    let mut all: Vec<OsString> = vec!["image".into()];
    all.extend(arguments.iter().map(OsString::from));
    all.push(path.into());
    Failback::new(scratch, all).run()
}

fn info(scratch: &Scratch, path: &Path) -> Value {
    image(scratch, &["info", "--json"], path).expect_success().summary()
}

#[test]
fn images_made_by_us_are_sound_for_others() {
    let Some(()) = need(&[Program("qemu-img"), Program("cmp")]) else { return };
    let mut random = Random::new();
    let cases = [
        (&["--format", "raw"][..], "disk.raw", "raw"),
        (&[], "plain.img", "raw"),
        (&[], "named.vmdk", "vmdk"),
        (&["--format", "vmdk-flat"], "flat.vmdk", "vmdk"),
        (&["--format", "vmdk-split"], "split.vmdk", "vmdk"),
        (&["--format", "vmdk-vmfs"], "vmfs.vmdk", "vmdk"),
    ];
    let scratch = Scratch::new();
    let source = scratch.path("source.raw");
    let model = Model::mixed(12 * MIB, &mut random);
    model.save(&source);
    for (options, name, format) in cases {
        let path = scratch.path(name);
        let create = [&["create", "--size", "12M"], options].concat();
        image(&scratch, &create, &path).expect_success();
        assert_image_sound(&path, format);
        let empty = scratch.path("empty.raw");
        Model::zeroes(12 * MIB).save(&empty);
        assert_same_image(&empty, "raw", &path, format);
        let told = qemu_img(["info".as_ref(), "-f".as_ref(), format.as_ref(), path.as_os_str()]);
        assert!(told.contains("12582912 bytes"), "{told}");
        let ours = info(&scratch, &path);
        assert_eq!((number(&ours, "size_bytes"), ours["unfinished"].is_null()), (12 << 20, true), "{ours}");
        sync_well(&scratch, &["--verify"], &source, &path);
        assert_image_sound(&path, format);
        assert_same_image(&source, "raw", &path, format);
        // It is not made twice.
        let outcome = image(&scratch, &create, &path).expect_code(3);
        assert!(outcome.stderr.contains("exists"), "{outcome}");
        assert_same_image(&source, "raw", &path, format);
    }
}

#[test]
fn images_made_by_others_are_read() {
    let Some(()) = need(&[Program("qemu-img")]) else { return };
    let mut random = Random::new();
    let scratch = Scratch::new();
    let raw = scratch.path("raw.raw");
    Model::mixed(10 * MIB + 512, &mut random).save(&raw);
    for subformat in ["monolithicFlat", "twoGbMaxExtentFlat"] {
        let path = scratch.path(&format!("{subformat}.vmdk"));
        let option = format!("subformat={subformat}");
        let arguments = ["convert", "-f", "raw", "-O", "vmdk", "-o", &option];
        qemu_img(arguments.map(OsString::from).into_iter().chain([raw.clone().into(), path.clone().into()]));
        let told = info(&scratch, &path);
        assert_eq!(
            (number(&told, "size_bytes"), &told["kind"]),
            ((10 << 20) + 512, &info_kind(&scratch, &path))
        );
        let copy = scratch.path(&format!("{subformat}.raw"));
        sync_well(&scratch, &["--create", "--verify"], &path, &copy);
        assert_same_bytes(&raw, &copy, (10 << 20) + 512);
    }
    for subformat in ["monolithicSparse", "streamOptimized", "twoGbMaxExtentSparse"] {
        let path = scratch.path(&format!("{subformat}.vmdk"));
        let option = format!("subformat={subformat}");
        let arguments = ["convert", "-f", "raw", "-O", "vmdk", "-o", &option];
        qemu_img(arguments.map(OsString::from).into_iter().chain([raw.clone().into(), path.clone().into()]));
        let outcome = image(&scratch, &["info"], &path).expect_code(3);
        assert!(outcome.stderr.contains("convert"), "{outcome}");
    }
}

/// The kind that the text for people names.
fn info_kind(scratch: &Scratch, path: &Path) -> Value {
    let text = image(scratch, &["info"], path).expect_success().stdout;
    let line = text.lines().find_map(|line| line.strip_prefix("kind:"));
    let kind = line.unwrap_or_else(|| panic!("no kind in {text}")).trim().to_owned();
    assert!(kind.to_lowercase().contains("vmdk"), "{text}");
    info(scratch, path)["kind"].clone()
}

#[test]
fn sizes_and_names_that_no_image_has() {
    let scratch = Scratch::new();
    for (options, name) in [
        (&["create", "--size", "0"][..], "none.raw"),
        (&["create", "--size", "1000"], "uneven.vmdk"),
        (&["create", "--size", "1M"], "no-such-folder/disk.raw"),
        (&["create", "--size", "1M", "--format", "vmdk-flat"], "disk.raw"),
    ] {
        let path = scratch.path(name);
        image(&scratch, options, &path).expect_code(3);
        assert!(!path.exists());
    }
    image(&scratch, &["create", "--size", "many"], &scratch.path("x")).expect_code(2);
    assert_eq!(fs::read_dir(scratch.root()).expect("it is there").count(), 0, "nothing is left behind");
}

/// Attaches by failback; the device is detached by the fixture at the latest.
fn attach(scratch: &Scratch, options: &[&str], path: &Path) -> PathBuf {
    let outcome = image(scratch, &[&["attach"], options].concat(), path).expect_success();
    let device = PathBuf::from(outcome.stdout.trim());
    assert!(device.starts_with("/dev"), "{outcome}");
    device
}

fn ask(device: &Path) -> String {
    run(program("blockdev").args(["--getss", "--getro", "--getsize64"]).arg(device))
}

#[test]
fn attached_as_asked_and_detached() {
    let Some(()) = need(&[LoopDevices, Program("cmp")]) else { return };
    let mut random = Random::new();
    let scratch = Scratch::new();
    let disk = scratch.path("disk.raw");
    Model::random(8 * MIB, &mut random).save(&disk);
    let cases = [
        (&[][..], "512\n0\n8388608"),
        (&["--sector-size", "4096"], "4096\n0\n8388608"),
        (&["--read-only"], "512\n1\n8388608"),
        (&["--ro", "--sector-size", "4096", "--buffered"], "4096\n1\n8388608"),
    ];
    for (options, told) in cases {
        let device = attach(&scratch, options, &disk);
        assert_eq!(ask(&device), told);
        assert_same_bytes(&disk, &device, 8 << 20);
        let listed = info(&scratch, &disk);
        assert_eq!(listed["attached"][0], device.display().to_string(), "{listed}");
        image(&scratch, &["detach"], &device).expect_success();
        assert_eq!(info(&scratch, &disk)["attached"].as_array().map(Vec::len), Some(0));
        image(&scratch, &["detach"], &device).expect_code(3);
    }
    let outcome = image(&scratch, &["attach", "--json", "--read-only"], &disk).expect_success();
    let event = outcome.summary();
    assert_eq!((event["read_only"].as_bool(), number(&event, "sector_bytes")), (Some(true), 512), "{event}");
    let device = PathBuf::from(event["device"].as_str().expect("a path"));
    // A second one over the same bytes would lose writes.
    let outcome = image(&scratch, &["attach"], &disk).expect_code(3);
    assert!(outcome.stderr.contains("attached as"), "{outcome}");
    image(&scratch, &["detach"], &device).expect_success();
    image(&scratch, &["attach", "--sector-size", "1000"], &disk).expect_code(2);
    image(&scratch, &["attach"], &scratch.path("none")).expect_code(3);
    image(&scratch, &["detach"], &disk).expect_code(3);
}

#[test]
fn an_extent_is_attached_where_it_begins() {
    let Some(()) = need(&[LoopDevices, Program("cmp")]) else { return };
    let scratch = Scratch::new();
    let model = Model::random(5 * MIB, &mut Random::new());
    let (flat, expected) = (scratch.path("packed.vmdk"), scratch.path("expected.raw"));
    model.save(&flat);
    Model { bytes: model.bytes[4096..4 * MIB + 4096].to_vec() }.save(&expected);
    let text = "# Disk DescriptorFile\nversion=1\nCID=0badcafe\nparentCID=ffffffff\n\
                createType=\"monolithicFlat\"\nRW 8192 FLAT \"packed.vmdk\" 8\n";
    let descriptor = scratch.file("disk.vmdk", text);
    let device = attach(&scratch, &[], &descriptor);
    assert_eq!(ask(&device), "512\n0\n4194304");
    assert_same_bytes(&expected, &device, 4 << 20);
    image(&scratch, &["detach"], &device).expect_success();
}

#[test]
fn a_device_in_use_is_not_detached() {
    let Some(()) = need(&[LoopDevices, Program("mkfs.ext4")]) else { return };
    let scratch = Scratch::new();
    let disk = scratch.path("disk.vmdk");
    image(&scratch, &["create", "--size", "16M"], &disk).expect_success();
    let device = attach(&scratch, &[], &disk);
    make_filesystem(&device);
    let point = scratch.folder("mount");
    let mount = Mount::new(&device, &point, "");
    fs::write(point.join("file"), "kept").expect("the filesystem has room");
    let outcome = image(&scratch, &["detach"], &device).expect_code(3);
    assert!(outcome.stderr.contains("mounted on") && outcome.stderr.contains("mount"), "{outcome}");
    assert_eq!(fs::read_to_string(point.join("file")).expect("it is mounted"), "kept");
    drop(mount);
    image(&scratch, &["detach"], &device).expect_success();
    // What was written through the device is in the image.
    let copy = scratch.path("copy.raw");
    sync_well(&scratch, &["--create"], &disk, &copy);
    assert_eq!(hash(&copy), hash(&scratch.path("disk-flat.vmdk")));
    let device = LoopDevice::attach(&copy, 512);
    let _mount = Mount::new(device.path(), &point, "ro");
    assert_eq!(fs::read_to_string(point.join("file")).expect("it is mounted"), "kept");
}

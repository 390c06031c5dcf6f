//! What `sync` refuses before it writes a byte, with the reason and the remedy.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use failback_datapath::disk::{self, Purpose};
use failback_datapath::landing::{Owner, StateDirectory};

use crate::fixture::Need::{DeviceMapper, LoopDevices, Program, Root};
use crate::fixture::{LONG, LoopDevice, LoopOptions, Model, Mount, Random, Scratch, need, program, run};

use super::{MIB, hash, make_filesystem, marks, sync};

/// `sync` from `source` to `target` is refused with all of `words`, and `kept`
/// (files and devices) hold what they held.
pub fn assert_refused(scratch: &Scratch, source: &Path, target: &Path, kept: &[&Path], words: &[&str]) {
    let before: Vec<String> = kept.iter().map(|path| hash(path)).collect();
    for options in [&[][..], &["--whole", "--live"]] {
        let outcome = sync(scratch, options, source, target).run().expect_code(3);
        for words in words {
            assert!(outcome.stderr.contains(words), "no {words:?} in {outcome}");
        }
        assert!(outcome.stderr.contains("the target was not changed"), "{outcome}");
        assert!(outcome.stdout.is_empty(), "{outcome}");
    }
    let event = sync(scratch, &["--json"], source, target).run().expect_code(3).summary();
    assert_eq!((&event["code"], &event["target_state"]), (&"refused".into(), &"untouched".into()), "{event}");
    let after: Vec<String> = kept.iter().map(|path| hash(path)).collect();
    assert_eq!(before, after, "a refused run wrote");
    assert!(marks(scratch).is_empty());
}

/// A file of random bytes.
pub fn noise(scratch: &Scratch, name: &str, bytes: usize) -> std::path::PathBuf {
    let path = scratch.path(name);
    Model::random(bytes, &mut Random::new()).save(&path);
    path
}

#[test]
fn a_smaller_target() {
    let scratch = Scratch::new();
    let (source, target) = (noise(&scratch, "source", 2 * MIB), noise(&scratch, "target", 2 * MIB - 1));
    let words = ["is smaller than source", "2097151 bytes against 2097152", "grow it by 1 bytes"];
    assert_refused(&scratch, &source, &target, &[&target], &words);
}

/// Whether the master target runs or not: the mark is a file.
#[test]
fn a_target_that_a_master_target_owns() {
    let scratch = Scratch::new();
    let (source, target) = (noise(&scratch, "source", MIB), noise(&scratch, "target", MIB));
    let disk = disk::open(&target, Purpose::Inspection).expect("an image");
    let retention = scratch.path("retention");
    let owner = Owner::new(disk.identity(), disk.size_bytes(), target.clone(), retention, ("web", "sda"));
    let state = StateDirectory::new(scratch.path("state"));
    let ownership = state.own(disk.identity(), &owner).expect("nobody has it");
    let words =
        ["belongs to the master target", "disk sda of web", "retention", "failback master-target remove"];
    assert_refused(&scratch, &source, &target, &[&target], &words);
    ownership.release().expect("a mark");
    sync(&scratch, &[], &source, &target).run().expect_code(0);
}

#[test]
fn a_smaller_device() {
    let Some(()) = need(&[LoopDevices]) else { return };
    let scratch = Scratch::new();
    let (source, backing) = (noise(&scratch, "source", 2 * MIB + 1), noise(&scratch, "target", 2 * MIB));
    let target = LoopDevice::attach(&backing, 4096);
    assert_refused(&scratch, &source, target.path(), &[&backing], &["is smaller than source", "grow it"]);
}

#[test]
fn a_mounted_target() {
    let Some(()) = need(&[LoopDevices, Program("mkfs.ext4")]) else { return };
    let scratch = Scratch::new();
    let (source, backing) = (noise(&scratch, "source", MIB), scratch.image("target", 16 << 20));
    let target = LoopDevice::attach(&backing, 512);
    make_filesystem(target.path());
    let point = scratch.folder("mount");
    for options in ["ro", ""] {
        let _mount = Mount::new(target.path(), &point, options);
        run(program("sync").arg("-f").arg(&point));
        let words = ["is mounted at", "umount", &*point.to_string_lossy()];
        assert_refused(&scratch, &source, target.path(), &[&backing], &words);
        // What lies behind the device is the same disk.
        assert_refused(&scratch, &source, &backing, &[&backing], &["shares its storage", "umount"]);
    }
}

#[test]
fn a_target_with_a_mounted_partition() {
    let Some(()) = need(&[LoopDevices, Program("addpart"), Program("mkfs.ext4")]) else { return };
    let scratch = Scratch::new();
    let (source, backing) = (noise(&scratch, "source", MIB), scratch.image("target", 32 << 20));
    let options = LoopOptions { has_partitions: true, ..LoopOptions::default() };
    let target = LoopDevice::attach_with(&backing, options);
    let first = target.add_partition(1, 1 << 20, 16 << 20);
    let second = target.add_partition(2, 20 << 20, 8 << 20);
    make_filesystem(&first);
    let point = scratch.folder("mount");
    let mount = Mount::new(&first, &point, "ro");
    assert_refused(
        &scratch,
        &source,
        target.path(),
        &[&backing],
        &["its partition", "is mounted at", "umount"],
    );
    assert_refused(&scratch, &source, &first, &[&backing], &["is mounted at", "umount"]);
    // The partition beside it is another disk.
    super::sync_well(&scratch, &["--verify"], &source, &second);
    drop(mount);
    // And the whole disk cannot be mounted: the partition is the user.
    let held = OpenOptions::new().read(true).custom_flags(libc_o_excl()).open(&first);
    let _held = held.expect("nobody holds it");
    assert_refused(&scratch, &source, target.path(), &[&backing], &["held exclusively", "fuser"]);
}

/// `O_EXCL`, which on a block device is a claim.
fn libc_o_excl() -> i32 {
    nix::fcntl::OFlag::O_EXCL.bits()
}

#[test]
fn a_target_that_somebody_holds() {
    let Some(()) = need(&[LoopDevices]) else { return };
    let scratch = Scratch::new();
    let (source, backing) = (noise(&scratch, "source", MIB), noise(&scratch, "target", MIB));
    let target = LoopDevice::attach(&backing, 512);
    let held = OpenOptions::new().read(true).custom_flags(libc_o_excl()).open(target.path());
    let held = held.expect("nobody holds it");
    assert_refused(&scratch, &source, target.path(), &[&backing], &["held exclusively", "fuser -v"]);
    drop(held);
    super::sync_well(&scratch, &[], &source, target.path());
}

#[test]
fn a_target_that_another_run_writes() {
    let scratch = Scratch::new();
    let (source, target) = (noise(&scratch, "source", 8 * MIB), scratch.image("target", 8 << 20));
    let first = sync(&scratch, &["--json", "--limit-rate", "4M"], &source, &target).start();
    first.wait_for(LONG, |line| line.contains("progress").then_some(()));
    let other = noise(&scratch, "other", MIB);
    let outcome = sync(&scratch, &[], &other, &target).run().expect_code(3);
    assert!(outcome.stderr.contains("is locked by") && outcome.stderr.contains("end it"), "{outcome}");
    // Nor is it a source that stands still.
    let copy = scratch.image("copy", 8 << 20);
    let outcome = sync(&scratch, &[], &target, &copy).run().expect_code(3);
    assert!(outcome.stderr.contains("--live"), "{outcome}");
    first.finish(LONG).expect_success();
    assert_eq!(hash(&source), hash(&target));
}

/// Swap, taken back when dropped.
struct Swap<'a>(&'a Path);

impl Drop for Swap<'_> {
    fn drop(&mut self) {
        // Where that fails, the scratch directory's end sees to it.
        let _ = program("swapoff").arg(self.0).output();
    }
}

#[test]
fn a_target_that_is_swap() {
    let Some(()) = need(&[LoopDevices, Program("mkswap"), Program("swapon")]) else { return };
    let scratch = Scratch::new();
    let (source, backing) = (noise(&scratch, "source", MIB), scratch.path("target"));
    Model::zeroes(4 * MIB).save(&backing);
    let target = LoopDevice::attach(&backing, 512);
    run(program("mkswap").arg(target.path()));
    // Last in line, so that nothing is swapped there.
    let swapped = program("swapon").args(["--priority", "0"]).arg(target.path()).output();
    let swapped = swapped.expect("swapon starts");
    if !swapped.status.success() {
        eprintln!("skipped: this machine takes no swap: {}", String::from_utf8_lossy(&swapped.stderr));
        return;
    }
    let _swap = Swap(target.path());
    assert_refused(&scratch, &source, target.path(), &[&backing], &["is in use as swap", "swapoff"]);
}

#[test]
fn a_target_under_a_mapped_device() {
    let Some(()) = need(&[Root, LoopDevices, DeviceMapper, Program("dmsetup")]) else { return };
    let scratch = Scratch::new();
    let (source, backing) = (noise(&scratch, "source", MIB), noise(&scratch, "target", 4 * MIB));
    let target = LoopDevice::attach(&backing, 512);
    let name = format!("failback-refusal-{}", std::process::id());
    let table = format!("0 4096 linear {} 0", target.path().display());
    run(program("dmsetup").args(["create", &name, "--table", &table]));
    assert_refused(&scratch, &source, target.path(), &[&backing], &["stands on", "dmsetup remove"]);
    run(program("dmsetup").args(["remove", &name]));
}

#[test]
fn a_target_behind_a_loop_device() {
    let Some(()) = need(&[LoopDevices]) else { return };
    let scratch = Scratch::new();
    let (source, target) = (noise(&scratch, "source", MIB), noise(&scratch, "target", MIB));
    let device = LoopDevice::attach(&target, 512);
    let words = ["is attached to the same storage", "losetup --detach", &*device.path().to_string_lossy()];
    assert_refused(&scratch, &source, &target, &[&target], &words);
    drop(device);
}

#[test]
fn what_is_no_disk() {
    let scratch = Scratch::new();
    let source = noise(&scratch, "source", MIB);
    let pipe = scratch.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("pipes can be made");
    let socket = scratch.path("socket");
    let _listener = UnixListener::bind(&socket).expect("sockets can be made");
    let cases = [
        (scratch.folder("folder"), "a folder"),
        ("/dev/null".into(), "a character device"),
        (pipe, "a FIFO"),
        (socket, "a socket"),
    ];
    let remedy = "name a block device or a regular file";
    for (path, found) in cases {
        assert_refused(&scratch, &source, &path, &[], &[found, remedy]);
        assert_refused(&scratch, &path, &source, &[&source], &[found, remedy]);
    }
    assert_refused(&scratch, &source, &scratch.path("none"), &[], &["does not exist", "--create"]);
    assert_refused(&scratch, &scratch.path("none"), &source, &[&source], &["does not exist"]);
    let empty = scratch.file("empty", "");
    assert_refused(&scratch, &empty, &source, &[&source], &["nothing to copy"]);
}

#[test]
fn a_read_only_device() {
    let Some(()) = need(&[LoopDevices]) else { return };
    let scratch = Scratch::new();
    let (source, backing) = (noise(&scratch, "source", MIB), noise(&scratch, "target", MIB));
    let options = LoopOptions { is_read_only: true, ..LoopOptions::default() };
    let target = LoopDevice::attach_with(&backing, options);
    assert_refused(&scratch, &source, target.path(), &[&backing], &["read-only device", "blockdev --setrw"]);
    // To read from, it is good.
    let copy = scratch.path("copy");
    super::sync_well(&scratch, &["--create"], target.path(), &copy);
    assert_eq!(hash(&copy), hash(&backing));
}

#[test]
fn a_file_on_a_read_only_filesystem() {
    let Some(()) = need(&[LoopDevices, Program("mkfs.ext4")]) else { return };
    let scratch = Scratch::new();
    let source = noise(&scratch, "source", MIB);
    let device = LoopDevice::attach(&scratch.image("disk", 16 << 20), 512);
    make_filesystem(device.path());
    let point = scratch.folder("mount");
    let target = point.join("target");
    {
        let _mount = Mount::new(device.path(), &point, "");
        fs::write(&target, vec![7; MIB]).expect("the filesystem has room");
    }
    let _mount = Mount::new(device.path(), &point, "ro");
    assert_refused(&scratch, &source, &target, &[&target], &["read-only filesystem", "remount"]);
}

#[test]
fn a_file_that_must_not_change() {
    let Some(()) = need(&[Root, Program("chattr")]) else { return };
    let scratch = Scratch::new();
    let (source, target) = (noise(&scratch, "source", MIB), noise(&scratch, "target", MIB));
    let set = program("chattr").arg("+i").arg(&target).output().expect("chattr starts");
    if !set.status.success() {
        eprintln!("skipped: this filesystem has no attributes");
        return;
    }
    let refused = std::panic::catch_unwind(|| {
        assert_refused(&scratch, &source, &target, &[&target], &["must not be changed", "chattr -i"]);
    });
    // The scratch directory could not be taken away otherwise.
    run(program("chattr").arg("-i").arg(&target));
    refused.expect("it is refused");
}

//! What is frozen, in which order, and that it stands still meanwhile.

use std::fs;
use std::path::Path;

use failback_datapath::quiesce::{Cause, Error, FreezePlan, Limit, Unquiesced, Watchdog};

use super::rig::{Filesystem, Writer, able, is_frozen, make, number, plan, watchdog, watchdog_command};
use crate::fixture::{LONG, LoopDevice, LoopOptions, Mount, Need, Scratch, need, program, run};

/// The allocated bytes of an image, read past nothing: loop devices in this test
/// write to it directly.
fn content(image: &Path) -> Vec<u8> {
    run(program("sha256sum").arg(image)).into_bytes()
}

fn stands_still(outer: &str, inner: &str) {
    let scratch = Scratch::new();
    let outer = Filesystem::new(&scratch, "outer", outer);
    let inner = Filesystem::within(&scratch, &outer, "inner", inner);
    let plan = plan(&[&outer]);
    let numbers: Vec<_> = plan.superblocks().iter().map(|superblock| superblock.number).collect();
    assert_eq!(numbers, [inner.number(), outer.number()], "top first");
    let mut watchdog = watchdog(&scratch);
    let writers = [Writer::start(&outer.point), Writer::start(&inner.point)];
    let frozen = plan.freeze(Limit::Budget(LONG), &mut watchdog).unwrap();
    writers.iter().for_each(Writer::waits);
    assert!(outer.is_frozen() && inner.is_frozen());
    let before = content(&outer.image);
    assert!(frozen.unquiesced().is_empty() && !frozen.remaining().is_zero());
    assert_eq!(content(&outer.image), before, "it stands still");
    let thawed = frozen.thaw().unwrap();
    writers.iter().for_each(Writer::goes_on);
    assert!(thawed.still_valid && thawed.cause == Cause::Asked);
    let order = [thawed.began_ns, thawed.frozen_ns, thawed.thawing_ns, thawed.thawed_ns];
    assert!(order.is_sorted() && thawed.frozen_ms() > 0, "{thawed:?}");
    drop(writers);
    assert_ne!(content(&outer.image), before, "it went on");
}

#[test]
fn xfs_on_a_file_of_ext4_stands_still() {
    let Some(()) = able() else { return };
    stands_still("ext4", "xfs");
}

#[test]
fn ext4_on_a_file_of_xfs_stands_still() {
    let Some(()) = able() else { return };
    stands_still("xfs", "ext4");
}

#[test]
fn cuts_follow_each_other_while_a_writer_writes() {
    let Some(()) = able() else { return };
    let scratch = Scratch::new();
    let filesystems = [Filesystem::new(&scratch, "a", "ext4"), Filesystem::new(&scratch, "b", "xfs")];
    let mut watchdog = watchdog(&scratch);
    let _writers = filesystems.each_ref().map(|filesystem| Writer::start(&filesystem.point));
    let mut stopped = Vec::new();
    for _ in 0..50 {
        let frozen =
            plan(&[&filesystems[0], &filesystems[1]]).freeze(Limit::Budget(LONG), &mut watchdog).unwrap();
        let thawed = frozen.thaw().unwrap();
        assert!(thawed.still_valid);
        stopped.push(thawed.stopped());
    }
    stopped.sort();
    println!("stopped: median {:?}, longest {:?}", stopped[25], stopped[49]);
    assert!(fs::read_dir(scratch.path("state")).unwrap().next().is_none(), "no record is left");
}

#[test]
fn a_partition_belongs_to_its_disk_and_swap_is_told() {
    let Some(()) = able() else { return };
    let Some(()) = need(&[Need::Program("mkswap"), Need::Program("addpart")]) else { return };
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", 64 << 20);
    let options = LoopOptions { has_partitions: true, ..LoopOptions::default() };
    let device = LoopDevice::attach_with(&image, options);
    let first = device.add_partition(1, 1 << 20, 20 << 20);
    let second = device.add_partition(2, 21 << 20, 20 << 20);
    make("ext4", &first);
    let mount = Mount::new(&first, &scratch.folder("first"), "");
    run(program("mkswap").arg(&second));
    run(program("swapon").arg(&second));
    let plan = FreezePlan::of(&[number(device.path())]).unwrap();
    assert_eq!(plan.superblocks().iter().map(|one| one.number).collect::<Vec<_>>(), [number(&first)]);
    assert_eq!(plan.unquiesced(), [Unquiesced::Swap(second.clone())]);
    let mut watchdog = watchdog(&scratch);
    let frozen = plan.freeze(Limit::Budget(LONG), &mut watchdog).unwrap();
    assert!(is_frozen(mount.point()));
    assert_eq!(frozen.unquiesced().len(), 1);
    drop(frozen);
    assert!(!is_frozen(mount.point()), "a freeze that is dropped is thawed");
    run(program("swapoff").arg(&second));
    drop(mount);
    let plan = FreezePlan::of(&[number(device.path())]).unwrap();
    assert!(plan.superblocks().is_empty() && plan.unquiesced().is_empty());
    let thawed = plan.freeze(Limit::default(), &mut watchdog).unwrap().thaw().unwrap();
    assert!(thawed.still_valid, "nothing to freeze is a freeze too");
}

#[test]
fn writes_through_an_overlay_wait_for_the_filesystem_below() {
    let Some(()) = able() else { return };
    let scratch = Scratch::new();
    let filesystem = Filesystem::new(&scratch, "below", "ext4");
    let folders = ["lower", "upper", "work"].map(|name| filesystem.point.join(name));
    folders.iter().for_each(|folder| fs::create_dir(folder).unwrap());
    let [lower, upper, work] = folders.each_ref().map(|folder| folder.display());
    let point = scratch.folder("overlay");
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let mut command = program("mount");
    let mounted = command.args(["-t", "overlay", "-o", &options, "overlay"]).arg(&point).output().unwrap();
    assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
    let mut watchdog = watchdog(&scratch);
    let plan = plan(&[&filesystem]);
    assert_eq!(plan.superblocks().len(), 1);
    {
        let writer = Writer::start(&point);
        let frozen = plan.freeze(Limit::Budget(LONG), &mut watchdog).unwrap();
        writer.waits();
        assert!(frozen.thaw().unwrap().still_valid);
        writer.goes_on();
    }
    run(program("umount").arg(&point));
}

#[test]
fn the_record_must_not_lie_on_what_is_frozen() {
    let Some(()) = able() else { return };
    let scratch = Scratch::new();
    let filesystem = Filesystem::new(&scratch, "a", "ext4");
    let mut watchdog = Watchdog::start_as(watchdog_command(), &filesystem.point).unwrap();
    let refused = plan(&[&filesystem]).freeze(Limit::default(), &mut watchdog);
    assert!(matches!(refused, Err(Error::RecordWithin { .. })), "{refused:?}");
}

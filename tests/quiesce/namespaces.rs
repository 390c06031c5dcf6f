//! Filesystems that are mounted several times, covered, or out of our sight.

use std::path::Path;

use failback_datapath::quiesce::{FreezePlan, Limit};

use super::rig::{Filesystem, MEBIBYTE, Writer, able, freeze_by_hand, make, number, watchdog};
use crate::fixture::{LONG, LoopDevice, Mount, Running, Scratch, program, run};

/// Lets go of what other tests have mounted, which the new namespace would hold,
/// and mounts the device "$1" at "$2".
const HIDE: &str = r#"
    while read -r _ _ _ _ point _; do
        case $point in "${2%/*}"/*) ;; */failback-test-*) umount --lazy "$point" ;; esac
    done </proc/self/mountinfo 2>/dev/null
    mount "$1" "$2" && mount --bind "$2" "$2" && echo mounted && exec sleep 1000
"#;

/// A shell in a mount namespace of its own, which mounts `device` there.
fn hidden_mount(device: &Path, point: &Path) -> Running {
    let mut command = program("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", HIDE, "sh"]).arg(device).arg(point);
    let running = Running::start(&mut command);
    running.wait_for(LONG, |line| (line == "mounted").then_some(()));
    running
}

#[test]
fn each_filesystem_is_frozen_once_wherever_it_is_mounted() {
    let Some(()) = able() else { return };
    let scratch = Scratch::new();
    let seen = Filesystem::new(&scratch, "seen", "ext4");
    let again = Mount::new(&seen.point, &scratch.folder("again"), "bind");
    let image = scratch.image("hidden.img", 64 * MEBIBYTE);
    let hidden = LoopDevice::attach(&image, 512);
    make("ext4", hidden.path());
    let point = scratch.folder("hidden");
    // This namespace has the mounts of the other filesystem too.
    let namespace = hidden_mount(hidden.path(), &point);
    let disks = [seen.number(), number(hidden.path())];
    let plan = FreezePlan::of(&disks).unwrap();
    let mut numbers = plan.superblocks().iter().map(|one| one.number).collect::<Vec<_>>();
    numbers.sort();
    let mut wanted = disks.to_vec();
    wanted.sort();
    assert_eq!(numbers, wanted, "each once");
    let inside = Path::new("/proc").join(namespace.identifier().to_string()).join("root");
    let inside = inside.join(point.strip_prefix("/").unwrap());
    let mut watchdog = watchdog(&scratch);
    {
        let writers = [Writer::start(&inside), Writer::start(again.point())];
        let frozen = plan.freeze(Limit::Budget(LONG), &mut watchdog).unwrap();
        writers.iter().for_each(Writer::waits);
        assert!(!freeze_by_hand(&inside) && seen.is_frozen());
        assert!(frozen.thaw().unwrap().still_valid);
        writers.iter().for_each(Writer::goes_on);
    }
    namespace.kill();
    // Nobody has it mounted any more, once the kernel has taken the namespace away.
    while FreezePlan::of(&disks).unwrap().superblocks().len() > 1 {
        std::thread::yield_now();
    }
}

#[test]
fn a_mount_that_another_one_covers_is_reached_by_another_place() {
    let Some(()) = able() else { return };
    let scratch = Scratch::new();
    let below = Filesystem::new(&scratch, "below", "ext4");
    let again = Mount::new(&below.point, &scratch.folder("again"), "bind");
    let above = LoopDevice::attach(&scratch.image("above.img", 64 * MEBIBYTE), 512);
    make("ext4", above.path());
    let cover = Mount::new(above.path(), &below.point, "");
    let plan = FreezePlan::of(&[below.number()]).unwrap();
    let mut watchdog = watchdog(&scratch);
    {
        let writer = Writer::start(again.point());
        let free = Writer::start(cover.point());
        let frozen = plan.freeze(Limit::Budget(LONG), &mut watchdog).unwrap();
        writer.waits();
        free.goes_on();
        assert!(frozen.thaw().unwrap().still_valid);
    }
    drop(again);
    let plan = FreezePlan::of(&[below.number()]).unwrap();
    let refused = loop {
        // Another test's namespace may hold the place for a moment: a way too.
        if let Err(error) = plan.prepare(&mut watchdog).map(drop) {
            break error;
        }
    };
    assert!(refused.to_string().contains("no place where it is mounted can be opened"), "{refused}");
    run(program("umount").arg(cover.point()));
}

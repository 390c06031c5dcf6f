//! Targets that somebody else uses when their master target wants them: it says who,
//! changes nothing, and takes them once they are free, without being asked.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::ends::Ends;
use super::rig::{Protected, Rig, Setup, able};
use super::volume::alarm;
use crate::fixture::{Mount, Random, Scratch, eventually, program, run};

const DISK_BYTES: u64 = 10 << 20;
/// Where nothing of a filesystem of that size lies that a mount would read.
const FREE_AT: u64 = DISK_BYTES - (64 << 10);

/// Writes past the page cache of the device, as far as a mount looks.
fn write(device: &Path, random: &mut Random) {
    let mut content = vec![0; 32 << 10];
    random.fill(&mut content);
    let file = OpenOptions::new().write(true).open(device).expect("it is there");
    file.write_all_at(&content, FREE_AT).and_then(|()| file.sync_all()).expect("it can be written");
}

/// A target that `hold` holds is refused with `why`, before its first byte and when
/// it is opened again later; each time all goes on when the holder lets go.
fn waits_for<H>(
    make: fn(&str, u64, &Path, &Path) -> Protected,
    hold: impl Fn(&Path, &Scratch) -> H,
    why: &str,
) {
    let (mut random, scratch) = (Random::new(), Scratch::new());
    let [source, target] = ["source", "target"].map(|name| scratch.image(name, DISK_BYTES));
    for image in [&source, &target] {
        run(program("mkfs.ext4").args(["-q", "-F", "-O", "^has_journal"]).arg(image));
    }
    let rig = Rig::with(scratch, vec![make("data", DISK_BYTES, &source, &target)], Setup::default());
    let disk = &rig.disks[0];
    write(disk.source.path(), &mut random);
    let refused = |known: usize, before: &[u8]| {
        let reasons = alarm(&rig);
        assert!(reasons.contains(why), "{reasons}");
        eventually("the agent is told", || rig.agent(&["status"]).stdout.contains(why));
        let waiting = rig.launch(&["cut", "--name", "held"]);
        assert_eq!(rig.points("data").len(), known, "a point of a target that was not opened");
        assert!(fs::read(&disk.files[1]).expect("it is there") == before, "it was changed");
        waiting.kill();
    };
    let (held, before) = (hold(&disk.target, &rig.scratch), fs::read(&target).expect("it is there"));
    let mut ends = Ends::start(&rig);
    refused(0, &before);
    drop(held);
    rig.wait_for_points();
    rig.cut("first", &[]);
    ends.stop_target();
    let (held, before) = (hold(&disk.target, &rig.scratch), fs::read(&target).expect("it is there"));
    write(disk.source.path(), &mut random);
    let known = rig.points("data").len();
    ends.start_target(&rig);
    refused(known, &before);
    drop(held);
    rig.cut("second", &[]);
    ends.finish(&rig);
}

#[test]
fn a_target_that_is_mounted_is_waited_for() {
    let Some(()) = able(&["mkfs.ext4"]) else { return };
    let mount = |target: &Path, scratch: &Scratch| Mount::new(target, &scratch.folder("mounted"), "ro");
    waits_for(Protected::new, mount, "is mounted at");
}

#[test]
fn a_target_that_another_process_holds_is_waited_for() {
    let Some(()) = able(&["mkfs.ext4"]) else { return };
    let hold = |target: &Path, _: &Scratch| {
        let held = OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(target);
        held.expect("nobody holds it")
    };
    waits_for(Protected::new, hold, "held exclusively");
}

/// Locks all of a file, as QEMU does.
fn lock(file: &File) {
    let lock = libc::flock {
        l_type: libc::F_WRLCK.try_into().expect("a small number"),
        l_whence: libc::SEEK_SET.try_into().expect("a small number"),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).expect("nobody has locked it");
}

#[test]
fn a_target_that_is_locked_is_waited_for() {
    let Some(()) = able(&["mkfs.ext4"]) else { return };
    let hold = |target: &Path, _: &Scratch| {
        let file = OpenOptions::new().read(true).write(true).open(target).expect("it is there");
        lock(&file);
        file
    };
    waits_for(Protected::onto_image, hold, "is locked by");
}

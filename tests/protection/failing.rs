//! Disks that fail under a running protection: the target, the journal's volume,
//! the source. Each error is the kernel's own, of a loop device whose file takes
//! no writes, or has no bytes where it is read.

use std::path::{Path, PathBuf};

use super::ends::{Ends, judge_all};
use super::failures::LOAD;
use super::oracle::{Clock, Writer};
use super::rig::{Filesystem, Protected, Rig, Setup, able};
use super::volume::{Unreadable, Unwritable, Volume, alarm, fill};
use crate::fixture::{LoopDevice, Mount, Random, Scratch, eventually, program, run};

const MIB: u64 = 1 << 20;
const DISK_BYTES: u64 = 10 * MIB;
/// Writers keep to the first half; what lies behind it is zeroes.
const HALF: u64 = DISK_BYTES / 2;
const NEEDS: [&str; 4] = ["mkfs.ext4", "fsfreeze", "chattr", "e2fsck"];

/// A disk under load whose target lies on a volume, with its first points made.
struct Loaded {
    // In this order they go.
    ends: Ends,
    writer: Writer,
    rig: Rig,
    _volume: Volume,
}

impl Loaded {
    fn start() -> Self {
        Self::prepared(|_, _| {})
    }

    /// The same; `prepare` sees the rig and the volume before anything runs.
    fn prepared(prepare: impl FnOnce(&Rig, &Volume)) -> Self {
        let (mut random, clock, scratch) = (Random::new(), Clock::start(), Scratch::new());
        let volume = Volume::new(&scratch, "below", 120 * MIB);
        let (source, target) =
            (scratch.image("data-source", DISK_BYTES), volume.sparse("target", DISK_BYTES));
        let disk = Protected::new("data", DISK_BYTES, &source, &target);
        let rig = Rig::with(scratch, vec![disk], Setup { keep: "free = \"1MiB\"", ..Setup::default() });
        prepare(&rig, &volume);
        let writer = Writer::start(rig.disks[0].source.path(), HALF, LOAD, clock, &mut random);
        let ends = Ends::start(&rig);
        rig.wait_for_points();
        rig.cut("before", &[]);
        Self { ends, writer, rig, _volume: volume }
    }

    fn disk(&self) -> &Protected {
        &self.rig.disks[0]
    }

    /// Once `tells` the error, while it lasts: a cut that is asked for is no point,
    /// and the agent knows of none.
    fn is_stopped(&self, tells: impl FnOnce(&Rig)) {
        self.writer.wait_for(40);
        tells(&self.rig);
        // From now on something is always left that cannot be read or written.
        let cut = self.rig.launch(&["cut", "--name", "in between"]);
        self.writer.wait_for(40);
        let newest = self.rig.points("data").pop().expect("there are points");
        let status = self.rig.agent(&["status"]).expect_success().summary();
        assert_eq!(status["disks"][0]["newest_point"]["epoch"], newest.epoch, "{status}");
        assert_eq!(newest.name, "before", "a point of what is not on the target: {status}");
        cut.kill();
    }

    /// Goes on now that nothing fails any more, and has lost nothing.
    fn goes_on(self) {
        let Self { ends, writer, rig, _volume } = self;
        rig.cut("after", &[]);
        let history = writer.stop();
        ends.finish(&rig);
        assert!(judge_all(&rig, "data", &history) >= 3);
    }
}

/// The master target says what the kernel said: an I/O error, or what the
/// filesystem of a journal makes of one.
fn alarm_of_the_kernel(rig: &Rig) {
    let reasons = alarm(rig);
    assert!(["os error 5)", "os error 30)"].iter().any(|error| reasons.contains(error)), "{reasons}");
}

#[test]
fn a_target_that_cannot_be_written_stops_and_goes_on() {
    let Some(()) = able(&NEEDS) else { return };
    let loaded = Loaded::start();
    let failing = Unwritable::begin(&loaded.disk().files[1]);
    loaded.is_stopped(alarm_of_the_kernel);
    drop(failing);
    loaded.goes_on();
}

/// What a chunk held is read before it is overwritten.
#[test]
fn a_target_that_cannot_be_read_stops_and_goes_on() {
    let Some(()) = able(&NEEDS) else { return };
    let loaded = Loaded::start();
    let failing = Unreadable::past(HALF, &loaded.disk().files[1]);
    fill(loaded.disk().source.path(), HALF + MIB, 4096, &mut Random::new());
    loaded.is_stopped(alarm_of_the_kernel);
    drop(failing);
    loaded.goes_on();
}

/// A retention volume on a device of its own.
struct Retention {
    device: LoopDevice,
    file: PathBuf,
    folder: PathBuf,
}

impl Retention {
    fn on(volume: &Volume, folder: PathBuf) -> (Self, Filesystem) {
        let file = volume.sparse("retention", 400 * MIB);
        let device = LoopDevice::attach(&file, 512);
        let filesystem = Filesystem::make("ext4", device.path(), folder.clone());
        (Self { device, file, folder }, filesystem)
    }

    /// What an operator does with a filesystem that met errors.
    fn check_and_mount(&self) -> Mount {
        let checked = program("e2fsck").arg("-fy").arg(self.device.path()).output().expect("it starts");
        // With 1 it has repaired everything.
        assert!(matches!(checked.status.code(), Some(0 | 1)), "{checked:?}");
        Mount::new(self.device.path(), &self.folder, "")
    }
}

#[test]
fn a_journal_that_cannot_be_written_stops_and_goes_on() {
    let Some(()) = able(&NEEDS) else { return };
    let mut made = None;
    let mut loaded = Loaded::prepared(|rig, volume| made = Some(Retention::on(volume, rig.retention())));
    let (retention, mounted) = made.expect("it was prepared");
    let failing = Unwritable::begin(&retention.file);
    loaded.is_stopped(alarm_of_the_kernel);
    loaded.ends.stop_target();
    drop(failing);
    mounted.unmount();
    let mounted = retention.check_and_mount();
    loaded.ends.start_target(&loaded.rig);
    loaded.goes_on();
    drop(mounted);
}

fn told_by_the_agent(rig: &Rig) {
    eventually("the agent tells the error", || rig.agent(&["status"]).stdout.contains("os error 5)"));
}

/// From before its first synchronization on.
#[test]
fn a_source_that_cannot_be_read_makes_no_point() {
    let Some(()) = able(&[]) else { return };
    let rig = Rig::new(&[("data", DISK_BYTES)], Setup::default());
    let disk = &rig.disks[0];
    fill(disk.source.path(), 0, 2 << 20, &mut Random::new());
    let failing = Unreadable::past(HALF, &disk.files[0]);
    let ends = Ends::start(&rig);
    told_by_the_agent(&rig);
    assert!(rig.points("data").is_empty(), "a point of what was never read");
    drop(failing);
    rig.wait_for_points();
    rig.cut("after", &[]);
    ends.finish(&rig);
}

/// Writes half of a chunk, past all caches, to a device that ends within it then.
fn write_sector(device: &Path, at: u64) {
    let mut dd = program("dd");
    dd.args(["if=/dev/urandom", "bs=512", "count=1", "conv=notrunc", "oflag=direct"]);
    run(dd.arg(format!("of={}", device.display())).arg(format!("seek={}", at / 512)));
}

#[test]
fn a_protected_source_that_cannot_be_read_makes_no_point_and_goes_on() {
    let Some(()) = able(&NEEDS) else { return };
    let loaded = Loaded::start();
    let failing = Unreadable::past(HALF, &loaded.disk().files[0]);
    write_sector(loaded.disk().source.path(), HALF + MIB);
    loaded.is_stopped(told_by_the_agent);
    drop(failing);
    loaded.goes_on();
}

//! Points of a machine under load, judged by what its disks say of themselves.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use super::ends::{Ends, judge_disk};
use super::number_of;
use super::oracle::{Clock, History, Load, Way, Window, Writer, common, judge};
use super::rig::{Filesystem, Listed, Rig, Setup, able};
use crate::fixture::{LoopDevice, Mount, Random};

const MIB: u64 = 1 << 20;

/// Names of the points that a test makes: `FAILBACK_POINTS`, or a few.
fn names() -> Vec<String> {
    (0..number_of("FAILBACK_POINTS", 6)).map(|number| format!("cut-{number}")).collect()
}

/// Makes cuts, with writes of each writer between each two.
fn cut_while_written(rig: &Rig, names: &[String], writers: &[Writer]) {
    let mut skipped = 0;
    for name in names {
        for writer in writers {
            writer.wait_for(20);
        }
        skipped += rig.cut(name, &[]);
    }
    println!("{skipped} cuts were skipped");
}

/// Writers of a device, who are stopped by no freeze.
fn raw(way: Way) -> Load {
    Load {
        way,
        threads: 3,
        burst: 24,
        pause: Duration::from_millis(700),
        zero_percent: 10,
        // Pages of the cache are whole, or a write in flight would tear its neighbour.
        unit_sectors: if way == Way::Direct { 1 } else { 8 },
    }
}

/// A writer of a file, who waits while its filesystem is frozen.
fn through_a_filesystem() -> Load {
    let pause = Duration::from_millis(5);
    Load { way: Way::Direct, threads: 2, burst: 24, pause, zero_percent: 0, unit_sectors: 8 }
}

fn raw_disks(tracking: &'static str) {
    let Some(()) = able(&[]) else { return };
    let (mut random, clock) = (Random::new(), Clock::start());
    let disks = [("direct", 12 * MIB + 1536), ("buffered", 12 * MIB)];
    let rig = Rig::new(&disks, Setup { tracking, ..Setup::default() });
    let ways = [Way::Direct, Way::Buffered];
    let writers: Vec<Writer> = rig
        .disks
        .iter()
        .zip(ways)
        .map(|(disk, way)| Writer::start(disk.source.path(), disk.bytes, raw(way), clock, &mut random))
        .collect();
    let ends = Ends::start(&rig);
    rig.wait_for_points();
    let names = names();
    cut_while_written(&rig, &names, &writers);
    let histories: Vec<History> = writers.into_iter().map(Writer::stop).collect();
    ends.finish(&rig);
    for (disk, history) in rig.disks.iter().zip(&histories) {
        for point in rig.points(&disk.name).iter().filter(|point| !names.contains(&point.name)) {
            judge_disk(&rig, &disk.name, point, history);
        }
    }
    for name in &names {
        let moments = rig.disks.iter().zip(&histories).map(|(disk, history)| {
            judge_disk(&rig, &disk.name, &rig.point(&disk.name, name), history).moments
        });
        let moments = moments.reduce(|one, other| common(&one, &other)).expect("there are disks");
        assert!(!moments.is_empty(), "no moment explains {name} on both disks");
    }
    // The targets themselves, taken back and forward again.
    for _ in 0..2 {
        let name = &names[random.index_below(names.len())];
        for (disk, history) in rig.disks.iter().zip(&histories) {
            let point = rig.point(&disk.name, name);
            rig.rewind(&disk.name, point.epoch);
            let target = File::open(&disk.target).expect("it is there");
            let verdict = judge(history, target, point.window);
            verdict.expect_exact(&format!("{} rewound to {name}", disk.name));
        }
    }
}

/// Two disks with raw writers, direct and buffered, with zeroed and discarded
/// ranges, from before the first synchronization on. All disks are cut at one moment.
#[test]
fn disks_that_no_freeze_stops_are_cut_at_one_moment() {
    raw_disks("auto");
}

/// The same where nothing is tracked.
#[test]
fn disks_that_are_compared_by_digests_are_cut_at_one_moment() {
    raw_disks("digest");
}

/// A file of `bytes` zeroes that are written out, so that writing it again
/// changes nothing but its blocks.
pub fn make_file(path: &Path, bytes: u64) {
    let file = OpenOptions::new().write(true).create_new(true).open(path).expect("there is room");
    let zeroes = vec![0; 1 << 20];
    for at in (0..bytes).step_by(zeroes.len()) {
        file.write_all_at(&zeroes, at).expect("there is room");
    }
    file.sync_all().expect("it can be flushed");
}

fn file_in(kind: &'static str, disk_bytes: u64) {
    let make: &'static str = if kind == "ext4" { "mkfs.ext4" } else { "mkfs.xfs" };
    let Some(()) = able(&[make, "fsfreeze"]) else { return };
    let (mut random, clock) = (Random::new(), Clock::start());
    let rig = Rig::new(&[("data", disk_bytes)], Setup::default());
    let filesystem = Filesystem::make(kind, rig.disks[0].source.path(), rig.scratch.folder("mounted"));
    let bytes = 12 * MIB;
    let path = filesystem.point.join("written");
    make_file(&path, bytes);
    let ends = Ends::start(&rig);
    let writer = Writer::start(&path, bytes, through_a_filesystem(), clock, &mut random);
    rig.wait_for_points();
    let writers = [writer];
    cut_while_written(&rig, &names(), &writers);
    let [history] = writers.map(Writer::stop);
    filesystem.unmount();
    ends.finish(&rig);
    for point in rig.points("data") {
        // The first synchronization ends without a freeze of its own.
        judge_file(&rig, &point, &history, kind);
    }
}

/// Judges the file `written` in a copy of the disk `data` that is mounted as after a
/// crash.
pub fn judge_file(rig: &Rig, point: &Listed, history: &History, kind: &str) {
    let copy = rig.copy("data", point.epoch);
    let device = LoopDevice::attach(&copy, 512);
    let mount = Mount::new(device.path(), &rig.scratch.folder("copy"), mount_options(kind));
    let file = File::open(mount.point().join("written")).expect("it was made before");
    let verdict = judge(history, file, point.window);
    drop(mount);
    drop(device);
    fs::remove_file(&copy).expect("it is ours");
    println!("{kind} at {} ({}): {verdict}", point.epoch, point.name);
    verdict.expect_exact(&format!("point {} of {kind}", point.epoch));
}

/// A copy of an XFS carries the identity of its source, which may be mounted.
pub fn mount_options(kind: &str) -> &'static str {
    if kind == "xfs" { "nouuid" } else { "" }
}

#[test]
fn a_file_on_ext4_is_as_it_was_at_the_cut() {
    file_in("ext4", 48 * MIB);
}

#[test]
fn a_file_on_xfs_is_as_it_was_at_the_cut() {
    file_in("xfs", 320 * MIB);
}

/// A window is a moment here: nobody writes.
#[test]
fn a_window_of_a_listed_point_is_its_freeze() {
    let point = serde_json::json!({
        "epoch": 3, "kind": "crash", "name": "", "cut_unix_ms": 1000, "freeze_ms": 20,
    });
    let window = Window { from_ns: 1_000_000_000, to_ns: 1_022_000_000 };
    assert_eq!(Listed::new(&point).window, window);
}

/// By digests that stand against whoever chooses the blocks.
#[test]
fn a_disk_is_compared_by_blake3_where_that_is_asked_for() {
    let Some(()) = able(&[]) else { return };
    let setup = Setup { machine: "digest = \"blake3\"\n", tracking: "digest", ..Setup::default() };
    let rig = Rig::new(&[("data", 10 * MIB)], setup);
    let ends = Ends::start(&rig);
    rig.wait_for_points();
    let pair = fs::read(rig.retention().join("web/data/pair")).expect("it is there");
    assert!(String::from_utf8_lossy(&pair).to_lowercase().contains("\"blake3\""));
    let source = fs::OpenOptions::new().write(true).open(rig.disk("data").source.path());
    let source = source.expect("it is there");
    source.write_all_at(&[7; 8192], MIB).and_then(|()| source.sync_all()).expect("it can be written");
    rig.cut("written", &[]);
    ends.finish(&rig);
}

//! What goes wrong around protected disks: no room, bad disks, no network, wrong
//! clocks. Nothing is lost silently, and it goes on when the cause is gone.

use std::fs::{self, File, OpenOptions};
use std::net::Shutdown;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::ends::{Ends, judge_all};
use super::oracle::{Clock, Load, Way, Writer};
use super::rig::{Filesystem, LONG, Protected, Rig, Setup, able};
use crate::fixture::{LoopDevice, Need, Random, Scratch, need, program, run};
use crate::network::proxy::Proxy;

const MIB: u64 = 1 << 20;
const DISK_BYTES: u64 = 10 * MIB;

/// Writes that never stop for long, and leave room for cuts.
const LOAD: Load = Load {
    way: Way::Direct,
    threads: 2,
    burst: 16,
    pause: Duration::from_millis(300),
    zero_percent: 5,
    unit_sectors: 1,
};

/// Waits until `met`.
fn eventually(what: &str, met: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !met() {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(50));
    }
}

/// Waits until the master target raises an alarm; its reasons.
fn alarm(rig: &Rig) -> String {
    let reasons = || {
        let outcome = rig.master_target(&["status"]);
        let status = outcome.summary();
        status["pairs"][0]["alarms"].as_array().map(|alarms| format!("{alarms:?}")).unwrap_or_default()
    };
    eventually("an alarm", || reasons().contains("reason"));
    println!("{}", reasons());
    reasons()
}

/// Writes a pattern to a part of a disk, past the page cache's delay.
pub fn fill(device: &Path, at: u64, bytes: usize, random: &mut Random) {
    let mut content = vec![0; bytes];
    random.fill(&mut content);
    let file = OpenOptions::new().write(true).open(device).expect("it is there");
    file.write_all_at(&content, at).and_then(|()| file.sync_all()).expect("it can be written");
}

/// Cuts the wire in the middle of everything, and leaves it dead for a while.
#[test]
fn a_pulled_network_costs_nothing_but_time() {
    let Some(()) = able(&[]) else { return };
    let (mut random, clock, proxy) = (Random::new(), Clock::start(), Proxy::new());
    let often = Setup { points_every: "1s", cycle: "100ms", ..Setup::default() };
    let mut rig = Rig::new(&[("data", DISK_BYTES)], often);
    rig.reached_at = proxy.address().to_owned();
    proxy.lead_to(rig.address());
    let disk = &rig.disks[0];
    let writer = Writer::start(disk.source.path(), disk.bytes, LOAD, clock, &mut random);
    let ends = Ends::start(&rig);
    for _ in 0..12 {
        if random.happens(50) {
            proxy.cut_after(random.below(2 * MIB));
        } else {
            proxy.freeze();
        }
        sleep(Duration::from_millis(random.below(1500)));
        proxy.close(Shutdown::Both);
        sleep(Duration::from_millis(random.below(2500)));
    }
    rig.wait_for_state("protecting");
    rig.cut("after all", &[]);
    let history = writer.stop();
    ends.finish(&rig);
    assert!(judge_all(&rig, "data", &history) >= 2);
}

/// A disk whose target lies in a sparse file on a volume of its own.
struct Thin {
    volume: Filesystem,
    _below: LoopDevice,
    rig: Rig,
}

impl Thin {
    fn new(make: fn(&str, u64, &Path, &Path) -> Protected) -> Self {
        let scratch = Scratch::new();
        let below = LoopDevice::attach(&scratch.image("volume", 40 * MIB), 512);
        let volume = Filesystem::make("ext4", below.path(), scratch.folder("volume-mounted"));
        let (source, target) = (scratch.image("data-source", DISK_BYTES), volume.point.join("target"));
        let file = File::create_new(&target).and_then(|file| file.set_len(DISK_BYTES));
        file.expect("a file without blocks");
        let disk = make("data", DISK_BYTES, &source, &target);
        let rig = Rig::with(scratch, vec![disk], Setup::default());
        Self { volume, _below: below, rig }
    }
}

/// Takes all room that is left on a volume.
fn fill_up(volume: &Path) {
    let file = File::create(volume.join("filler")).expect("a name has room");
    let bytes = vec![1; 64 << 10];
    let mut at = 0;
    // Then what is left in pieces smaller than that.
    for size in [64 << 10, 4096] {
        while let Ok(written) = file.write_at(&bytes[..size], at) {
            at += written as u64;
        }
    }
    let _ = file.sync_all();
}

fn make_room(volume: &Path) {
    fs::remove_file(volume.join("filler")).expect("it is ours");
    File::open(volume).and_then(|folder| folder.sync_all()).expect("it can be flushed");
}

/// Blocks of a target go away while it is in use, and the volume below is full:
/// writes fail. Nothing is acknowledged, and it goes on when there is room.
#[test]
fn a_target_that_cannot_be_written_makes_no_point() {
    let Some(()) = able(&["mkfs.ext4", "fsfreeze", "fallocate"]) else { return };
    let mut random = Random::new();
    let thin = Thin::new(Protected::new);
    let (rig, source) = (&thin.rig, thin.rig.disks[0].source.path());
    fill(source, 0, 2 << 20, &mut random);
    let ends = Ends::start(rig);
    rig.wait_for_points();
    rig.cut("before", &[]);
    let before = rig.points("data").len();
    let mut punch = program("fallocate");
    let half = (DISK_BYTES / 2).to_string();
    run(punch.args(["--punch-hole", "--offset", &half, "--length", &half]).arg(&rig.disks[0].files[1]));
    fill_up(&thin.volume.point);
    fill(source, DISK_BYTES / 2 + MIB, 1 << 20, &mut random);
    let refused = rig.agent(&["cut", "--name", "in between"]);
    assert!(refused.code() != Some(0), "there is a point of what was never written: {refused}");
    assert_eq!(rig.points("data").len(), before);
    make_room(&thin.volume.point);
    rig.cut("after", &[]);
    ends.finish(rig);
    assert!(rig.points("data").iter().all(|point| point.name != "in between"));
}

/// A target that finds no room at the beginning is refused, and nothing was written.
#[test]
fn a_thin_target_without_room_is_refused() {
    let Some(()) = able(&["mkfs.ext4", "fsfreeze"]) else { return };
    let thin = Thin::new(Protected::onto_image);
    fill_up(&thin.volume.point);
    let rig = &thin.rig;
    let ends = Ends::start(rig);
    alarm(rig);
    assert!(rig.points("data").is_empty());
    make_room(&thin.volume.point);
    rig.agent(&["resync", "data"]);
    rig.wait_for_points();
    ends.finish(rig);
}

/// A source that cannot be read everywhere has no point until it can.
#[test]
fn a_source_that_cannot_be_read_makes_no_point() {
    let Some(()) = able(&[]) else { return };
    let mut random = Random::new();
    let rig = Rig::new(&[("data", DISK_BYTES)], Setup::default());
    let disk = &rig.disks[0];
    fill(disk.source.path(), 0, 2 << 20, &mut random);
    // Reading past the end of what lies below is an I/O error of the device.
    let below = OpenOptions::new().write(true).open(&disk.files[0]).expect("it is there");
    below.set_len(DISK_BYTES / 2).expect("it gets shorter");
    let ends = Ends::start(&rig);
    let said = |text: &str| rig.agent(&["status"]).stdout.contains(text);
    eventually("the error is told", || said("data") && (said("nput/output error") || said("os error 5")));
    assert!(rig.points("data").is_empty(), "a point of what was never read");
    below.set_len(DISK_BYTES).expect("it gets longer");
    rig.wait_for_points();
    rig.cut("after", &[]);
    ends.finish(&rig);
}

/// A source that grows says so; its points stay, and nothing of it is taken for
/// the disk that it was.
#[test]
fn a_source_that_grows_is_told_and_its_points_stay() {
    let Some(()) = able(&["losetup"]) else { return };
    let mut random = Random::new();
    let rig = Rig::new(&[("data", DISK_BYTES)], Setup::default());
    let disk = &rig.disks[0];
    fill(disk.source.path(), 0, 2 << 20, &mut random);
    let ends = Ends::start(&rig);
    rig.wait_for_points();
    rig.cut("before", &[]);
    let points = rig.points("data").len();
    let grow = |device: &Path, file: &Path| {
        let file = OpenOptions::new().write(true).open(file).expect("it is there");
        file.set_len(DISK_BYTES + MIB).expect("it gets longer");
        run(program("losetup").arg("--set-capacity").arg(device));
    };
    grow(disk.source.path(), &disk.files[0]);
    fill(disk.source.path(), 0, 4096, &mut random);
    eventually("the growth is told", || {
        let status = rig.agent(&["status"]).stdout;
        status.contains(&(DISK_BYTES + MIB).to_string()) || status.contains("size")
    });
    assert!(rig.agent(&["cut", "--name", "grown"]).code() != Some(0));
    let left: Vec<String> = rig.points("data").into_iter().map(|point| point.name).collect();
    assert!(left.len() == points && !left.contains(&"grown".to_owned()), "{left:?}");
    ends.stop();
    rig.copy("data", rig.point("data", "before").epoch);
}

/// A retention volume that somebody else has filled up: no point and an alarm,
/// until there is room again.
#[test]
fn a_full_retention_volume_pushes_back() {
    let Some(()) = able(&["mkfs.ext4", "fsfreeze"]) else { return };
    let (mut random, clock) = (Random::new(), Clock::start());
    let rig = Rig::new(&[("data", DISK_BYTES)], Setup { keep: "free = \"1MiB\"", ..Setup::default() });
    let below = LoopDevice::attach(&rig.scratch.image("volume", 400 * MIB), 512);
    let volume = Filesystem::make("ext4", below.path(), rig.retention());
    let disk = &rig.disks[0];
    let ends = Ends::start(&rig);
    rig.wait_for_points();
    let writer = Writer::start(disk.source.path(), disk.bytes, LOAD, clock, &mut random);
    writer.wait_for(50);
    fill_up(&volume.point);
    alarm(&rig);
    let refused = rig.agent(&["cut", "--name", "in between"]).expect_code(1);
    // Some kernels lose a completion now and then, which is another reason.
    let is_told = ["waits for its target", "more written than were tracked"];
    assert!(is_told.iter().any(|why| refused.stderr.contains(why)), "nobody is told why: {refused}");
    assert!(rig.points("data").iter().all(|point| point.name.is_empty()), "there is no room for a point");
    make_room(&volume.point);
    rig.cut("after", &[]);
    let history = writer.stop();
    ends.finish(&rig);
    assert!(judge_all(&rig, "data", &history) >= 2);
}

/// The library that shows a process another time, where it is installed.
fn other_clocks() -> Option<String> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"];
    let mut files = folders.iter().map(|folder| format!("{folder}/faketime/libfaketime.so.1"));
    files.find(|file| Path::new(file).exists())
}

/// The wall clock of the master target jumps thirty hours, either way: no point
/// expires for that, and new ones are made all the time.
#[test]
fn a_wall_clock_that_jumps_expires_nothing() {
    let Some(()) = able(&[]) else { return };
    let Some(()) = need(&[Need::Program("faketime")]) else { return };
    let library = other_clocks().expect("its library is there too");
    let mut random = Random::new();
    let rig = Rig::new(&[("data", DISK_BYTES)], Setup { keep: "time = \"24h\"", ..Setup::default() });
    let clock = rig.scratch.file("clock", "+0\n");
    let target = rig.start_target_as(|command| {
        command.env("LD_PRELOAD", &library).env("FAKETIME_TIMESTAMP_FILE", &clock);
        command.env("FAKETIME_NO_CACHE", "1").env("DONT_FAKE_MONOTONIC", "1");
    });
    let ends = Ends::of(rig.start_agent(), target);
    rig.wait_for_points();
    let mut names = Vec::new();
    for (number, offset) in ["+0", "+30h", "+0", "-30h", "+0"].into_iter().enumerate() {
        fs::write(&clock, format!("{offset}\n")).expect("there is room");
        for part in ["a", "b"] {
            fill(rig.disks[0].source.path(), random.below(64) << 12, 4096, &mut random);
            names.push(format!("{number}{part}"));
            rig.cut(names.last().expect("it was pushed"), &[]);
        }
    }
    let left: Vec<String> = rig.points("data").into_iter().map(|point| point.name).collect();
    assert!(left.iter().filter(|name| !name.is_empty()).eq(names.iter()), "{left:?}, not {names:?}");
    ends.finish(&rig);
}

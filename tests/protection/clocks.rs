//! Wall clocks that jump thirty hours, either way, at the master target and at
//! the machine: points are made all the time, in order, and none goes for that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use super::ends::Ends;
use super::rig::{Filesystem, Rig, Setup, able};
use super::volume::{alarm, fill};
use crate::fixture::{Need, Random, Scratch, binary, eventually, need, supervised};

const DISK_BYTES: u64 = 10 << 20;
const MINUTE_MS: i64 = 60_000;

/// A wall clock that can be set, for processes that are started by it. Their other
/// clocks run as they do.
struct WallClock {
    library: String,
    file: PathBuf,
}

impl WallClock {
    /// `None` where the library is missing that shows a process another time.
    fn find(scratch: &Scratch) -> Option<Self> {
        let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"];
        let mut files = folders.iter().map(|folder| format!("{folder}/faketime/libfaketime.so.1"));
        let library = files.find(|file| Path::new(file).exists())?;
        Some(Self { library, file: scratch.file("clock", "+0\n") })
    }

    fn show_to(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("FAKETIME_TIMESTAMP_FILE", &self.file);
        command.env("FAKETIME_NO_CACHE", "1").env("DONT_FAKE_MONOTONIC", "1");
    }

    /// Sets it so many hours before or after the right time, at once.
    fn jump(&self, hours: i64) {
        let written = self.file.with_extension("new");
        fs::write(&written, format!("{hours:+}h\n")).expect("there is room");
        fs::rename(&written, &self.file).expect("it is ours");
    }
}

fn rig(setup: Setup) -> Option<(Rig, WallClock)> {
    let () = able(&["mkfs.ext4", "fsfreeze"])?;
    let () = need(&[Need::Program("faketime")])?;
    let rig = Rig::new(&[("data", DISK_BYTES)], Setup { keep: "time = \"24h\"", ..setup });
    let clock = WallClock::find(&rig.scratch).expect("its library is there too");
    Some((rig, clock))
}

#[test]
fn a_wall_clock_that_jumps_expires_nothing() {
    let Some((rig, clock)) = rig(Setup::default()) else { return };
    let mut random = Random::new();
    let target = rig.start_target_as(|command| clock.show_to(command));
    let ends = Ends::of(rig.start_agent(), target);
    rig.wait_for_points();
    let mut names = Vec::new();
    for (number, hours) in [0, 30, 0, -30, 0].into_iter().enumerate() {
        clock.jump(hours);
        for part in ["a", "b"] {
            fill(rig.disks[0].source.path(), random.below(64) << 12, 4096, &mut random);
            names.push(format!("{number}{part}"));
            rig.cut(names.last().expect("it was pushed"), &[]);
        }
    }
    assert_eq!(named_points(&rig), names);
    ends.finish(&rig);
}

/// The names of those points that have one.
fn named_points(rig: &Rig) -> Vec<String> {
    rig.points("data").into_iter().map(|point| point.name).filter(|name| !name.is_empty()).collect()
}

/// The clock is thirty hours ahead, and the master target is started again and
/// again: no process of it takes that clock for the right one, until somebody says so.
#[test]
fn a_wall_clock_that_is_ahead_expires_nothing_however_often_it_is_met() {
    let Some((rig, clock)) = rig(Setup::default()) else { return };
    let mut random = Random::new();
    let start = || rig.start_target_as(|command| clock.show_to(command));
    let target = start();
    let mut ends = Ends::of(rig.start_agent(), target);
    rig.wait_for_points();
    let mut names = Vec::new();
    for (hours, name) in [(0, "a"), (0, "b"), (30, "c"), (30, "d"), (31, "e")] {
        clock.jump(hours);
        ends.next_target(start);
        fill(rig.disks[0].source.path(), random.below(64) << 12, 4096, &mut random);
        rig.cut(name, &[]);
        names.push(name);
    }
    let told = alarm(&rig);
    assert!(told.contains("accept-clock"), "{told}");
    assert_eq!(named_points(&rig), names);
    rig.master_target(&["accept-clock"]).expect_success();
    ends.next_target(start);
    rig.cut("f", &[]);
    eventually("they are too old by the clock that was accepted", || {
        named_points(&rig) == ["c", "d", "e", "f"]
    });
    ends.finish(&rig);
}

/// Milliseconds from the right time, now.
fn ahead_ms(unix_ms: u64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_millis();
    i64::try_from(unix_ms).expect("a time") - i64::try_from(now).expect("a time")
}

/// Points by policy go on, each with the time of its machine; their order is that
/// in which they were made, and their age is counted by the other clock.
#[test]
fn the_wall_clock_of_a_machine_that_jumps_changes_no_point() {
    let often = Setup { points_every: "300ms", cycle: "100ms", ..Setup::default() };
    let Some((rig, clock)) = rig(often) else { return };
    let filesystem = Filesystem::make("ext4", rig.disks[0].source.path(), rig.scratch.folder("mounted"));
    let target = rig.start_target();
    let mut failback = supervised(binary());
    clock.show_to(&mut failback);
    // The oldest points look as if they were too old to be kept.
    clock.jump(-30);
    let ends = Ends::of(rig.start_agent_as(failback), target);
    rig.wait_for_points();
    for hours in [-30, 0, 30, 0, -30] {
        clock.jump(hours);
        let known = rig.points("data").len();
        fs::write(filesystem.point.join("written"), hours.to_string()).expect("there is room");
        // The first of them may have been cut before the jump.
        eventually("two points more", || rig.points("data").len() >= known + 2);
        let newest = rig.points("data").pop().expect("there are points");
        let ahead_ms = ahead_ms(newest.window.from_ns / 1_000_000);
        let off_ms = (ahead_ms - hours * 60 * MINUTE_MS).abs();
        assert!(off_ms < MINUTE_MS, "{hours} h: the newest point is {ahead_ms} ms ahead");
        eventually("a lag of no more than a minute", || {
            rig.agent(&["status"]).summary()["lag_ms"].as_i64().is_some_and(|lag_ms| lag_ms < MINUTE_MS)
        });
    }
    let epochs: Vec<u64> = rig.points("data").iter().map(|point| point.epoch).collect();
    let all: Vec<u64> = (1..=epochs.len() as u64).collect();
    assert_eq!(epochs, all, "points are missing, or in disorder");
    filesystem.unmount();
    ends.finish(&rig);
}

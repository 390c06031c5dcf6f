//! Runs that are stopped: by a signal, or killed at any moment. The target says
//! that it is unfinished, and the same command again ends exact.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::Need::LoopDevices;
use crate::fixture::{Failback, LONG, LoopDevice, Model, Random, Scratch, assert_same_bytes, need};

use super::disks::{Disk, Kind, NEEDS};
use super::{MIB, marks, notices, number, sync, sync_well};

/// Bytes done, in a line of progress.
fn bytes_done(line: &str) -> Option<u64> {
    let event: Value = serde_json::from_str(line).ok()?;
    event["bytes_done"].as_u64().filter(|_| event["event"] == "progress")
}

struct Pair {
    scratch: Scratch,
    source: PathBuf,
    target: PathBuf,
    model: Model,
    random: Random,
    _device: Option<LoopDevice>,
}

impl Pair {
    /// A source of random bytes; a target that holds others.
    fn make(bytes: usize, onto_device: bool) -> Self {
        let mut random = Random::new();
        let scratch = Scratch::new();
        let source = scratch.path("source.raw");
        let model = Model::random(bytes, &mut random);
        model.save(&source);
        let file = scratch.path("target.raw");
        Model::random(bytes, &mut random).save(&file);
        let device = onto_device.then(|| LoopDevice::attach(&file, 512));
        let target = device.as_ref().map_or(file, |device| device.path().to_owned());
        Self { scratch, source, target, model, random, _device: device }
    }

    /// What the machine does while its disk is not being copied.
    fn change_source(&mut self, places: usize) {
        self.model.scribble(places, &mut self.random);
        self.model.write_over(&self.source);
    }

    fn finish(&self, options: &[&str]) {
        let bytes = self.model.bytes.len() as u64;
        sync_well(&self.scratch, options, &self.source, &self.target);
        assert_same_bytes(&self.source, &self.target, bytes);
        let info = self.info();
        assert!(!info.contains("UNFINISHED"), "{info}");
    }

    fn info(&self) -> String {
        let arguments = ["image".as_ref(), "info".as_ref(), self.target.as_os_str()];
        Failback::new(&self.scratch, arguments).run().expect_success().stdout
    }

    /// Every later look at the target says what it is.
    fn assert_marked(&self) {
        let marks = marks(&self.scratch);
        assert_eq!(marks.len(), 1);
        assert_eq!(marks[0]["target"], self.target.display().to_string());
        assert_eq!(marks[0]["source"], self.source.display().to_string());
        assert!(self.info().contains("UNFINISHED"), "{}", self.info());
        let arguments = ["image".as_ref(), "info".as_ref(), "--json".as_ref(), self.target.as_os_str()];
        let event = Failback::new(&self.scratch, arguments).run().expect_success().summary();
        assert!(event["unfinished"]["cursor_bytes"].is_u64(), "{event}");
        let copy = self.scratch.path("copy-of-target.raw");
        let copied = sync(&self.scratch, &["--json", "--create"], &self.target, &copy).run().expect_success();
        assert!(notices(&copied).contains(&"unfinished-source".to_owned()), "{copied}");
    }
}

fn a_signal_stops_in_order(signal: Signal, options: &[&str], onto_device: bool) {
    if onto_device && need(&[LoopDevices]).is_none() {
        return;
    }
    let mut pair = Pair::make(24 * MIB, onto_device);
    let slowly = [&["--json", "--limit-rate", "6M"], options].concat();
    let running = sync(&pair.scratch, &slowly, &pair.source, &pair.target).start();
    let done = running.wait_for(LONG, bytes_done);
    assert!(done < 24 << 20, "it is in the middle");
    running.signal(signal);
    let outcome = running.finish(LONG).expect_code(4);
    let event = outcome.summary();
    assert_eq!((&event["event"], &event["target_state"]), (&"error".into(), &"unfinished".into()), "{event}");
    assert_eq!((&event["code"], event["exit_code"].as_u64()), (&"interrupted".into(), Some(4)));
    assert!(event["target_cursor_bytes"].is_u64(), "{event}");
    for words in ["interrupted", "unfinished", "same command again"] {
        assert!(outcome.stderr.contains(words), "no {words}: {outcome}");
    }
    pair.assert_marked();
    pair.change_source(20);
    let options = [&["--json"], options].concat();
    let outcome = sync(&pair.scratch, &options, &pair.source, &pair.target).run().expect_success();
    assert!(notices(&outcome).contains(&"resuming".to_owned()), "{outcome}");
    assert!(outcome.summary()["resumed_from"].is_u64(), "{outcome}");
    pair.finish(&[]);
}

#[test]
fn an_interrupt_stops_in_order() {
    a_signal_stops_in_order(Signal::SIGINT, &[], false);
}

#[test]
fn a_termination_stops_in_order() {
    a_signal_stops_in_order(Signal::SIGTERM, &[], true);
}

#[test]
fn a_whole_copy_is_stopped_and_continued() {
    a_signal_stops_in_order(Signal::SIGINT, &["--whole"], true);
}

#[test]
fn nobody_waits_for_a_low_rate() {
    let pair = Pair::make(4 * MIB, false);
    // Four minutes a window.
    let slowly = ["--json", "--limit-rate", "4K"];
    let running = sync(&pair.scratch, &slowly, &pair.source, &pair.target).start();
    running.wait_for(LONG, bytes_done);
    running.signal(Signal::SIGINT);
    running.finish(LONG).expect_code(4);
    pair.finish(&[]);
}

/// What lies before the cursor is looked at again: source and target may have
/// changed since.
#[test]
fn the_cursor_is_not_trusted() {
    const SEGMENT: usize = 64 * MIB;
    let mut pair = Pair::make(SEGMENT + 40 * MIB, false);
    let slowly = ["--json", "--whole", "--streams", "1", "--limit-rate", "40M"];
    let running = sync(&pair.scratch, &slowly, &pair.source, &pair.target).start();
    running.wait_for(LONG, |line| bytes_done(line).filter(|done| *done > SEGMENT as u64));
    running.signal(Signal::SIGINT);
    let event = running.finish(LONG).expect_code(4).summary();
    assert_eq!(event["target_cursor_bytes"].as_u64(), Some(SEGMENT as u64), "{event}");
    assert!(pair.info().contains("stopped at byte 67108864"), "{}", pair.info());
    pair.change_source(30);
    let mut rotten = Model { bytes: pair.model.bytes[..SEGMENT].to_vec() };
    rotten.scribble(10, &mut pair.random);
    rotten.write_over(&pair.target);
    let summary = sync_well(&pair.scratch, &["--whole"], &pair.source, &pair.target);
    assert_same_bytes(&pair.source, &pair.target, pair.model.bytes.len() as u64);
    assert_eq!(number(&summary, "resumed_from"), SEGMENT as u64);
    assert_eq!(number(&summary, "bytes_read_target"), SEGMENT as u64, "as far as the cursor, and no further");
}

/// Killed in the middle: the target is known by all its names.
fn is_marked_by_all_names(kind: Kind) {
    let Some(()) = need(&NEEDS) else { return };
    let mut random = Random::new();
    let scratch = Scratch::new();
    let bytes = 9 * MIB + 4096;
    let source = scratch.path("source.raw");
    Model::random(bytes, &mut random).save(&source);
    let target = Disk::make(&scratch, "target", kind, bytes);
    let running = sync(&scratch, &["--json", "--limit-rate", "4M"], &source, target.path()).start();
    running.wait_for(LONG, bytes_done);
    running.kill();
    let is_marked = |path: &Path| {
        let arguments = ["image".as_ref(), "info".as_ref(), path.as_os_str()];
        Failback::new(&scratch, arguments).run().expect_success().stdout.contains("UNFINISHED")
    };
    let (moved, link) = (target.path().with_file_name("moved.vmdk"), scratch.path("link"));
    symlink(target.path(), &link).expect("links can be made");
    assert!(is_marked(target.path()) && is_marked(&link));
    if kind == Kind::Loop512 {
        assert!(is_marked(&scratch.path("target/disk.raw")), "the file behind the device");
        return;
    }
    fs::rename(target.path(), &moved).expect("names can be changed");
    assert!(is_marked(&moved), "under another name");
    let attach = ["image".as_ref(), "attach".as_ref(), "--read-only".as_ref(), moved.as_os_str()];
    let device = Failback::new(&scratch, attach).run().expect_success().stdout;
    let device = Path::new(device.trim());
    assert!(is_marked(device), "as a device");
    let detach = ["image".as_ref(), "detach".as_ref(), device.as_os_str()];
    Failback::new(&scratch, detach).run().expect_success();
    if kind == Kind::Vmfs {
        assert!(is_marked(&scratch.path("target/disk-flat.vmdk")), "the file that holds its bytes");
    }
    sync_well(&scratch, &[], &source, &moved);
    assert!(!is_marked(&moved));
}

#[test]
fn a_marked_file_is_known_by_all_its_names() {
    is_marked_by_all_names(Kind::Raw);
}

#[test]
fn a_marked_device_is_known_by_all_its_names() {
    is_marked_by_all_names(Kind::Loop512);
}

#[test]
fn a_marked_image_is_known_by_all_its_names() {
    is_marked_by_all_names(Kind::Vmfs);
}

#[test]
fn a_signal_before_the_first_byte_leaves_no_mark() {
    let pair = Pair::make(4 * MIB, false);
    // Equal disks: nothing is ever written, and the signal comes when it may.
    pair.finish(&[]);
    let running = sync(&pair.scratch, &["--json"], &pair.source, &pair.target).start();
    running.signal(Signal::SIGTERM);
    let outcome = running.finish(LONG);
    // Before the handlers stand, the signal ends it as any program.
    assert!(matches!(outcome.code(), Some(0 | 4) | None), "{outcome}");
    pair.finish(&[]);
}

#[test]
fn without_a_cursor_kept_another_source_starts_anew() {
    let mut pair = Pair::make(8 * MIB, false);
    let slowly = ["--json", "--whole", "--limit-rate", "4M"];
    let running = sync(&pair.scratch, &slowly, &pair.source, &pair.target).start();
    running.wait_for(LONG, bytes_done);
    running.kill();
    pair.assert_marked();
    let other = pair.scratch.path("other.raw");
    pair.model = Model::random(8 * MIB, &mut pair.random);
    pair.model.save(&other);
    pair.source = other;
    pair.finish(&["--whole"]);
}

/// Which mark there is: each run that begins writes its own.
fn mark_stamp(scratch: &Scratch) -> Option<(u64, i64, i64)> {
    let entries = fs::read_dir(scratch.path("state/targets")).ok()?.flatten();
    let mark = entries
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "json"))
        .last()?;
    let file = mark.metadata().ok()?;
    Some((file.ino(), file.ctime(), file.ctime_nsec()))
}

/// Waits until a run has marked its target, or for a while: on a busy machine a
/// process needs longer to start than to be killed.
fn wait_for_a_beginning(scratch: &Scratch, before: Option<(u64, i64, i64)>) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while mark_stamp(scratch) == before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills runs at random moments; now and then one may end.
fn is_killed(options: &[&str], kills: usize, onto_device: bool) {
    if onto_device && need(&[LoopDevices]).is_none() {
        return;
    }
    let mut pair = Pair::make(8 * MIB + 4096, onto_device);
    let slowly = [&["--limit-rate", "24M"], options].concat();
    let mut caught = 0;
    for kill in 1..=kills {
        pair.change_source(40);
        let before = mark_stamp(&pair.scratch);
        let running = sync(&pair.scratch, &slowly, &pair.source, &pair.target).start();
        if pair.random.happens(75) {
            wait_for_a_beginning(&pair.scratch, before);
        }
        std::thread::sleep(Duration::from_millis(pair.random.below(100)));
        running.kill();
        caught += marks(&pair.scratch).len();
        if kill % 10 == 0 {
            pair.finish(options);
        }
    }
    println!("{caught} of {kills} left a marked target");
    assert!(caught * 4 > kills, "too few of the kills came in the middle: {caught} of {kills}");
    pair.finish(options);
}

#[test]
fn killed_a_hundred_times_it_ends_equal() {
    is_killed(&[], 100, false);
}

#[test]
fn killed_onto_a_device_it_ends_equal() {
    is_killed(&[], 30, true);
}

#[test]
fn killed_in_whole_copies_it_ends_equal() {
    is_killed(&["--whole"], 30, true);
}

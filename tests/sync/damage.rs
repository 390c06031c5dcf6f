//! What goes wrong while a run goes on: bytes that change behind its back,
//! reads and writes that fail.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use serde_json::Value;

use crate::fixture::Need::{LoopDevices, Program};
use crate::fixture::{Failback, LONG, LoopDevice, Model, Mount, Random, Scratch, assert_same_bytes, need};

use super::{MIB, make_filesystem, marks, number, sync, sync_well};

fn bytes_done(line: &str) -> Option<u64> {
    let event: Value = serde_json::from_str(line).ok()?;
    event["bytes_done"].as_u64().filter(|_| event["event"] == "progress")
}

#[test]
fn verification_finds_bytes_that_changed_after_they_were_written() {
    let Some(()) = need(&[LoopDevices]) else { return };
    let mut random = Random::new();
    let scratch = Scratch::new();
    let (source, backing) = (scratch.path("source.raw"), scratch.image("target.raw", 24 << 20));
    Model::random(24 * MIB, &mut random).save(&source);
    let target = LoopDevice::attach(&backing, 512);
    let options = ["--json", "--verify", "--streams", "1", "--limit-rate", "9M"];
    let running = sync(&scratch, &options, &source, target.path()).start();
    // More than can be in flight, so the first window is on the device.
    running.wait_for(LONG, |line| bytes_done(line).filter(|done| *done >= 10 << 20));
    let behind = OpenOptions::new().write(true).open(&backing).expect("nobody locks what lies behind");
    behind.write_all_at(b"rot", 777_777).expect("the filesystem has room");
    behind.sync_all().expect("the filesystem works");
    let outcome = running.finish(LONG).expect_code(5);
    let event = outcome.summary();
    assert_eq!(
        (&event["code"], &event["target_state"]),
        (&"differs".into(), &"unfinished".into()),
        "{event}"
    );
    assert!(outcome.stderr.contains("verification failed"), "{outcome}");
    assert_eq!(
        event["target_cursor_bytes"].as_u64(),
        Some(0),
        "what was found wrong is not before the cursor"
    );
    assert_eq!(marks(&scratch).len(), 1, "a target that was found wrong stays marked");
    let summary = sync_well(&scratch, &["--verify"], &source, target.path());
    assert_eq!(number(&summary, "chunks_differing"), 1);
    assert_same_bytes(&source, target.path(), 24 << 20);
}

/// A source device whose file ends early: the kernel reports errors from there on.
fn a_read_fails(options: &[&str]) {
    let Some(()) = need(&[LoopDevices]) else { return };
    let mut random = Random::new();
    let scratch = Scratch::new();
    let length = 160 * MIB;
    let backing = scratch.path("source.raw");
    let model = Model::random(length, &mut random);
    model.save(&backing);
    let source = LoopDevice::attach(&backing, 512);
    let target = scratch.image("target.raw", length as u64);
    let file = OpenOptions::new().write(true).open(&backing).expect("it was made");
    file.set_len(100 << 20).expect("files can be cut");
    let options = [&["--json", "--streams", "1"], options].concat();
    let outcome = sync(&scratch, &options, source.path(), &target).run().expect_code(1);
    let event = outcome.summary();
    assert_eq!(event["target_state"], "unfinished", "{event}");
    assert!(
        number(&event, "target_cursor_bytes") <= 64 << 20,
        "the cursor passed what was not copied: {event}"
    );
    assert!(outcome.stderr.contains("read of"), "{outcome}");
    assert!(marks(&scratch)[0]["cursor_bytes"].as_u64().is_some_and(|cursor| cursor <= 64 << 20));
    model.save(&backing);
    sync_well(&scratch, &[], source.path(), &target);
    assert_same_bytes(source.path(), &target, length as u64);
}

#[test]
fn a_source_that_cannot_be_read_to_its_end() {
    a_read_fails(&[]);
}

#[test]
fn a_source_that_cannot_be_copied_whole() {
    a_read_fails(&["--whole"]);
}

#[test]
fn a_target_without_room() {
    let Some(()) = need(&[LoopDevices, Program("mkfs.ext4")]) else { return };
    let mut random = Random::new();
    let scratch = Scratch::new();
    let source = scratch.path("source.raw");
    Model::random(32 * MIB, &mut random).save(&source);
    let small = LoopDevice::attach(&scratch.image("small.raw", 16 << 20), 512);
    make_filesystem(small.path());
    let mount = Mount::new(small.path(), &scratch.folder("mount"), "");
    let target = mount.point().join("target.raw");
    let outcome = sync(&scratch, &["--json", "--create"], &source, &target).run().expect_code(1);
    assert_eq!(outcome.summary()["target_state"], "unfinished", "{outcome}");
    assert!(outcome.stderr.contains("No space left"), "{outcome}");
    assert!(outcome.stderr.contains("target.raw"), "an error names the file: {outcome}");
    assert_eq!(marks(&scratch).len(), 1);
    // With a source that fits, the same target becomes a disk.
    let fitting = scratch.image("fitting.raw", 32 << 20);
    sync_well(&scratch, &[], &fitting, &target);
    assert_same_bytes(&fitting, &target, 32 << 20);
}

#[test]
fn state_that_cannot_be_kept_is_refused_first() {
    let scratch = Scratch::new();
    let source = scratch.path("source.raw");
    Model::random(MIB, &mut Random::new()).save(&source);
    let target = scratch.image("target.raw", 1 << 20);
    scratch.file("state", "a file where the folder should be");
    let outcome = sync(&scratch, &[], &source, &target).run().expect_code(3);
    assert!(outcome.stderr.contains("--state"), "{outcome}");
    Model::zeroes(MIB).assert_starts(&target);
}

#[test]
fn a_mark_that_makes_no_sense_is_not_passed_over() {
    let mut random = Random::new();
    let scratch = Scratch::new();
    let (source, target) = (scratch.path("source.raw"), scratch.image("target.raw", 8 << 20));
    Model::random(8 * MIB, &mut random).save(&source);
    let running = sync(&scratch, &["--json", "--limit-rate", "4M"], &source, &target).start();
    running.wait_for(LONG, bytes_done);
    running.kill();
    let folder = std::fs::read_dir(scratch.path("state/targets")).expect("the target is marked");
    let paths = folder.flatten().map(|entry| entry.path());
    let mark = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).last();
    let mark = mark.expect("the target is marked");
    std::fs::write(&mark, "{\"version\":99}").expect("it is ours");
    let outcome = sync(&scratch, &[], &source, &target).run().expect_code(3);
    assert!(outcome.stderr.contains("no state file of failback"), "{outcome}");
    assert!(outcome.stderr.contains(&*mark.to_string_lossy()), "{outcome}");
    std::fs::remove_file(&mark).expect("it is ours");
    sync_well(&scratch, &[], &source, &target);
    assert_same_bytes(&source, &target, 8 << 20);
    Failback::new(&scratch, ["image".as_ref(), "info".as_ref(), target.as_os_str()]).run().expect_success();
}

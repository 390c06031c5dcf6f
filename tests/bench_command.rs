//! `failback bench`: what it prints, what it refuses, and that it leaves
//! nothing behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{Outcome, Running, Scratch, binary};

const TIMEOUT: Duration = Duration::from_secs(120);
const MIB: usize = 1 << 20;
const STAGES: [&str; 13] = [
    "read",
    "hash-xxh3",
    "hash-blake3",
    "zero-scan",
    "compress-lz4",
    "compress-zstd",
    "decompress-lz4",
    "decompress-zstd",
    "tls",
    "write",
    "copy",
    "compare",
    "push",
];

/// `bench --json` with its temporary disks in the folder `disks`.
fn bench(scratch: &Scratch, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(["bench", "--json", "--directory"]).arg(scratch.folder("disks")).args(arguments);
    command
}

fn run(scratch: &Scratch, arguments: &[&str]) -> Outcome {
    Running::start(&mut bench(scratch, arguments)).finish(TIMEOUT)
}

/// Neither a file in its folder nor a loop device over one.
fn assert_nothing_left(scratch: &Scratch) {
    let disks = scratch.folder("disks");
    let left: Vec<PathBuf> = fs::read_dir(&disks).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
    let devices =
        fs::read_dir("/sys/block").unwrap().flatten().map(|entry| entry.path().join("loop/backing_file"));
    let backing: Vec<String> = devices.filter_map(|file| fs::read_to_string(file).ok()).collect();
    let ours = |file: &&String| Path::new(file.as_str()).starts_with(&disks);
    assert!(!backing.iter().any(|file| ours(&file)), "{backing:?}");
}

/// The byte of a disk at `at`, the same within each block.
fn byte(at: usize, seed: u8) -> u8 {
    (at / 4096).to_le_bytes()[0] ^ seed
}

fn image(scratch: &Scratch, name: &str, length: usize, seed: u8) -> PathBuf {
    let bytes: Vec<u8> = (0..length).map(|at| byte(at, seed)).collect();
    scratch.file(name, bytes)
}

fn names<'a>(events: &'a [Value], event: &str, name: &str) -> Vec<&'a str> {
    events.iter().filter(|line| line["event"] == event).filter_map(|line| line[name].as_str()).collect()
}

#[test]
fn every_stage_is_measured_and_nothing_is_left() {
    let scratch = Scratch::new();
    let outcome = run(&scratch, &["--size", "64M", "--rounds", "1"]).expect_success();
    let events = outcome.events();
    assert_eq!(names(&events, "stage", "stage"), STAGES, "{outcome}");
    for stage in events.iter().filter(|line| line["event"] == "stage") {
        assert_eq!(stage["bytes"], 64 << 20, "{stage}");
        assert_eq!(stage["seconds_each"].as_array().map(Vec::len), Some(1), "{stage}");
        let is_positive = |name: &str| stage[name].as_f64().is_some_and(|value| value > 0.0);
        assert!(is_positive("seconds") && is_positive("gib_per_second"), "{stage}");
        let latencies = stage["latencies"].as_array().unwrap();
        assert!(!latencies.is_empty(), "{stage}");
        for latency in latencies {
            let value = |name: &str| latency[name].as_u64().unwrap();
            let percentiles = ["p50_us", "p99_us", "p999_us", "max_us"].map(value);
            assert!(value("count") > 0 && percentiles.is_sorted(), "{latency}");
        }
    }
    let summary = outcome.summary();
    assert_eq!(summary["event"], "summary");
    assert_eq!(summary["stages"].as_array().map(Vec::len), Some(STAGES.len()));
    assert_nothing_left(&scratch);
}

#[test]
fn only_the_wanted_stages_run_on_the_named_disks() {
    let scratch = Scratch::new();
    let source = image(&scratch, "source.raw", 65 * MIB + 512, 0);
    let target = image(&scratch, "target.raw", 66 * MIB, 0x80);
    let (source_path, target_path) = (source.to_str().unwrap(), target.to_str().unwrap());
    let mut arguments =
        vec!["--only", "compare,read,push", "--size", "64M", "--rounds", "2", "--source", source_path];
    arguments.extend(["--target", target_path, "--i-know-this-destroys", target_path]);
    let outcome = run(&scratch, &arguments).expect_success();
    assert_eq!(names(&outcome.events(), "stage", "stage"), ["read", "compare", "push"], "{outcome}");
    let (from, onto) = (fs::read(&source).unwrap(), fs::read(&target).unwrap());
    assert!(from[..64 * MIB] == onto[..64 * MIB], "the pipeline copied");
    let behind = onto.iter().enumerate().skip(64 * MIB);
    let is_kept = behind.into_iter().all(|(at, found)| *found == byte(at, 0x80));
    assert!(is_kept, "what lies behind --size was written");
    assert_nothing_left(&scratch);
}

#[test]
fn a_target_is_named_twice_or_not_touched() {
    let scratch = Scratch::new();
    let target = image(&scratch, "target.raw", 64 * MIB, 0x80);
    let other = image(&scratch, "other.raw", 64 * MIB, 0);
    let before = fs::read(&target).unwrap();
    let (path, other) = (target.to_str().unwrap(), other.to_str().unwrap());
    let same = ["--source", path, "--target", path, "--i-know-this-destroys", path];
    for (arguments, says) in [
        (&["--target", path][..], "--i-know-this-destroys"),
        (&["--target", path, "--i-know-this-destroys", other], "--i-know-this-destroys"),
        (&same, "same storage"),
    ] {
        let outcome = run(&scratch, arguments).expect_code(3);
        assert_eq!(outcome.summary()["code"], "refused");
        assert!(outcome.stderr.contains(says), "{outcome}");
        assert!(fs::read(&target).unwrap() == before, "{outcome}");
        assert_nothing_left(&scratch);
    }
    let outcome = run(&scratch, &["--i-know-this-destroys", path]).expect_code(2);
    assert!(outcome.stderr.contains("--target"), "{outcome}");
}

#[test]
fn an_interrupted_measurement_cleans_up() {
    let scratch = Scratch::new();
    for wait in [20, 150, 400] {
        let mut command = bench(&scratch, &["--size", "64M", "--rounds", "1000", "--only", "tls,write,push"]);
        let running = Running::start(&mut command);
        running.wait_for(TIMEOUT, |line| line.contains("\"role\":\"target\"").then_some(()));
        std::thread::sleep(Duration::from_millis(wait));
        running.signal(Signal::SIGINT);
        let outcome = running.finish(TIMEOUT);
        assert_eq!(outcome.code(), Some(4), "{outcome}");
        assert_eq!(outcome.summary()["code"], "interrupted", "{outcome}");
        assert_nothing_left(&scratch);
    }
}

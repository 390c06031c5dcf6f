//! `failback demo`: what it shows to whom, and that it leaves nothing behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::Need::{LoopDevices, Program, Root};
use crate::fixture::{
    LONG, Outcome, Running, Scratch, assert_image_sound, assert_same_bytes, binary, need, program,
};

const SMALL: &[&str] = &["--json", "--size", "64M"];
const SIZE_BYTES: u64 = 64 << 20;

/// `demo` with its temporary folder in the folder `temporary`.
fn command(scratch: &Scratch, arguments: &[&str]) -> Command {
    let mut command = program("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(binary()).arg("demo").args(arguments);
    command.env("TMPDIR", scratch.folder("temporary"));
    command
}

/// `demo --json` of the smallest size.
fn demo(scratch: &Scratch, more: &[&str]) -> Command {
    let mut command = command(scratch, SMALL);
    command.args(more);
    command
}

/// The same by somebody who may do nothing, who is made where there is none.
fn ordinary_demo(scratch: &Scratch) -> Command {
    if !nix::unistd::geteuid().is_root() {
        return demo(scratch, &[]);
    }
    let (copy, temporary) = (scratch.path("failback"), scratch.folder("temporary"));
    if !copy.exists() {
        fs::copy(binary(), &copy).expect("the scratch directory has room");
    }
    for (path, mode) in [(scratch.root(), 0o711), (&copy, 0o755), (&temporary, 0o1777)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    }
    let mut command = program("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--pdeathsig", "KILL", "--"]);
    command.arg(copy).arg("demo").args(SMALL).env("TMPDIR", temporary);
    command
}

fn run(mut command: Command) -> Outcome {
    Running::start(&mut command).finish(LONG)
}

/// Neither a file, nor a mount, nor a loop device.
fn assert_nothing_left(scratch: &Scratch) {
    let temporary = scratch.folder("temporary");
    let left: Vec<PathBuf> = fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let is_ours = |text: &str| text.contains(scratch.root().to_str().unwrap());
    assert!(!mounts.lines().any(is_ours), "{mounts}");
    let devices =
        fs::read_dir("/sys/block").unwrap().flatten().map(|entry| entry.path().join("loop/backing_file"));
    let backing: Vec<String> = devices.filter_map(|file| fs::read_to_string(file).ok()).collect();
    assert!(!backing.iter().any(|file| is_ours(file)), "{backing:?}");
}

/// The steps by their names, after checks that hold for every demo.
fn steps(outcome: &Outcome) -> Vec<String> {
    let summary = outcome.summary();
    assert_eq!(summary["event"], "summary", "{outcome}");
    let rows = summary["steps"].as_array().unwrap();
    let chunks = |name: &str| {
        let row =
            rows.iter().find(|row| row["step"] == name).unwrap_or_else(|| panic!("no {name}: {outcome}"));
        assert!(row["what"].as_str().unwrap().ends_with(", verified"), "{outcome}");
        row["counts"]["chunks_differing"].as_u64().unwrap()
    };
    let (first, second) = (chunks("first copy"), chunks("second sync"));
    assert!(0 < second && second < first / 4, "{second} after {first}: {outcome}");
    rows.iter().map(|row| row["step"].as_str().unwrap().to_owned()).collect()
}

fn left_out(outcome: &Outcome) -> Vec<String> {
    let summary = outcome.summary();
    let rows = summary["left_out"].as_array().unwrap();
    rows.iter().map(|row| row["what"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn root_sees_all_of_it() {
    let Some(()) = need(&[LoopDevices, Program("mkfs.ext4"), Program("e2fsck")]) else { return };
    let scratch = Scratch::new();
    let outcome = run(demo(&scratch, &[])).expect_success();
    let expected = [
        "make disk",
        "write files",
        "pair hosts",
        "first copy",
        "change files",
        "second sync",
        "attach copy",
        "fsck",
        "compare files",
        "protect",
        "recovery point",
        "recovery point",
        "recovery point",
        "go home",
        "rewind",
        "commit",
        "clean up",
    ];
    assert_eq!(steps(&outcome), expected, "{outcome}");
    assert!(left_out(&outcome).is_empty(), "{outcome}");
    assert_nothing_left(&scratch);
}

#[test]
fn an_ordinary_user_sees_it_on_image_files() {
    let Some(()) = need(&[Program("mkfs.ext4"), Program("debugfs"), Program("e2fsck")]) else { return };
    let scratch = Scratch::new();
    let outcome = run(ordinary_demo(&scratch)).expect_success();
    let steps = steps(&outcome);
    for name in ["fsck", "compare files", "compare bytes"] {
        assert!(steps.iter().any(|step| step == name), "no {name}: {outcome}");
    }
    assert_eq!(left_out(&outcome), ["loop devices and mounts", "live protection"], "{outcome}");
    assert_nothing_left(&scratch);
}

#[test]
fn people_get_a_table() {
    let scratch = Scratch::new();
    let outcome = run(command(&scratch, &["--size", "64M"])).expect_success();
    let mut lines = outcome.stdout.lines().skip_while(|line| !line.starts_with("step "));
    let head = lines.next().unwrap_or_else(|| panic!("no table: {outcome}"));
    assert!(head.split_whitespace().eq(["step", "moved", "seconds", "rate", "what"]), "{outcome}");
    assert!(lines.any(|line| line.starts_with("second sync ") && line.contains("/s  ")), "{outcome}");
    assert_nothing_left(&scratch);
}

#[test]
fn images_are_kept_on_request_and_never_overwritten() {
    let scratch = Scratch::new();
    let kept = scratch.path("kept");
    let keep = ["--keep", kept.to_str().unwrap()];
    run(demo(&scratch, &keep)).expect_success();
    let mut names: Vec<_> = fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["home-flat.vmdk", "home.vmdk", "source.img"]);
    assert_same_bytes(&kept.join("source.img"), &kept.join("home-flat.vmdk"), SIZE_BYTES);
    if need(&[Program("qemu-img")]).is_some() {
        assert_image_sound(&kept.join("home.vmdk"), "vmdk");
    }
    let before = modified(&kept.join("source.img"));
    let outcome = run(demo(&scratch, &keep)).expect_code(3);
    assert!(outcome.stderr.contains("is there already"), "{outcome}");
    assert_eq!(modified(&kept.join("source.img")), before);
    assert_nothing_left(&scratch);
}

fn modified(path: &Path) -> std::time::SystemTime {
    path.metadata().and_then(|metadata| metadata.modified()).unwrap()
}

/// Stops a demo once it has done `step`.
fn interrupt(scratch: &Scratch, mut command: Command, step: &str, signal: Signal) {
    let running = Running::start(&mut command);
    running.wait_for(LONG, |line| {
        let event: Value = serde_json::from_str(line).ok()?;
        (event["step"] == step).then_some(())
    });
    running.signal(signal);
    let outcome = running.finish(LONG).expect_code(4);
    assert!(outcome.stderr.contains("interrupted"), "{outcome}");
    assert_nothing_left(scratch);
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    let Some(()) = need(&[LoopDevices, Program("mkfs.ext4")]) else { return };
    let scratch = Scratch::new();
    let moments =
        [("make disk", Signal::SIGINT), ("first copy", Signal::SIGHUP), ("recovery point", Signal::SIGTERM)];
    for (step, signal) in moments {
        interrupt(&scratch, demo(&scratch, &[]), step, signal);
    }
}

#[test]
fn an_interrupted_demo_of_an_ordinary_user_leaves_nothing() {
    let Some(()) = need(&[Root, Program("mkfs.ext4"), Program("debugfs")]) else { return };
    let scratch = Scratch::new();
    for step in ["make disk", "pair hosts"] {
        interrupt(&scratch, ordinary_demo(&scratch), step, Signal::SIGINT);
    }
}

#[test]
fn without_room_it_refuses() {
    let scratch = Scratch::new();
    let temporary = scratch.folder("temporary");
    let space = nix::sys::statvfs::statvfs(&temporary).expect("the folder is there");
    if space.blocks_available() * space.fragment_size() < 128 << 30 {
        let outcome = run(command(&scratch, &["--size", "64G"])).expect_code(3);
        assert!(outcome.stderr.contains("--size"), "{outcome}");
    }
    assert_nothing_left(&scratch);
}

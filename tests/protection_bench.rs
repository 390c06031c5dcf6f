//! `benches/protection`: each measurement runs, tells what it promises, and
//! leaves nothing behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::Need::{self, LoopDevices, PostgreSql, Program, Tracking};
use crate::fixture::{Random, Running, Scratch, binary, build, need};

const TIMEOUT: Duration = Duration::from_secs(300);
/// The kernel lets go of what a process held a moment after its end.
const RELEASED_WITHIN: Duration = Duration::from_secs(10);

fn protection() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| build("protection"))
}

fn command(scratch: &Scratch, arguments: &str) -> Command {
    let mut command = Command::new(protection());
    command.args(arguments.split(' ')).args(["--rest-seconds", "0", "--markdown", "--failback"]);
    command.arg(binary()).arg("--directory").arg(scratch.folder("disks"));
    command
}

/// Runs a measurement to its end; its figures.
fn measure(needs: &[Need], arguments: &str) -> Option<Value> {
    need(&[&[LoopDevices, Program("fio")], needs].concat())?;
    let scratch = Scratch::new();
    // PostgreSQL's user must be able to pass.
    let pass = fs::Permissions::from_mode(0o711);
    fs::set_permissions(scratch.root(), pass).expect("it is ours");
    let figures = scratch.path("figures.json");
    let mut command = command(&scratch, arguments);
    let outcome = Running::start(command.arg("--json").arg(&figures)).finish(TIMEOUT).expect_success();
    assert!(outcome.stdout.starts_with("| "), "{outcome}");
    assert_nothing_left(&scratch);
    let text = fs::read_to_string(figures).expect("the figures are written");
    let told: Value = serde_json::from_str(&text).expect("they are JSON");
    Some(told["figures"].clone())
}

/// Neither a file in its folder nor a loop device over one.
fn assert_nothing_left(scratch: &Scratch) {
    let disks = scratch.folder("disks");
    let left: Vec<PathBuf> = fs::read_dir(&disks).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
    let until = Instant::now() + RELEASED_WITHIN;
    loop {
        let devices = fs::read_dir("/sys/block").unwrap().flatten();
        let files =
            devices.filter_map(|entry| fs::read_to_string(entry.path().join("loop/backing_file")).ok());
        let ours: Vec<String> = files.filter(|file| Path::new(file).starts_with(&disks)).collect();
        if ours.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "{ours:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|value| value > 0.0)
}

#[test]
fn landing_is_held_against_the_disk() {
    let Some(rows) = measure(&[], "landing --size 64 --rounds 1") else { return };
    assert_eq!(rows.as_array().map(Vec::len), Some(4), "{rows}");
    assert!(rows.as_array().unwrap().iter().all(|row| is_positive(&row["rate_ratio"])), "{rows}");
}

#[test]
fn cuts_under_pgbench_are_told_one_by_one() {
    let needs = [Tracking, PostgreSql, Program("mkfs.ext4")];
    let Some(told) = measure(&needs, "freeze --cuts 2 --scale 1 --clients 1") else { return };
    let count = |name: &str| told[name].as_array().map_or(0, Vec::len);
    let skipped: u64 = told["skipped"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(count("freeze_ms") as u64 + skipped, 2, "{told}");
    assert_eq!(count("freeze_ms"), count("remainder_bytes"), "{told}");
    assert!(is_positive(&told["transactions_per_second"]), "{told}");
}

#[test]
fn lag_is_seen_on_the_target_itself() {
    let arguments = "lag --seconds 3 --rate 200 --size 64 --rounds 1 --points-every 1";
    let Some(told) = measure(&[Tracking, Program("mkfs.ext4")], arguments) else { return };
    let run = &told["run"];
    assert!(run["lags_ms"].as_array().is_some_and(|lags| !lags.is_empty()), "{run}");
    assert!(is_positive(&run["rate"]) && is_positive(&run["agent_peak_bytes"]), "{run}");
    assert!(is_positive(&told["writer"][0]["with"]["rate"]), "{told}");
}

#[test]
fn what_a_tracker_takes_is_told() {
    let Some(told) = measure(&[Tracking], "tracker --size 64 --writes 1000 --rounds 1") else { return };
    assert!(is_positive(&told["event_ns"]), "{told}");
    assert!(is_positive(&told["with"][0]["rate"]) && is_positive(&told["without"][0]["rate"]), "{told}");
}

#[test]
fn larger_chunks_send_more() {
    let arguments = "chunks --chunks 4,256 --size 64 --seconds 3 --rate 50";
    let Some(told) = measure(&[Tracking], arguments) else { return };
    let sent = |place: usize| told[place]["sent_bytes"].as_u64().unwrap_or_default();
    assert!(sent(0) > 0 && sent(1) > sent(0), "{told}");
}

#[test]
fn what_was_left_is_opened_again() {
    let Some(rows) = measure(&[], "recovery --size 64 --rounds 1 --points 3 --disk 1") else { return };
    assert_eq!(rows.as_array().map(Vec::len), Some(3), "{rows}");
}

#[test]
fn an_interrupted_measurement_leaves_nothing() {
    let Some(()) = need(&[LoopDevices, Tracking, Program("fio"), Program("mkfs.ext4")]) else { return };
    let (scratch, mut random) = (Scratch::new(), Random::new());
    let arguments = "lag --seconds 600 --rate 200 --size 64 --rounds 0 --points-every 1";
    let running = Running::start(&mut command(&scratch, arguments));
    // Anywhere between its first file and the writer at work.
    let (disks, until) = (scratch.folder("disks"), Instant::now() + TIMEOUT);
    while fs::read_dir(&disks).unwrap().next().is_none() {
        assert!(Instant::now() < until, "it does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(random.below(6000)));
    running.signal(Signal::SIGINT);
    running.finish(TIMEOUT).expect_code(130);
    assert_nothing_left(&scratch);
}

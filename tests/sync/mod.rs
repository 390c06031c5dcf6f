//! `failback sync` and `failback image` on the disks of one host, from the
//! command line to the bytes on the target.
//!
//! ```text
//! disks ─ every kind of disk, written and read without failback
//! kinds, sizes, options, sparse      what a run does
//! buffered, terminal                 and how it is seen to do it
//! refusals, aliases, descriptors     what it does not do
//! interruption, damage, property     what goes wrong meanwhile
//! images, ordinary_user              the rest
//! ```

mod aliases;
mod creation;
mod buffered;
mod damage;
mod descriptors;
pub mod disks;
mod images;
mod interruption;
mod kinds;
mod options;
mod ordinary_user;
mod property;
mod refusals;
mod sizes;
mod sparse;
mod terminal;
mod written;

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::fixture::{Failback, Outcome, Scratch, program, run};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// The unit of comparison.
const CHUNK: usize = 64 * KIB;

/// `sync OPTIONS SOURCE TARGET`, not started yet.
fn sync(scratch: &Scratch, options: &[&str], source: &Path, target: &Path) -> Failback {
    Failback::new(scratch, sync_arguments(options, source, target))
}

fn sync_arguments(options: &[&str], source: &Path, target: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["sync".into()];
    arguments.extend(options.iter().map(OsString::from));
    arguments.extend([source.into(), target.into()]);
    arguments
}

/// A run with `--json` that ends well: its summary.
fn sync_well(scratch: &Scratch, options: &[&str], source: &Path, target: &Path) -> Value {
    let options: Vec<&str> = ["--json"].iter().chain(options).copied().collect();
    let summary = sync(scratch, &options, source, target).run().expect_success().summary();
    assert_eq!(summary["event"], "summary", "{summary}");
    assert!(marks(scratch).is_empty(), "a target is still marked after a good end");
    summary
}

/// The number `name` of a summary.
fn number(summary: &Value, name: &str) -> u64 {
    summary[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {summary}"))
}

/// The marks of unfinished targets in the state of `scratch`.
fn marks(scratch: &Scratch) -> Vec<Value> {
    let Ok(entries) = fs::read_dir(scratch.path("state/targets")) else { return Vec::new() };
    let files = entries.flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.filter_map(|path| serde_json::from_str(&fs::read_to_string(path).ok()?).ok()).collect()
}

/// The notices of a `--json` run, by name.
fn notices(outcome: &Outcome) -> Vec<String> {
    let events = outcome.events().into_iter().filter(|event| event["event"] == "notice");
    events.filter_map(|event| event["name"].as_str().map(str::to_owned)).collect()
}

/// What a run that compares must count, for these bytes of both sides.
#[derive(Debug, PartialEq, Eq, Default)]
struct Difference {
    chunks: u64,
    written: u64,
    zeroed: u64,
}

impl Difference {
    fn between(source: &[u8], target: &[u8]) -> Self {
        let mut difference = Self::default();
        for (mine, theirs) in source.chunks(CHUNK).zip(target.chunks(CHUNK)) {
            if mine == &theirs[..mine.len()] {
                continue;
            }
            difference.chunks += 1;
            let is_zero = mine.iter().all(|byte| *byte == 0);
            let counter = if is_zero { &mut difference.zeroed } else { &mut difference.written };
            *counter += mine.len() as u64;
        }
        difference
    }

    fn counted(summary: &Value) -> Self {
        let [chunks, written, zeroed] =
            ["chunks_differing", "bytes_written", "bytes_zeroed"].map(|name| number(summary, name));
        Self { chunks, written, zeroed }
    }
}

/// The SHA-256 of a file or device, by a program that shares no line with failback.
fn hash(path: &Path) -> String {
    let said = run(program("sha256sum").arg(path));
    said.split(' ').next().unwrap_or_default().to_owned()
}

/// `mkfs.ext4` so that an idle mount writes nothing by itself later on.
fn make_filesystem(device: &Path) {
    let options = ["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
    run(program("mkfs.ext4").args(options).arg(device));
}

/// `qemu-img` with these arguments.
fn qemu_img<A: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = A>) -> String {
    let mut command: Command = program("qemu-img");
    run(command.args(arguments))
}

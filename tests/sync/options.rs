//! The options of `sync`, its output and its exit codes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::fixture::Need::LoopDevices;
use crate::fixture::{Failback, LoopDevice, Model, Mount, Random, Scratch, assert_same_bytes, need};

use super::{Difference, MIB, make_filesystem, marks, notices, number, sync, sync_well};

/// A source and a target that differ here and there.
struct Pair {
    scratch: Scratch,
    source: PathBuf,
    target: PathBuf,
    model: Model,
    before: Model,
}

impl Pair {
    fn make(bytes: usize) -> Self {
        let mut random = Random::new();
        let scratch = Scratch::new();
        let (source, target) = (scratch.path("source.raw"), scratch.path("target.raw"));
        let before = Model::mixed(bytes, &mut random);
        let mut model = before.clone();
        model.scribble(30, &mut random);
        model.save(&source);
        before.save(&target);
        Self { scratch, source, target, model, before }
    }

    fn difference(&self) -> Difference {
        Difference::between(&self.model.bytes, &self.before.bytes)
    }

    fn sync_well(&self, options: &[&str]) -> serde_json::Value {
        let summary = sync_well(&self.scratch, options, &self.source, &self.target);
        assert_same_bytes(&self.source, &self.target, self.model.bytes.len() as u64);
        summary
    }
}

#[test]
fn whole_copies_without_reading_the_target() {
    let pair = Pair::make(20 * MIB + 999);
    let summary = pair.sync_well(&["--whole"]);
    assert_eq!(number(&summary, "bytes_read_target"), 0);
    let counted = Difference::counted(&summary);
    let all_zero = Model::zeroes(pair.model.bytes.len());
    let data = Difference::between(&pair.model.bytes, &all_zero.bytes);
    assert_eq!(counted.written, data.written, "zeroes are never written as data");
    assert_eq!(counted.written + counted.zeroed, pair.model.bytes.len() as u64, "the target has no holes");
}

#[test]
fn any_digest_finds_the_same() {
    for digest in ["xxh3", "blake3"] {
        let pair = Pair::make(5 * MIB + 7);
        let summary = pair.sync_well(&["--digest", digest, "--verify"]);
        assert_eq!(Difference::counted(&summary), pair.difference());
    }
}

#[test]
fn a_limited_rate_only_takes_longer() {
    let pair = Pair::make(4 * MIB);
    let summary = pair.sync_well(&["--limit-rate", "8M", "--whole", "--verify", "--streams", "3"]);
    assert_eq!(summary["verified"], true);
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let pair = Pair::make(12 * MIB + 1);
    let stamp = |path| fs::metadata(path).map(|file| (file.mtime(), file.mtime_nsec(), file.blocks())).ok();
    let untouched = stamp(&pair.target);
    let rehearsed = sync_well(&pair.scratch, &["--dry-run"], &pair.source, &pair.target);
    pair.before.assert_starts(&pair.target);
    assert_eq!(stamp(&pair.target), untouched);
    assert!(!pair.scratch.path("state/targets").exists(), "a dry run marks nothing");
    assert_eq!(rehearsed["dry_run"], true);
    assert_eq!(number(&rehearsed, "bytes_written") + number(&rehearsed, "bytes_zeroed"), 0);
    let told = sync(&pair.scratch, &["--dry-run"], &pair.source, &pair.target).run().expect_success();
    assert!(told.stdout.contains("would differ") && told.stdout.contains("nothing was changed"), "{told}");
    let summary = pair.sync_well(&[]);
    assert_eq!(number(&summary, "chunks_differing"), number(&rehearsed, "chunks_differing"));
    assert_eq!(summary["dry_run"], false);
}

#[test]
fn a_dry_run_refuses_what_the_run_would_refuse() {
    let scratch = Scratch::new();
    let (source, target) = (scratch.image("source.raw", 2 << 20), scratch.image("target.raw", 1 << 20));
    sync(&scratch, &["--dry-run"], &source, &target).run().expect_code(3);
    sync(&scratch, &["--dry-run"], &source, &source).run().expect_code(3);
    sync(&scratch, &["--dry-run"], &source, &scratch.path("none")).run().expect_code(3);
}

#[test]
fn json_is_one_object_a_line_and_a_summary_at_the_end() {
    let pair = Pair::make(6 * MIB);
    // Slow enough for a line of progress, which comes once a second.
    let options = ["--json", "--whole", "--verify", "--limit-rate", "4M"];
    let outcome = sync(&pair.scratch, &options, &pair.source, &pair.target).run().expect_success();
    assert_eq!(outcome.stderr, "");
    let events = outcome.events();
    let progress = events.iter().find(|event| event["event"] == "progress").expect("it took a second");
    for name in ["bytes_done", "bytes_total", "bytes_per_second"] {
        number(progress, name);
    }
    let summaries = events.iter().filter(|event| event["event"] == "summary").count();
    assert_eq!((summaries, &events[events.len() - 1]["event"]), (1, &"summary".into()));
    let summary = outcome.summary();
    let counts = "bytes_total bytes_read_source bytes_read_target bytes_sent bytes_written bytes_zeroed chunks_differing";
    for name in counts.split(' ') {
        number(&summary, name);
    }
    assert!(summary["seconds"].as_f64().is_some_and(|seconds| seconds > 0.5), "{summary}");
    let stages = summary["latencies"].as_array().expect("a list of stages");
    for stage in ["read_source", "write", "flush", "read_target"] {
        let row = stages.iter().find(|row| row["stage"] == stage);
        let row = row.unwrap_or_else(|| panic!("no {stage} in {summary}"));
        let is_percentile = |name: &&String| name.starts_with('p');
        let percentiles = row.as_object().expect("a row").keys().filter(is_percentile).count();
        assert!(percentiles >= 3, "{row}");
    }
}

#[test]
fn quiet_says_nothing_but_errors() {
    let pair = Pair::make(MIB);
    for option in ["--quiet", "-q"] {
        let outcome = sync(&pair.scratch, &[option], &pair.source, &pair.target).run().expect_success();
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
    }
    let outcome = sync(&pair.scratch, &["-q"], &pair.source, &pair.source).run().expect_code(3);
    assert!(outcome.stdout.is_empty() && outcome.stderr.contains("same storage"), "{outcome}");
}

#[test]
fn people_read_a_summary_on_standard_output() {
    let pair = Pair::make(MIB);
    let outcome = sync(&pair.scratch, &["--verify"], &pair.source, &pair.target).run().expect_success();
    for words in ["1.00 MiB", "chunks differed", "wrote", "verified"] {
        assert!(outcome.stdout.contains(words), "no {words}: {outcome}");
    }
}

#[test]
fn a_wrong_command_line_is_told_apart() {
    let scratch = Scratch::new();
    let image = scratch.image("a.raw", 4096);
    let wrong: [&[&str]; 6] = [
        &["--streams", "0"],
        &["--streams", "17"],
        &["--limit-rate", "fast"],
        &["--digest", "md5"],
        &["--format", "raw"],
        &["--no-such-option"],
    ];
    for options in wrong {
        let outcome = sync(&scratch, options, &image, &image).run().expect_code(2);
        assert!(outcome.stdout.is_empty() && !outcome.stderr.is_empty(), "{outcome}");
    }
    Failback::new(&scratch, ["sync"]).timeout(Duration::from_secs(20)).run().expect_code(2);
}

#[test]
fn the_exit_codes_are_documented() {
    let scratch = Scratch::new();
    let outcome = Failback::new(&scratch, ["sync", "--help"]).run().expect_success();
    let top = Failback::new(&scratch, ["--help"]).run();
    let text = outcome.stdout + &top.stdout;
    for line in ["0  done", "3  refused", "4  stopped by a signal", "5  the verification found differences"] {
        assert!(text.contains(line), "no {line} in {text}");
    }
}

#[test]
fn create_makes_what_the_name_or_the_format_says() {
    let mut random = Random::new();
    let scratch = Scratch::new();
    let source = scratch.path("source.raw");
    let model = Model::mixed(3 * MIB + 1024, &mut random);
    model.save(&source);
    let cases: [(&str, &[&str], bool); 4] = [
        ("plain.img", &["--create"], false),
        ("named.vmdk", &["--create"], true),
        ("flat.vmdk", &["--create", "--format", "vmdk-flat"], true),
        ("raw.bin", &["--create", "--format", "raw"], false),
    ];
    for (name, options, is_vmdk) in cases {
        let target = scratch.path(name);
        sync(&scratch, &[], &source, &target).run().expect_code(3);
        assert!(!target.exists(), "nothing is made without --create");
        sync_well(&scratch, options, &source, &target);
        let bytes = if is_vmdk { scratch.path(&name.replace(".vmdk", "-flat.vmdk")) } else { target.clone() };
        assert_same_bytes(&source, &bytes, model.bytes.len() as u64);
        // The same command again goes on with what is there.
        let summary = sync_well(&scratch, options, &source, &target);
        assert_eq!(number(&summary, "chunks_differing"), 0);
    }
}

#[test]
fn a_mounted_source_needs_live_and_its_copy_is_fuzzy() {
    let Some(()) = need(&[LoopDevices, crate::fixture::Need::Program("mkfs.ext4")]) else { return };
    let scratch = Scratch::new();
    let source = LoopDevice::attach(&scratch.image("source.raw", 32 << 20), 512);
    let target = scratch.image("target.raw", 32 << 20);
    make_filesystem(source.path());
    let point = scratch.folder("mount");
    {
        let _mount = Mount::new(source.path(), &point, "");
        let outcome = sync(&scratch, &[], source.path(), &target).run().expect_code(3);
        for words in ["mounted read-write", "--live", "not changed"] {
            assert!(outcome.stderr.contains(words), "no {words}: {outcome}");
        }
        assert_eq!(fs::metadata(&target).expect("it is there").blocks(), 0);
        let summary = sync_well(&scratch, &["--live"], source.path(), &target);
        assert_eq!(summary["fuzzy"], true, "{summary}");
        let outcome = sync(&scratch, &["--live"], source.path(), &target).run().expect_success();
        assert!(outcome.stdout.contains("FUZZY"), "{outcome}");
    }
    // Mounted read-only it does not change.
    let _mount = Mount::new(source.path(), &point, "ro");
    let outcome = sync(&scratch, &["--json", "--live"], source.path(), &target).run().expect_success();
    assert_eq!(outcome.summary()["fuzzy"], false);
    let summary = sync_well(&scratch, &[], source.path(), &target);
    assert_eq!(summary["fuzzy"], false);
    // The mounted filesystem has pages of the device in memory that it never
    // writes: what lies behind the device is what is compared.
    assert_same_bytes(&scratch.path("source.raw"), &target, 32 << 20);
    assert!(!notices(&outcome).contains(&"unfinished-source".to_owned()) && marks(&scratch).is_empty());
}

//! Files that nobody wrote: every view shows them or says what is wrong, within
//! bounds, and never more.

use std::fs;
use std::path::{Path, PathBuf};

use crate::fixture::{Outcome, Random, Scratch};

use super::{everything, inspect, journal, text};

/// Damages of one run; each is looked at through every view.
const DAMAGES: u64 = 40;

/// What a view may print at most: rows are bounded, and so is each row.
const OUTPUT_BYTES_MAX: usize = 4 << 20;

#[test]
fn a_damaged_journal_is_shown_or_refused() {
    let (scratch, mut random) = (Scratch::new(), Random::new());
    let journal = journal(&scratch, 17, &mut random);
    let files = everything(&journal);
    for number in 0..DAMAGES {
        let (path, _, bytes) = &files[random.index_below(files.len())];
        let damage = damage(bytes, &files[random.index_below(files.len())].2, &mut random);
        println!("damage {number}: {} of {} bytes", path.display(), damage.len());
        fs::write(path, damage).expect("it can be written");
        every_view(&journal, path);
        fs::write(path, bytes).expect("it can be written");
    }
    for view in ["pair", "journal", "records", "points", "digests"] {
        inspect([view, text(&journal)]).expect_success();
    }
}

/// Every view of a journal, and that of one of its files.
fn every_view(journal: &Path, damaged: &Path) {
    let folder = text(journal);
    for view in ["pair", "journal", "records", "points", "digests"] {
        assert_orderly(&inspect([view, folder, "--json"]));
    }
    assert_orderly(&inspect(["records", folder, "--unverified", "--entries", "--limit", "1000"]));
    for file in [damaged.to_owned(), journal.join("epoch-000000000003.index")] {
        assert_orderly(&inspect(["index", text(&file), "--json"]));
        assert_orderly(&inspect(["index", text(&file), "--unverified"]));
    }
}

fn assert_orderly(outcome: &Outcome) {
    assert!(matches!(outcome.code(), Some(0 | 1 | 3)), "{outcome}");
    assert!(!outcome.stderr.contains("panicked"), "{outcome}");
    assert!(outcome.stdout.len() < OUTPUT_BYTES_MAX, "{} bytes: {}", outcome.stdout.len(), outcome.command);
    // What is wrong is said, in one way.
    assert!(outcome.code() == Some(0) || outcome.stderr.starts_with("failback: "), "{outcome}");
}

/// `bytes`, damaged in one of the ways in which files are.
fn damage(bytes: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    match random.below(7) {
        0 => damaged.truncate(random.index_below(bytes.len() + 1)),
        1 => {
            damaged.extend(std::iter::repeat_n(random.number().to_le_bytes()[0], random.index_below(20_000)))
        }
        2 => damaged = other.to_vec(),
        3 => fill(&mut damaged, random, |_| 0),
        4 => fill(&mut damaged, random, |random| random.number().to_le_bytes()[0]),
        // Lengths and counts lie near the beginning of a block.
        5 => flip(&mut damaged, random, |length, random| random.index_below(length.div_ceil(4096)) * 4096),
        _ => flip(&mut damaged, random, |length, random| random.index_below(length)),
    }
    damaged
}

fn fill(bytes: &mut [u8], random: &mut Random, byte: fn(&mut Random) -> u8) {
    if !bytes.is_empty() {
        let start = random.index_below(bytes.len());
        let length = (1 + random.index_below(8192)).min(bytes.len() - start);
        bytes[start..start + length].fill_with(|| byte(random));
    }
}

/// Flips some bits within a hundred bytes of `place`.
fn flip(bytes: &mut [u8], random: &mut Random, place: fn(usize, &mut Random) -> usize) {
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = (place(bytes.len(), random) + random.index_below(100)).min(bytes.len() - 1);
        bytes[at] ^= 1 << random.below(8);
    }
}

#[test]
fn a_damaged_state_is_shown_or_refused() {
    const GOOD: [(&str, &str); 4] = [
        (
            "targets/a.json",
            r#"{"version":1,"target":"/dev/b","source":"/dev/a","size_bytes":4096,"cursor_bytes":0,"whole":true,"started_unix_seconds":1}"#,
        ),
        (
            "owners/b.json",
            r#"{"version":1,"base":"wwid:5","offset":0,"size_bytes":4096,"target":"/dev/b","retention":"/r","machine":"m","disk":"d","since_unix_seconds":1}"#,
        ),
        ("disks/c.json", r#"{"state":"protecting","epoch":3}"#),
        ("binding.json", r#"{"firmware":"x","machine":"y","disks":{"d":"wwid:5"}}"#),
    ];
    let (scratch, mut random) = (Scratch::new(), Random::new());
    let folder = scratch.folder("state");
    ["targets", "owners", "disks"].iter().for_each(|name| drop(scratch.folder(&format!("state/{name}"))));
    let put = |name: &str, bytes: &[u8]| -> PathBuf { scratch.file(&format!("state/{name}"), bytes) };
    GOOD.iter().for_each(|(name, text)| drop(put(name, text.as_bytes())));
    inspect(["state", text(&folder)]).expect_success();
    for _ in 0..DAMAGES {
        let (name, good) = GOOD[random.index_below(GOOD.len())];
        let (_, other) = GOOD[random.index_below(GOOD.len())];
        put(name, &damage(good.as_bytes(), other.as_bytes(), &mut random));
        assert_orderly(&inspect(["state", text(&folder), "--json"]));
        assert_orderly(&inspect(["state", text(&folder)]));
        assert_orderly(&inspect(["owner", text(&scratch.file("disk", [0; 4096])), "--state", text(&folder)]));
        put(name, good.as_bytes());
    }
}

#[test]
fn a_damaged_record_of_a_freeze_is_refused() {
    let (scratch, mut random) = (Scratch::new(), Random::new());
    let folder = scratch.folder("run");
    let mut good = b"fbfrozen\x01\0\0\0\x02\0\0\0".to_vec();
    good.resize(56 + 2 * 9, 0);
    for _ in 0..DAMAGES / 4 {
        scratch.file("run/freeze-record", damage(&good, b"fbfrozen", &mut random));
        let outcome = inspect(["freeze", text(&folder), "--json"]);
        assert!(outcome.code() == Some(1), "no checksum fits: {outcome}");
        assert_orderly(&outcome);
    }
}

//! `failback points` over a journal on a real directory.

use std::path::Path;

use failback_datapath::delta::DigestAlgorithm;
use failback_datapath::disk::WriteMark;
use failback_datapath::journal::{Directory, Journal, Pair, PairState, PointKind, PointRecord, SecretKey};
use failback_datapath::ring;
use failback_datapath::unit::{Chain, ChunkSize, DeltaNumber, Generation};

use crate::fixture::Scratch;

use super::{event, failback};

const GENERATION: Generation = Generation { incarnation: 7, number: 1 };
/// 2026-11-21 14:00:00.
const CUT_UNIX_MS: u64 = 1_795_269_600_000;

fn pair() -> Pair {
    Pair {
        generation: GENERATION,
        machine: "web-1".to_owned(),
        machine_identity: String::new(),
        machine_key: String::new(),
        disk: "root".to_owned(),
        target_identity: "loop".to_owned(),
        target_path: "/dev/loop9".to_owned(),
        size_bytes: 1 << 20,
        chunk_size: ChunkSize::for_disk(1 << 20),
        digest_algorithm: DigestAlgorithm::Blake3,
        key: SecretKey([9; 32]),
        state: PairState::Protected,
        pins: std::collections::BTreeSet::new(),
        segment_bytes: 1 << 20,
        target_writes: WriteMark::default(),
        exact_from: None,
        awaits_comparison: false,
    }
}

/// A journal with two points, the second one by name.
fn make_journal(folder: &Path) {
    make_journal_cut_at(folder, CUT_UNIX_MS);
}

fn make_journal_cut_at(folder: &Path, cut_unix_ms: u64) {
    let made = ring::run(async {
        let directory = Directory::open(folder, "a test").expect("a directory");
        let mut journal = Journal::create(directory, pair()).await.expect("a journal");
        for (kind, name) in [(PointKind::Crash, ""), (PointKind::App, "before-upgrade")] {
            let point = PointRecord {
                generation: GENERATION,
                epoch: journal.open_epoch(),
                kind,
                name: name.to_owned(),
                machine_cut: None,
                cut_unix_ms,
                closed_unix_ms: CUT_UNIX_MS + 20,
                freeze_ms: 12,
                deltas: DeltaNumber(0),
                chunks: 0,
                manifest: [3; 32],
                chain: Chain([4; 32]),
            };
            journal.close_epoch(point).await.expect("a point");
        }
    });
    made.expect("there is io_uring");
}

#[test]
fn points_are_listed_and_shown_without_the_journals_lock() {
    let scratch = Scratch::new();
    let retention = scratch.folder("retention");
    let place = retention.to_str().expect("in UTF-8");
    let none = failback(&["points", "list", "--retention", place]).expect_success();
    assert!(none.stdout.contains("no pair has a journal"), "{none}");
    make_journal(&retention.join("web-1/root"));
    // Whoever writes the journal holds its lock.
    let _held = Directory::open(&retention.join("web-1/root"), "a master target").expect("the lock is free");
    let listed = event(&failback(&["points", "list", "--json", "--retention", place]).expect_success());
    assert_eq!(
        (&listed["pair"], &listed["points"][1]["name"]),
        (&"web-1/root".into(), &"before-upgrade".into())
    );
    assert!(!listed.to_string().contains(&"09".repeat(32)), "the key is shown: {listed}");
    let text = failback(&["points", "list", "web-1/root", "--retention", place]).expect_success();
    assert!(text.stdout.contains("2026-11-21T14:00:00Z") && text.stdout.contains("app-consistent"), "{text}");
    for which in ["2", "newest", "before-upgrade"] {
        let shown = failback(&["points", "show", "web-1/root", which, "--json", "--retention", place]);
        assert_eq!(event(&shown.expect_success())["point"]["epoch"], 2);
    }
    let unknown = failback(&["points", "show", "web-1/root", "3", "--retention", place]).expect_code(3);
    assert!(unknown.stderr.contains("no such point"), "{unknown}");
    let unknown = failback(&["points", "list", "web-2/root", "--retention", place]).expect_code(3);
    assert!(unknown.stderr.contains("there is web-1/root"), "{unknown}");
}

#[test]
fn a_point_of_no_date_is_listed_all_the_same() {
    let scratch = Scratch::new();
    let retention = scratch.folder("retention");
    make_journal_cut_at(&retention.join("web-1/root"), u64::MAX);
    let place = ["--retention", retention.to_str().expect("a path")];
    for command in [&["points", "list", "web-1/root"][..], &["points", "show", "web-1/root", "2"]] {
        let listed = failback(&[command, &place].concat()).expect_success();
        assert!(listed.stdout.contains(&u64::MAX.to_string()), "{listed}");
    }
}

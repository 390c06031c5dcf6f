//! Random disks, random differences, random borders, against the obvious
//! reference: the bytes in memory. In this process, because it makes many.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use failback_datapath::disk::{self, Purpose};
use failback_datapath::landing::StateDirectory;
use failback_datapath::pipeline::{Cancel, Compression, DigestAlgorithm};
use failback_datapath::resync::{Report, Settings, Watch, synchronize};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::fixture::{LONG, Model, Random, Scratch};

use super::disks::{Disk, Kind, Part};
use super::{CHUNK, Difference, MIB};

const CASES: u32 = 150;

/// One run to be tried. All bytes come out of the seed.
#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    /// Sectors for images with extents, bytes for raw ones.
    bytes: usize,
    tail: usize,
    places: usize,
    lanes: usize,
    whole: bool,
    verify: bool,
    source_extents: usize,
    target_extents: usize,
    sparse: bool,
}

/// Sizes near borders of chunks and windows as often as any other.
fn sizes() -> impl Strategy<Value = usize> {
    let near = |unit: usize, limit: usize| {
        (1..=limit, -2000_isize..2000)
            .prop_map(move |(count, off)| (count * unit).saturating_add_signed(off).max(1))
    };
    prop_oneof![1..4 * MIB, near(CHUNK, 40), near(MIB, 3), Just(1), Just(512)]
}

fn cases() -> impl Strategy<Value = Case> {
    let content = (any::<u64>(), sizes(), prop_oneof![Just(0), 1..200_000_usize], 0..40_usize);
    let manner = (1..=4_usize, any::<bool>(), any::<bool>(), 0..6_usize, 0..6_usize, any::<bool>());
    (content, manner).prop_map(|(content, manner)| {
        let (seed, bytes, tail, places) = content;
        let (lanes, whole, verify, source_extents, target_extents, sparse) = manner;
        Case { seed, bytes, tail, places, lanes, whole, verify, source_extents, target_extents, sparse }
    })
}

/// A raw image without extents, else an image cut at random sectors, its
/// extents at random places of one file or in files of their own.
fn make(scratch: &Scratch, name: &str, bytes: usize, extents: usize, random: &mut Random) -> Disk {
    if extents == 0 {
        return Disk::make(scratch, name, Kind::Raw, bytes);
    }
    let folder = scratch.folder(name);
    let mut cuts: Vec<usize> = (1..extents).map(|_| random.index_below(bytes / 512 + 1) * 512).collect();
    cuts.extend([0, bytes]);
    cuts.sort_unstable();
    cuts.dedup();
    let in_one_file = random.happens(50);
    let mut at = 0;
    let parts = cuts.windows(2).enumerate().map(|(number, cut)| {
        let length = (cut[1] - cut[0]) as u64;
        at += if in_one_file { random.below(20) * 512 } else { 0 };
        let file = if in_one_file { "disk-all.vmdk".to_owned() } else { format!("disk-f{number:03}.vmdk") };
        let offset = if in_one_file { at } else { random.below(9) * 512 };
        at += length;
        Part { file: Some(folder.join(file)), offset, length }
    });
    Disk::described(Kind::Split, &folder, parts.collect())
}

fn run(case: &Case, state: &Path, source: &Path, target: &Path, dry_run: bool) -> Report {
    let settings = Settings {
        whole: case.whole,
        digest: if case.seed.is_multiple_of(2) { DigestAlgorithm::Xxh3 } else { DigestAlgorithm::Blake3 },
        compression: Compression::Auto,
        lanes: Some(case.lanes),
        rate_limit: None,
        verify: case.verify,
        dry_run,
        live: false,
        format: None,
        state: StateDirectory::new(state.to_owned()),
    };
    let (watch, _notices) = Watch::new(Cancel::default());
    let source = disk::open(source, Purpose::Source { live: false }).expect("the source is good");
    let purpose = if dry_run { Purpose::Rehearsal } else { Purpose::Target };
    let target = open_when_free(target, purpose);
    synchronize(source, target, &settings, &watch).expect("nothing goes wrong")
}

/// A process that another test starts has this one's files for a moment, locks too.
fn open_when_free(path: &Path, purpose: Purpose) -> disk::Disk {
    let deadline = Instant::now() + LONG;
    loop {
        match disk::open(path, purpose) {
            Err(error) if error.to_string().contains("locked") && Instant::now() < deadline => {
                sleep(Duration::from_millis(10));
            }
            opened => return opened.expect("the target is good"),
        }
    }
}

fn counts(report: &Report) -> Difference {
    let counts = &report.counts;
    Difference { chunks: counts.chunks_differing, written: counts.bytes_written, zeroed: counts.bytes_zeroed }
}

fn holds(case: &Case) {
    let mut random = Random::with_seed(case.seed);
    let scratch = Scratch::new();
    let (mut bytes, mut tail) = (case.bytes, case.tail);
    if case.source_extents > 0 {
        bytes = bytes.next_multiple_of(512);
    }
    if case.target_extents > 0 {
        tail = (bytes + tail).next_multiple_of(512) - bytes;
    }
    let source = make(&scratch, "source", bytes, case.source_extents, &mut random);
    let target = make(&scratch, "target", bytes + tail, case.target_extents, &mut random);
    let before = Model::mixed(bytes + tail, &mut random);
    let mut model = Model { bytes: before.bytes[..bytes].to_vec() };
    model.scribble(case.places, &mut random);
    if case.sparse && case.source_extents == 0 {
        model.save_sparse(source.path());
    } else {
        source.fill(&model);
    }
    target.fill(&before);
    let difference = Difference::between(&model.bytes, &before.bytes);
    let state = scratch.path("state");
    let rehearsed = run(case, &state, source.path(), target.path(), true);
    assert!(target.read() == before.bytes, "a dry run wrote");
    let report = run(case, &state, source.path(), target.path(), false);
    let expected = Model { bytes: [&model.bytes[..], &before.bytes[bytes..]].concat() };
    assert!(target.read() == expected.bytes, "the target is not the source");
    assert_eq!(rehearsed.counts.chunks_differing, report.counts.chunks_differing);
    assert_eq!(report.bytes_total, bytes as u64);
    if !case.whole {
        assert_eq!(counts(&report), difference);
    }
    let again = Case { whole: false, ..case.clone() };
    let report = run(&again, &state, source.path(), target.path(), false);
    assert_eq!(counts(&report), Difference::default(), "equal disks differ");
    assert!(target.read() == expected.bytes && source.read() == model.bytes);
}

#[test]
fn any_target_becomes_its_source() {
    let config = ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 60,
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&cases(), |case| {
        holds(&case);
        Ok(())
    });
    // The smallest case that fails is shown with its seed.
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

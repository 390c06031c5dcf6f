//! The bytes of every record, as they were first written. A journal outlives the
//! program that wrote it: where these differ, old journals are not read any more.

use std::fs;
use std::path::Path;

use super::memory::Memory;
use super::{content, now, pair, point};
use crate::delta::Manifest;
use crate::journal::files::new_buffer;
use crate::journal::{Journal, Pair, Volume, VolumeFile};
use crate::limits;
use crate::unit::{DeltaNumber, to_u64};

/// Entries of an open epoch that are spilled here: more than a page of them.
const SPILLED: usize = 100;

/// Compares with `tests/golden/NAME`; `FAILBACK_BLESS=1` writes it anew.
fn check(name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/journal/tests/golden").join(name);
    if std::env::var_os("FAILBACK_BLESS").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, bytes).expect("written");
    }
    let golden = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let differs = golden.iter().zip(bytes).position(|(was, is)| was != is);
    assert!(golden == bytes, "{name} differs from byte {differs:?} of {} on", golden.len());
}

fn file(volume: &Memory, name: &str) -> Vec<u8> {
    let file = volume.open(name, false).expect("there");
    let size = usize::try_from(file.size_bytes().expect("known")).expect("small");
    let (read, buffer) = now(file.read(0, new_buffer(size).expect("memory"), 0..size));
    read.expect("read");
    buffer.bytes()[..size].to_vec()
}

#[test]
fn whom_a_pair_is_bound_to_is_said_in_its_file() {
    let mut bound = pair(200, 64 << 10);
    (bound.machine_identity, bound.machine_key) = ("dmi:1".to_owned(), "SHA256:k".to_owned());
    let bytes = bound.encode().expect("it fits");
    let golden = "\"machine_identity\": \"dmi:1\",\n  \"machine_key\": \"SHA256:k\",\n  \"disk\": ";
    assert!(String::from_utf8_lossy(&bytes).contains(golden));
    assert_eq!(Pair::decode(&bytes).expect("it is one"), bound);
}

#[test]
fn the_bytes_of_every_file() {
    let volume = Memory::default();
    let mut journal = now(Journal::create(volume.clone(), pair(200, 64 << 10))).expect("created");
    let digester = journal.pair().digester();
    let mut batch = journal.batch().expect("memory");
    batch.belongs_to(DeltaNumber(1));
    batch.unkept(5, digester.digest(b"five")).expect("room");
    now(journal.append(&mut batch)).expect("appended");
    now(journal.flush()).expect("flushed");
    let first = point(&journal, 1_700_000_000_000);
    now(journal.close_epoch(first)).expect("closed");
    batch.belongs_to(DeltaNumber(1));
    for (chunk, old) in [(5, vec![b'x'; 4096]), (6, vec![0; 4096]), (199, vec![7; 3584])] {
        batch.keep(chunk, &old, digester.digest(&old), digester.digest(b"new")).expect("room");
    }
    now(journal.append(&mut batch)).expect("appended");
    now(journal.landed(DeltaNumber(1), Manifest::EMPTY)).expect("landed");
    let mut second = point(&journal, 1_700_000_300_000);
    second.name = "before-upgrade".to_owned();
    now(journal.close_epoch(second)).expect("closed");
    now(journal.roll_back()).expect("rolled back");
    for name in ["pair", "segment-00000001", "epoch-000000000002.index", "digests"] {
        check(name, &file(&volume, name));
    }
}

/// An index that was merged of several, and a run of the epoch that is open: of
/// two leaves each, with a page above them.
#[test]
fn the_bytes_of_what_is_merged_and_spilled() {
    let volume = Memory::spilling_at(SPILLED);
    let mut journal = now(Journal::create(volume.clone(), pair(1000, 64 << 10))).expect("created");
    let digester = journal.pair().digester();
    let mut batch = journal.batch().expect("memory");
    for epoch in 1..=limits::MERGE_FAN {
        batch.belongs_to(DeltaNumber(1));
        // Each has a chunk in common with the one before.
        for chunk in epoch * 9..=epoch * 9 + 9 {
            let (old, new) = (content(chunk, epoch, 4096), content(chunk, epoch + 1, 4096));
            let (was, is) = (digester.digest(&old), digester.digest(&new));
            if epoch == 1 { batch.unkept(chunk, is) } else { batch.keep(chunk, &old, was, is) }
                .expect("room");
        }
        now(journal.append(&mut batch)).expect("appended");
        let point = point(&journal, 1_700_000_000_000 + epoch);
        now(journal.close_epoch(point)).expect("closed");
    }
    assert!(now(journal.merge()).expect("merged"));
    let zeroes = vec![0; 4096];
    let digest = digester.digest(&zeroes);
    for (delta, chunks) in [(1, 3..3 + to_u64(SPILLED)), (2, 1..2)] {
        batch.belongs_to(DeltaNumber(delta));
        chunks.for_each(|chunk| batch.keep(chunk, &zeroes, digest, digest).expect("room"));
        now(journal.append(&mut batch)).expect("appended");
    }
    for name in ["merged-000000000001-000000000016.index", "run-00000001"] {
        check(name, &file(&volume, name));
    }
}

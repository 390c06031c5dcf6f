//! Rot, and what a crash tears.

use super::memory::Memory;
use super::{FIRST, content, now, pair, point};
use crate::journal::{Error, Journal, Volume};
use crate::limits;
use crate::unit::{DeltaNumber, Epoch, Extent};

/// Two points, and batches after them: `segment-00000001` holds all of it.
fn written() -> (Memory, Journal<Memory>) {
    let volume = Memory::default();
    let mut journal = now(Journal::create(volume.clone(), pair(500, 4 << 20))).expect("created");
    for epoch in 1..=3 {
        for delta in 1..=4 {
            append(&mut journal, epoch, delta);
        }
        if epoch < 3 {
            let point = point(&journal, epoch * 1000);
            now(journal.close_epoch(point)).expect("closed");
        }
    }
    (volume, journal)
}

fn append(journal: &mut Journal<Memory>, epoch: u64, delta: u64) {
    let digester = journal.pair().digester();
    let mut batch = journal.batch().expect("memory");
    batch.belongs_to(DeltaNumber(delta));
    for chunk in delta * 10..delta * 10 + 10 {
        let (old, new) = (content(chunk, epoch * 3 - 2, 4096), content(chunk, epoch * 3 + 1, 4096));
        batch.keep(chunk, &old, digester.digest(&old), digester.digest(&new)).expect("room");
    }
    now(journal.append(&mut batch)).expect("appended");
    now(journal.flush()).expect("flushed");
}

fn open(volume: &Memory) -> Result<(Journal<Memory>, crate::journal::Recovery), Error> {
    now(Journal::open(volume.clone()))
}

const SEGMENT: &str = "segment-00000001";

#[test]
fn damage_before_a_proven_flush_says_where_and_after_it_is_a_torn_tail() {
    let (volume, journal) = written();
    let start = journal.shelf.newest().expect("a point").header.log.position as usize;
    let end = journal.log.at.position as usize;
    let (_, recovery) = open(&volume.copy()).expect("whole");
    assert_eq!((recovery.torn_bytes, recovery.suspect.len()), (0, 40));
    let record = (end - start) / 4;
    for at in (start..end).step_by(1024) {
        let rotten = volume.copy();
        rotten.change(SEGMENT, |bytes| bytes[at..at + 512].iter_mut().for_each(|byte| *byte ^= 0x5a));
        let (index, within) = ((at - start) / record, (at - start) % record);
        let is_padding = (568..4096).contains(&within) || within >= 4096 + 10 * 4096;
        match open(&rotten) {
            // Of four batches the fourth proves that three were flushed.
            Err(Error::Damaged { file, offset, .. }) => {
                assert!(index < 3 && within < 4096, "{at}");
                assert_eq!((file.as_str(), offset), (SEGMENT, (start + index * record) as u64));
            }
            Err(error) => panic!("{error}"),
            Ok((_, recovery)) if index == 3 => {
                assert_eq!(recovery.suspect.len(), if is_padding { 40 } else { 30 }, "{at}");
            }
            // Images are verified when they are read.
            Ok(_) => assert!(within >= 568, "{at}"),
        }
    }
}

#[test]
fn rotten_images_indexes_and_files_that_are_gone_are_told() {
    let (volume, journal) = written();
    let place = 4096 * 3 + 100;
    let (rotten, extent) = (volume.copy(), Extent::between(0, 200 * 4096));
    rotten.change(SEGMENT, |bytes| bytes[journal.log.at.position as usize - place] ^= 1);
    let (opened, _) = open(&volume.copy()).expect("whole");
    let mut bytes = vec![0; 200 * 4096];
    now(opened.overlay(FIRST, extent, &mut bytes)).expect("whole");
    let early = volume.copy();
    let first_image = journal.shelf.epochs[&FIRST].header.log.position as usize + 4096;
    early.change(SEGMENT, |bytes| bytes[first_image] ^= 1);
    let (opened, _) = open(&early).expect("images are not read");
    assert!(matches!(
        now(opened.overlay(FIRST, extent, &mut bytes)),
        Err(Error::DamagedImage { chunk: 10, .. })
    ));
    for (offset, opens) in [(200, false), (5000, true)] {
        let rotten = volume.copy();
        rotten.change("epoch-000000000002.index", |bytes| bytes[offset] ^= 1);
        match open(&rotten) {
            Ok((opened, _)) if opens => {
                let found = now(opened.overlay(FIRST, extent, &mut bytes));
                assert!(matches!(found, Err(Error::Damaged { offset: 4096, .. })), "{found:?}");
            }
            Err(Error::Damaged { file, .. }) if !opens => assert_eq!(file, "epoch-000000000002.index"),
            other => panic!("{:?}", other.map(drop)),
        }
    }
    let gone = volume.copy();
    gone.remove(SEGMENT).expect("there");
    assert!(matches!(open(&gone), Err(Error::Damaged { file, .. }) if file == SEGMENT));
    let gone = volume.copy();
    gone.remove("epoch-000000000001.index").expect("there");
    assert!(open(&gone).is_ok(), "as after an expiry");
}

#[test]
fn what_can_be_made_again_is() {
    let (volume, journal) = written();
    let expected = now(journal.digests(0..500)).expect("read");
    volume.remove("epoch-000000000002.index").expect("there");
    let (opened, recovery) = open(&volume).expect("the log has the point");
    assert_eq!((opened.points().count(), recovery.open_epoch), (2, Epoch(3)));
    drop(opened);
    volume.change("digests", |bytes| bytes[4096 * 2 + 70] ^= 1);
    let (opened, recovery) = open(&volume).expect("a page knows nothing");
    assert!(!recovery.digests_lost);
    drop(opened);
    volume.change("digests", |bytes| bytes[..8192].fill(7));
    let (opened, recovery) = open(&volume).expect("digests begin anew");
    assert!(recovery.digests_lost);
    let found = now(opened.digests(0..500)).expect("read");
    // Chunks of the open epoch are in doubt; the others were of two closed ones.
    assert!(found.iter().zip(&expected).all(|(is, was)| is.is_none() || is == was));
}

#[test]
fn a_merged_index_that_is_damaged_is_made_again() {
    let (volume, mut journal) = written();
    for epoch in 4..4 + limits::MERGE_FAN {
        let next = point(&journal, epoch * 1000);
        now(journal.close_epoch(next)).expect("closed");
        append(&mut journal, epoch, 1);
    }
    assert!(now(journal.merge()).expect("merged"));
    drop(journal);
    let merged = || volume.names().expect("listed").into_iter().find(|name| name.starts_with("merged-"));
    let name = merged().expect("there is one");
    volume.change(&name, |bytes| bytes[20] ^= 1);
    let (mut opened, _) = open(&volume).expect("it is not needed");
    assert_eq!(merged(), None, "it goes");
    assert!(now(opened.merge()).expect("merged again"));
    assert_eq!(merged(), Some(name));
}

#[test]
fn digests_that_were_forgotten_stay_so_over_a_crash() {
    let (volume, mut journal) = written();
    now(journal.roll_back()).expect("rolled back");
    now(journal.forget_digests()).expect("forgotten");
    drop(journal);
    let (opened, recovery) = open(&volume).expect("it opens");
    assert!(!recovery.digests_lost);
    assert!(now(opened.digests(0..500)).expect("read").iter().all(Option::is_none));
}

#[test]
fn a_torn_segment_that_was_being_made_is_given_up() {
    let (volume, journal) = written();
    let epoch = journal.open_epoch();
    volume.create("segment-00000002", 4 << 20).expect("made");
    volume.create("run-00000001", 4096).expect("made");
    volume.create("epoch-000000000003.index.new", 4096).expect("made");
    let (mut opened, recovery) = open(&volume).expect("opened");
    assert_eq!(recovery.open_epoch, epoch);
    let names = volume.names().expect("listed");
    assert!(!names.iter().any(|name| name.ends_with(".new") || name.ends_with("02")), "{names:?}");
    let point = point(&opened, 9000);
    now(opened.close_epoch(point)).expect("it goes on");
}

/// The torn batch keeps its place, because the one after it needs a new segment:
/// its head is still valid, and the log goes on elsewhere.
#[test]
fn a_torn_tail_that_was_not_written_over_stays_given_up() {
    let volume = Memory::default();
    // Room for two batches and one short of a third.
    let mut journal = now(Journal::create(volume.clone(), pair(500, 128 << 10))).expect("created");
    let first = point(&journal, 1000);
    now(journal.close_epoch(first)).expect("closed");
    append(&mut journal, 1, 1);
    let torn = journal.log.at.position as usize;
    append(&mut journal, 1, 2);
    drop(journal);
    volume.change(SEGMENT, |bytes| bytes[torn + 4096 + 100] ^= 1);
    let (mut opened, recovery) = open(&volume).expect("a torn tail");
    assert_eq!(opened.log.at.position as usize, torn);
    assert!(recovery.torn_bytes > 0);
    let mut large = opened.batch().expect("memory");
    large.belongs_to(DeltaNumber(2));
    let digester = opened.pair().digester();
    for chunk in 100..130 {
        let old = content(chunk, 1, 4096);
        large.keep(chunk, &old, digester.digest(&old), digester.digest(&old)).expect("room");
    }
    now(opened.append(&mut large)).expect("in a segment of its own");
    now(opened.flush()).expect("flushed");
    assert_eq!(opened.log.at.segment, 2);
    drop(opened);
    let (mut opened, recovery) = open(&volume).expect("the torn tail is given up still");
    let expected = (10..20).chain(100..130).collect();
    assert_eq!(recovery.suspect, expected);
    let second = point(&opened, 2000);
    now(opened.close_epoch(second)).expect("it goes on");
    let (opened, _) = open(&volume).expect("whole");
    assert_eq!(opened.points().count(), 2);
    // What the next segment continues must be there all the same.
    drop(opened);
    volume.remove("epoch-000000000002.index").expect("there");
    volume.change(SEGMENT, |bytes| bytes[torn - 10 * 4096 - 4096 + 8] ^= 1);
    assert!(matches!(open(&volume), Err(Error::Damaged { .. })));
}

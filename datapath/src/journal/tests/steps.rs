//! What each step does and refuses.

use super::memory::Memory;
use super::{FIRST, content, now, pair, point};
use crate::delta::Manifest;
use crate::journal::{Error, Journal, Paused, RetentionPolicy, View};
use crate::unit::{DeltaNumber, Epoch, Extent};

fn write(journal: &mut Journal<Memory>, chunks: std::ops::Range<u64>, version: u64) -> Result<(), Error> {
    let digester = journal.pair().digester();
    let mut batch = journal.batch()?;
    batch.belongs_to(DeltaNumber(1));
    for chunk in chunks {
        let length = journal.pair().chunk_bytes(chunk);
        let (old, new) = (content(chunk, version - 1, length), content(chunk, version, length));
        batch.keep(chunk, &old, digester.digest(&old), digester.digest(&new))?;
    }
    now(journal.append(&mut batch))?;
    now(journal.flush())
}

fn close(journal: &mut Journal<Memory>, unix_ms: u64) -> Result<(), Error> {
    let point = point(journal, unix_ms);
    now(journal.close_epoch(point))
}

/// A journal with one point and nothing in it.
fn begun(segment_bytes: u32) -> (Memory, Journal<Memory>) {
    let volume = Memory::default();
    let mut journal = now(Journal::create(volume.clone(), pair(1000, segment_bytes))).expect("created");
    close(&mut journal, 1000).expect("closed");
    (volume, journal)
}

#[test]
fn a_batch_is_one_write_and_one_flush_and_neighbours_are_one_read() {
    let (volume, mut journal) = begun(8 << 20);
    let (_, writes, flushes) = volume.counts();
    write(&mut journal, 100..200, 5).expect("written");
    let after = volume.counts();
    assert_eq!((after.1 - writes, after.2 - flushes), (1, 1));
    close(&mut journal, 2000).expect("closed");
    let (before, ..) = volume.counts();
    let mut bytes = vec![0; 100 * 4096];
    now(journal.overlay(FIRST, Extent::between(100 * 4096, 200 * 4096), &mut bytes)).expect("read");
    let (after, ..) = volume.counts();
    assert!(bytes == (100..200).flat_map(|chunk| content(chunk, 4, 4096)).collect::<Vec<_>>());
    assert!(after - before <= 3, "the root, two leaves at once, the images at once: {}", after - before);
    now(journal.overlay(FIRST, Extent::between(100 * 4096, 200 * 4096), &mut bytes)).expect("read");
    assert_eq!(volume.counts().0 - after, 1, "pages stay in memory");
}

#[test]
fn nothing_is_overwritten_without_its_image() {
    let (_volume, mut journal) = begun(1 << 20);
    let digest = journal.pair().digester().digest(&[]);
    for keep in [false, true] {
        let mut batch = journal.batch().expect("memory");
        let pushed = if keep { batch.unkept(3, digest) } else { batch.again(3, digest) };
        pushed.expect("room");
        assert!(matches!(now(journal.append(&mut batch)), Err(Error::OutOfTurn { .. })));
    }
    let mut batch = journal.batch().expect("memory");
    batch.keep(1000, &[0; 4096], digest, digest).expect("room");
    assert!(matches!(now(journal.append(&mut batch)), Err(Error::Unfit { .. })));
    assert!(journal.touched_chunks().is_empty());
}

#[test]
fn a_full_volume_pushes_back_and_loses_nothing() {
    let (volume, mut journal) = begun(128 << 10);
    volume.limit(Some(1 << 20));
    let mut version = 1;
    let full = loop {
        version += 1;
        if let Err(error) =
            write(&mut journal, 0..20, version).and_then(|()| close(&mut journal, version * 1000))
        {
            break error;
        }
    };
    assert!(matches!(full, Error::Full { .. }), "{full}");
    let policy = RetentionPolicy { free_bytes_min: 300 << 10, ..RetentionPolicy::default() };
    let expired = journal.expire(&policy, Ok(version * 1000)).expect("expired");
    assert!(!expired.points.is_empty() && !expired.short_of_space);
    if journal.touched_chunks().is_empty() {
        write(&mut journal, 0..20, version).expect("there is room again");
    }
    close(&mut journal, version * 1000).expect("closed");
    assert!(matches!(journal.ensure_room(1000, 0), Err(Error::Full { .. })));
    volume.limit(Some(2 << 20));
    journal.ensure_room(2, 0).expect("two chunks fit");
}

#[test]
fn refusals_change_nothing() {
    let (volume, mut journal) = begun(1 << 20);
    assert!(matches!(now(Journal::create(volume.clone(), pair(9, 4096))), Err(Error::AlreadyThere)));
    assert!(matches!(now(Journal::open(Memory::default())), Err(Error::Missing { .. })));
    let mut wrong = point(&journal, 1);
    wrong.generation = wrong.generation.next();
    assert!(matches!(now(journal.close_epoch(wrong)), Err(Error::WrongGeneration { .. })));
    let mut wrong = point(&journal, 1);
    wrong.epoch = FIRST;
    assert!(matches!(now(journal.close_epoch(wrong)), Err(Error::Unfit { .. })));
    assert!(matches!(now(journal.before_images(0..1, Epoch(9))), Err(Error::NoSuchPoint { .. })));
    assert!(matches!(now(journal.digests(0..2000)), Err(Error::Unfit { .. })));
    assert_eq!(journal.points().count(), 1);
}

#[test]
fn pins_hold_and_without_a_clock_nothing_is_too_old() {
    let (_volume, mut journal) = begun(1 << 20);
    let hour = 3_600_000;
    for version in 2..8 {
        write(&mut journal, 0..5, version).expect("written");
        close(&mut journal, version * hour).expect("closed");
    }
    let policy = RetentionPolicy { keep_seconds: 3 * 3600, ..RetentionPolicy::default() };
    now(journal.pin(Epoch(2))).expect("pinned");
    let expired = journal.expire(&policy, Ok(7 * hour)).expect("expired");
    assert_eq!(expired.points, [FIRST]);
    now(journal.unpin(Epoch(2))).expect("unpinned");
    let paused = Paused::ClockJumped { by_ms: 30 * 3_600_000 };
    let expired = journal.expire(&policy, Err(paused)).expect("asked");
    assert_eq!((expired.paused, expired.points.len()), (Some(paused), 0));
    let expired = journal.expire(&policy, Ok(37 * hour)).expect("expired");
    assert_eq!(expired.points.len(), 5, "all but the newest: {expired:?}");
    assert_eq!(journal.points().count(), 1);
}

#[test]
fn a_view_tells_what_is_there_and_keeps_the_secret() {
    let (volume, mut journal) = begun(1 << 20);
    write(&mut journal, 0..5, 2).expect("written");
    now(journal.landed(DeltaNumber(1), Manifest::EMPTY)).expect("landed");
    let view = now(View::open(volume)).expect("opened");
    let summary = now(view.summary()).expect("read");
    assert_eq!((summary.points.len(), summary.open_epoch, summary.landed), (1, Epoch(2), DeltaNumber(1)));
    let text = serde_json::to_string(&summary).expect("plain values");
    assert!(text.contains("\"machine\":\"web-1\"") && !text.contains(&"09".repeat(32)));
    let mut kinds = Vec::new();
    now(view.records(|record| {
        kinds.push(serde_json::to_value(&record).expect("plain values")["kind"].clone());
        Ok(())
    }))
    .expect("read");
    assert_eq!(kinds, ["segment", "point", "batch", "landed"]);
}

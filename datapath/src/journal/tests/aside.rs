//! Looking at a journal leaves it as it was, whatever opening it takes.

use super::memory::Memory;
use super::random::Random;
use super::{FIRST, content, now, pair, point};
use crate::delta::Manifest;
use crate::journal::{Aside, Journal};
use crate::unit::{DeltaNumber, Digest, Epoch, Extent};

/// A journal of three points and an epoch in its middle, when the power fails.
fn crashed(random: &mut Random) -> Memory {
    let volume = Memory::default();
    let mut journal = now(Journal::create(volume.clone(), pair(300, 1 << 20))).expect("created");
    let digester = journal.pair().digester();
    for version in 1..=4 {
        let mut batch = journal.batch().expect("memory");
        batch.belongs_to(DeltaNumber(1));
        for chunk in (0..200).filter(|_| random.happens(50)) {
            let (old, new) = (content(chunk, version - 1, 4096), content(chunk, version, 4096));
            if version == 1 {
                batch.unkept(chunk, digester.digest(&new)).expect("room");
            } else {
                batch.keep(chunk, &old, digester.digest(&old), digester.digest(&new)).expect("room");
            }
        }
        now(journal.append(&mut batch)).expect("appended");
        if version < 4 {
            now(journal.flush()).expect("flushed");
            now(journal.landed(DeltaNumber(1), Manifest::EMPTY)).expect("landed");
            let point = point(&journal, version * 1000);
            now(journal.close_epoch(point)).expect("closed");
        }
    }
    drop(journal);
    volume.crash(random);
    volume
}

#[test]
fn what_is_looked_at_is_what_would_be_opened_and_stays_as_it_was() {
    let mut random = Random::new();
    for _ in 0..40 {
        let volume = crashed(&mut random);
        let before = volume.image();
        let (mut seen, _) = now(Journal::open(Aside::new(volume.clone()))).expect("looked at");
        let (opened, _) = now(Journal::open(volume.copy())).expect("opened");
        assert_eq!(seen.points().count(), opened.points().count());
        assert_eq!(seen.touched_chunks(), opened.touched_chunks());
        for epoch in [FIRST, Epoch(2), Epoch(3)] {
            let extent = Extent::between(0, 200 * 4096);
            let (mut one, mut other) = (vec![7; 200 * 4096], vec![7; 200 * 4096]);
            now(seen.overlay(epoch, extent, &mut one)).expect("read");
            now(opened.overlay(epoch, extent, &mut other)).expect("read");
            assert!(one == other, "point {epoch} is another");
        }
        // Even what goes on for itself stays in memory.
        let mut batch = seen.batch().expect("memory");
        batch
            .keep(250, &[1; 4096], seen.pair().digester().digest(&[1; 4096]), Digest([0; Digest::BYTES]))
            .expect("room");
        now(seen.append(&mut batch)).expect("appended");
        now(seen.flush()).expect("flushed");
        let next = point(&seen, 9000);
        now(seen.close_epoch(next)).expect("closed");
        let mut bytes = vec![0; 4096];
        now(seen.overlay(Epoch(3), Extent::between(250 * 4096, 251 * 4096), &mut bytes)).expect("read");
        assert!(bytes == [1; 4096]);
        assert!(volume.image() == before, "looking changed something");
    }
}

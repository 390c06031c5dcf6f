//! A disk, its points and a journal, changed at random; every point is then what
//! the disk was.

use std::collections::{BTreeMap, BTreeSet};

use super::memory::Memory;
use super::random::Random;
use super::{content, now, pair, point};
use crate::delta::Manifest;
use crate::journal::{Error, Journal, RetentionPolicy};
use crate::unit::{DeltaNumber, Epoch, Extent};

const CHUNKS: u64 = 150;
const SEGMENT: u32 = 256 << 10;

/// Versions of all chunks: 0 is zeroes.
type Image = Vec<u64>;

fn index(chunk: u64) -> usize {
    usize::try_from(chunk).expect("few")
}

struct World {
    random: Random,
    volume: Memory,
    journal: Journal<Memory>,
    disk: Image,
    points: BTreeMap<Epoch, Image>,
    /// Chunks written since the last point, and since the target was flushed.
    written: BTreeSet<u64>,
    unlanded: BTreeSet<u64>,
    /// Chunks whose digest a crash left open.
    unknown: BTreeSet<u64>,
    /// The same as of the newest point, which a rollback goes back to.
    unknown_at_point: BTreeSet<u64>,
    versions: u64,
    delta: u64,
    time_ms: u64,
}

impl World {
    fn new(random: Random) -> Self {
        let volume = Memory::spilling_at(20);
        let journal = now(Journal::create(volume.clone(), pair(CHUNKS, SEGMENT))).expect("created");
        Self {
            random,
            volume,
            journal,
            disk: vec![0; usize::try_from(CHUNKS).expect("few")],
            points: BTreeMap::new(),
            written: BTreeSet::new(),
            unlanded: BTreeSet::new(),
            unknown: (0..CHUNKS).collect(),
            unknown_at_point: BTreeSet::new(),
            versions: 0,
            delta: 0,
            time_ms: 1,
        }
    }

    fn bytes(&self, chunk: u64, version: u64) -> Vec<u8> {
        content(chunk, version, self.journal.pair().chunk_bytes(chunk))
    }

    fn write(&mut self, crash: bool) {
        let first = self.points.is_empty();
        self.delta += 1;
        let mut batch = self.journal.batch().expect("memory");
        batch.belongs_to(DeltaNumber(self.delta));
        let mut new = BTreeMap::new();
        let start = self.random.below(CHUNKS);
        for step in 0..1 + self.random.below(25) {
            let chunk =
                if self.random.happens(70) { (start + step) % CHUNKS } else { self.random.below(CHUNKS) };
            self.versions += 1;
            let version = if self.random.happens(15) { 0 } else { self.versions };
            let digester = self.journal.pair().digester();
            let digest = digester.digest(&self.bytes(chunk, version));
            let old = self.bytes(chunk, self.disk[index(chunk)]);
            if first {
                batch.unkept(chunk, digest).expect("room");
            } else if self.journal.touched(chunk) {
                batch.again(chunk, digest).expect("room");
            } else {
                batch.keep(chunk, &old, digester.digest(&old), digest).expect("room");
            }
            new.insert(chunk, version);
        }
        now(self.journal.append(&mut batch)).expect("appended");
        if crash && self.random.happens(40) {
            // The batch is not flushed, and so nothing was overwritten.
            return self.crash();
        }
        now(self.journal.flush()).expect("flushed");
        for (chunk, version) in new {
            if crash && self.random.happens(50) {
                continue;
            }
            self.disk[index(chunk)] = version;
            self.written.insert(chunk);
            self.unlanded.insert(chunk);
            self.unknown.remove(&chunk);
        }
        if crash {
            self.crash();
        }
    }

    fn crash(&mut self) {
        self.volume.crash(&mut self.random);
        self.reopen();
    }

    fn reopen(&mut self) {
        let (journal, recovery) = now(Journal::open(self.volume.clone())).expect("opened");
        self.journal = journal;
        for chunk in &self.unlanded {
            let chunk = u32::try_from(*chunk).expect("few");
            assert!(recovery.suspect.contains(chunk), "chunk {chunk} was overwritten and is not suspect");
        }
        assert!(recovery.landed.0 <= self.delta && !recovery.digests_lost);
        self.unknown.extend(recovery.suspect.iter().map(u64::from));
    }

    fn land(&mut self) {
        now(self.journal.landed(DeltaNumber(self.delta), Manifest::EMPTY)).expect("landed");
        self.unlanded.clear();
    }

    fn close(&mut self) {
        self.time_ms += 1000;
        let point = point(&self.journal, self.time_ms);
        let epoch = point.epoch;
        now(self.journal.close_epoch(point)).expect("closed");
        self.points.insert(epoch, self.disk.clone());
        self.unknown_at_point.clone_from(&self.unknown);
        self.delta = 0;
        self.written.clear();
        self.unlanded.clear();
        if self.random.happens(70) {
            while now(self.journal.merge()).expect("merged") {}
        }
    }

    /// What a landing does: the newest point again, then the journal forgets.
    fn roll_back(&mut self) {
        let Some((_, image)) = self.points.last_key_value() else {
            let refused = now(self.journal.roll_back());
            assert!(matches!(refused, Err(Error::OutOfTurn { .. })));
            return;
        };
        self.disk.clone_from(image);
        now(self.journal.roll_back()).expect("rolled back");
        self.unknown.extend(self.unknown_at_point.iter());
        self.unlanded.clear();
        self.written.clear();
        self.delta = 0;
    }

    fn expire(&mut self) {
        let keep = 1 + self.random.below(40);
        let policy = RetentionPolicy { keep_seconds: keep, ..RetentionPolicy::default() };
        let expired = self.journal.expire(&policy, Ok(self.time_ms)).expect("expired");
        for epoch in expired.points {
            self.points.remove(&epoch);
        }
        let listed: Vec<Epoch> = self.journal.points().map(|point| point.epoch).collect();
        let known: Vec<Epoch> = self.points.keys().copied().collect();
        assert_eq!(listed, known);
    }

    fn check(&mut self) {
        let size = self.journal.pair().size_bytes;
        let epochs: Vec<Epoch> = self.points.keys().copied().collect();
        for epoch in epochs {
            if !self.random.happens(30) {
                continue;
            }
            let mut bytes = self.image(&self.disk);
            now(self.journal.overlay(epoch, Extent::between(0, size), &mut bytes)).expect("looked up");
            let expected = self.image(&self.points[&epoch]);
            let wrong = bytes.chunks(4096).zip(expected.chunks(4096)).position(|(is, should)| is != should);
            assert_eq!(wrong, None, "first wrong chunk of point {epoch}");
            let changed = now(self.journal.chunks_since(epoch)).expect("counted");
            for chunk in 0..CHUNKS {
                let differs = self.disk[index(chunk)] != self.points[&epoch][index(chunk)];
                assert!(!differs || changed.contains(u32::try_from(chunk).expect("few")));
            }
        }
        let digests = now(self.journal.digests(0..CHUNKS)).expect("digests");
        for (chunk, digest) in (0..CHUNKS).zip(digests) {
            let right = self.journal.pair().digester().digest(&self.bytes(chunk, self.disk[index(chunk)]));
            match digest {
                Some(digest) => assert_eq!(digest, right, "chunk {chunk}"),
                None => assert!(self.unknown.contains(&chunk), "chunk {chunk} has no digest"),
            }
        }
    }

    fn image(&self, versions: &Image) -> Vec<u8> {
        (0..CHUNKS).zip(versions).flat_map(|(chunk, version)| self.bytes(chunk, *version)).collect()
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..45 => self.write(false),
            45..55 => self.land(),
            55..85 => self.close(),
            85..88 => self.roll_back(),
            88..92 => self.reopen(),
            92..94 => self.expire(),
            _ => self.write(true),
        }
    }
}

#[test]
fn every_point_is_what_the_disk_was() {
    let mut world = World::new(Random::new());
    for step in 0..1500 {
        world.step();
        if step % 40 == 0 {
            world.check();
        }
    }
    world.check();
}

#[test]
fn spilled_and_merged_three_times_over() {
    let mut world = World::new(Random::new());
    for epoch in 0..600 {
        world.write(false);
        world.close();
        if epoch % 100 == 99 {
            world.reopen();
            world.check();
        }
    }
    assert!(world.journal.shelf.merged.values().any(|table| table.header.rank == 2));
    let probes = world.journal.shelf.after(Epoch(3)).expect("a point").len();
    assert!(probes <= 60, "{probes} files");
    for _ in 0..40 {
        // One epoch in many small runs.
        world.write(false);
    }
    world.check();
    world.close();
    world.reopen();
    world.check();
}

//! Marks in ordinary memory: moved by the agent while others set them.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::unit::{ChunkSize, to_usize};

const CHUNKS: u64 = 200;

fn memory(geometry: Geometry) -> Vec<AtomicU64> {
    (0..geometry.pages().unwrap() * 512).map(|_| AtomicU64::new(0)).collect()
}

fn geometry(chunks: u64) -> Geometry {
    Geometry { size_bytes: chunks * 4096, chunk_size: ChunkSize::MIN }
}

#[test]
fn a_drain_stops_at_its_budget_and_goes_on_there() {
    let (geometry, mut set) = (geometry(CHUNKS), ChunkSet::empty(CHUNKS));
    let memory = memory(geometry);
    let marks = Marks::new(&memory, geometry).unwrap();
    marks.mark(0..u64::MAX);
    assert_eq!(marks.count(Bitmap::Dirty), CHUNKS);
    let next = marks.drain(Parity::Odd, 0, 65, &mut set);
    assert_eq!((next, set.len()), (2, 128));
    assert_eq!((marks.drain(Parity::Odd, next, u64::MAX, &mut set), set.len()), (0, CHUNKS));
    assert_eq!((marks.count(Bitmap::Dirty), marks.count(Bitmap::Odd)), (0, CHUNKS));
    assert_eq!(marks.restart().len(), CHUNKS);
    assert_eq!((marks.count(Bitmap::Dirty), marks.count(Bitmap::Odd)), (CHUNKS, 0));
    assert!(Marks::new(&memory[..600], geometry).is_none());
}

#[test]
fn nothing_is_lost_to_a_writer_that_marks_meanwhile() {
    let geometry = geometry(CHUNKS);
    let memory = memory(geometry);
    let marks = Marks::new(&memory, geometry).unwrap();
    let versions: Vec<AtomicU64> = (0..CHUNKS).map(|_| AtomicU64::new(0)).collect();
    let mut copied = vec![0; versions.len()];
    let finished = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (versions, finished) = (&versions, &finished);
            scope.spawn(move || {
                for round in 0..200_000_u64 {
                    let chunk = (round * 7 + writer * 3) % CHUNKS;
                    versions[to_usize(chunk)].fetch_add(1, SeqCst);
                    marks.mark(chunk..chunk + 1);
                }
                finished.fetch_add(1, SeqCst);
            });
        }
        let mut set = ChunkSet::empty(CHUNKS);
        let copy = |set: &mut ChunkSet, copied: &mut [u64]| {
            marks.drain(Parity::Even, 0, u64::MAX, set);
            set.iter().map(to_usize).for_each(|chunk| copied[chunk] = versions[chunk].load(SeqCst));
            set.clear();
        };
        while finished.load(SeqCst) < 2 {
            copy(&mut set, &mut copied);
        }
    });
    let mut set = ChunkSet::empty(CHUNKS);
    marks.drain(Parity::Even, 0, u64::MAX, &mut set);
    for (chunk, version) in versions.iter().enumerate() {
        assert!(
            set.contains(chunk as u64) || copied[chunk] == version.load(SeqCst),
            "chunk {chunk} was lost"
        );
    }
}

/// Sets a coarse bit as a program does.
fn mark_coarse(memory: &[AtomicU64], geometry: Geometry, level: usize, bit: usize) {
    memory[geometry.level(level).start + bit / 64].fetch_or(1 << (bit % 64), SeqCst);
}

#[test]
fn a_coarse_mark_is_one_of_every_chunk_below_it() {
    let chunks = 64 * 64 * 64 * 2 + 5;
    let geometry = geometry(chunks);
    for (level, covered) in [(1, 64), (2, 64 * 64), (3, 64 * 64 * 64)] {
        let memory = memory(geometry);
        let marks = Marks::new(&memory, geometry).unwrap();
        mark_coarse(&memory, geometry, level, 1);
        let mut set = ChunkSet::empty(chunks);
        assert_eq!(marks.drain(Parity::Odd, 0, u64::MAX, &mut set), 0);
        assert!(set.iter().eq(covered..2 * covered), "level {level}");
        assert_eq!((marks.count(Bitmap::Dirty), marks.count(Bitmap::Odd)), (0, covered));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Mark(u64),
    MarkWord(u64),
    Drain(bool, u64),
    GiveBack(u64),
    Confirm(bool),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..CHUNKS).prop_map(Step::Mark),
        1 => (0..CHUNKS / 64).prop_map(Step::MarkWord),
        2 => (any::<bool>(), 1_u64..80).prop_map(|(odd, budget)| Step::Drain(odd, budget)),
        1 => (0..CHUNKS).prop_map(Step::GiveBack),
        1 => any::<bool>().prop_map(Step::Confirm),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #[test]
    fn every_mark_stays_until_it_is_confirmed(steps in prop::collection::vec(step(), 0..120)) {
        let geometry = geometry(CHUNKS);
        let memory = memory(geometry);
        let marks = Marks::new(&memory, geometry).unwrap();
        let (mut dirty, mut transit) = (BTreeSet::new(), [BTreeSet::new(), BTreeSet::new()]);
        let parity = |odd: bool| Parity::ALL[usize::from(odd)];
        for step in steps {
            match step {
                Step::Mark(chunk) | Step::GiveBack(chunk) => {
                    marks.mark(chunk..chunk + 1);
                    dirty.insert(chunk);
                }
                Step::MarkWord(word) => {
                    mark_coarse(&memory, geometry, 1, to_usize(word));
                    dirty.extend(word * 64..word * 64 + 64);
                }
                Step::Drain(odd, budget) => {
                    let mut taken = ChunkSet::empty(CHUNKS);
                    marks.drain(parity(odd), 0, budget, &mut taken);
                    prop_assert!(taken.iter().all(|chunk| dirty.remove(&chunk)));
                    prop_assert!(taken.len() >= budget || dirty.is_empty());
                    transit[usize::from(odd)].extend(taken.iter());
                }
                Step::Confirm(odd) => {
                    marks.forget(parity(odd));
                    transit[usize::from(odd)].clear();
                }
                Step::Restart => {
                    let mut expected = std::mem::take(&mut transit[0]);
                    expected.append(&mut transit[1]);
                    prop_assert!(marks.restart().iter().eq(expected.iter().copied()));
                    dirty.append(&mut expected);
                }
            }
            prop_assert!(marks.copy(Bitmap::Dirty).iter().eq(dirty.iter().copied()));
            prop_assert!(marks.copy(Bitmap::Even).iter().eq(transit[0].iter().copied()));
            prop_assert!(marks.copy(Bitmap::Odd).iter().eq(transit[1].iter().copied()));
        }
    }
}

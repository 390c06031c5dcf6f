//! Shows that the judge sees what is wrong, and nothing where all is right.

use std::fs::File;

use super::history::{Clock, History, Leaves};
use super::judge::{Fault, Verdict, Window, judge};
use super::sector::{Content, Label, SECTOR_BYTES};
use super::writer::{Load, Way, Writer};
use crate::fixture::{Random, Scratch};

const RUN: u64 = 77;

fn label(write: u64, place: u64) -> [u8; SECTOR_BYTES] {
    let mut sector = [0; SECTOR_BYTES];
    Label { run: RUN, write, place, made_ns: 5 }.fill(&mut sector);
    sector
}

/// Four sectors: two writes of the first two one after the other, one of the
/// third, none of the last.
///
/// ```text
/// sectors 0, 1:  |10 --1-- 20|   |40 --2-- 50|
/// sector 2:                          |45 --3-- 60|
/// ```
fn history() -> History {
    let mut history = History::new(RUN, 4);
    for (sectors, submitted_ns, completed_ns) in [(0..2, 10, 20), (0..2, 40, 50), (2..3, 45, 60)] {
        let number = history.begin(sectors, Leaves::Labels, submitted_ns);
        history.end(number, completed_ns);
    }
    history
}

/// What each of the four sectors holds; 0 for zeroes.
fn image(writes: [u64; 4]) -> Vec<u8> {
    let sector = |(place, write): (u64, u64)| match write {
        0 => [0; SECTOR_BYTES],
        write => label(write, place),
    };
    (0..).zip(writes).flat_map(sector).collect()
}

fn judge_at(image: &[u8], from_ns: u64, to_ns: u64) -> Verdict {
    judge(&history(), image, Window { from_ns, to_ns })
}

fn faults(image: &[u8], from_ns: u64, to_ns: u64) -> Vec<(usize, Fault)> {
    judge_at(image, from_ns, to_ns).named
}

#[test]
fn a_sector_says_what_it_is() {
    let wanted = Label { run: 1, write: 2, place: 3, made_ns: 4 };
    let mut sector = [0; SECTOR_BYTES];
    assert_eq!(Content::of(&sector), Content::Zero);
    wanted.fill(&mut sector);
    assert_eq!(Content::of(&sector), Content::Label(wanted));
    for at in 0..SECTOR_BYTES {
        let mut damaged = sector;
        damaged[at] ^= 0x10;
        assert_eq!(Content::of(&damaged), Content::Torn, "byte {at}");
    }
}

#[test]
fn what_is_right_has_no_fault() {
    assert_eq!(faults(&image([0, 0, 0, 0]), 0, 9), []);
    assert_eq!(faults(&image([1, 1, 0, 0]), 25, 35), []);
    assert_eq!(faults(&image([2, 2, 3, 0]), 70, 80), []);
    // In flight: there or not, and sector by sector.
    for in_flight in [[1, 1, 0, 0], [2, 2, 3, 0], [1, 2, 0, 0], [2, 1, 3, 0]] {
        let verdict = judge_at(&image(in_flight), 47, 48);
        assert_eq!((verdict.faults, verdict.in_flight), (0, 3), "{in_flight:?}: {verdict}");
    }
    // A cut that was somewhere within a long window.
    assert_eq!(judge_at(&image([1, 1, 0, 0]), 0, 100).moments, [Window { from_ns: 10, to_ns: 50 }]);
}

#[test]
fn a_torn_sector_is_noticed() {
    let mut torn = image([2, 2, 3, 0]);
    let older = image([1, 1, 0, 0]);
    torn[700..1024].copy_from_slice(&older[700..1024]);
    assert_eq!(faults(&torn, 70, 80), [(1, Fault::Torn)]);
    let mut scribbled = image([2, 2, 3, 0]);
    scribbled[2000] = 1;
    assert_eq!(faults(&scribbled, 70, 80), [(3, Fault::Torn)]);
}

#[test]
fn a_stale_sector_is_noticed() {
    assert_eq!(faults(&image([2, 1, 3, 0]), 70, 80), [(1, Fault::Stale)]);
    assert_eq!(faults(&image([1, 1, 0, 0]), 51, 52), [(0, Fault::Stale), (1, Fault::Stale)]);
}

#[test]
fn a_lost_sector_is_noticed() {
    assert_eq!(faults(&image([2, 2, 0, 0]), 70, 80), [(2, Fault::Lost)]);
    assert_eq!(faults(&image([0, 1, 0, 0]), 25, 35), [(0, Fault::Lost)]);
}

#[test]
fn a_sector_of_after_the_cut_is_noticed() {
    assert_eq!(faults(&image([1, 2, 0, 0]), 25, 35), [(1, Fault::TooNew)]);
    assert_eq!(faults(&image([1, 1, 3, 0]), 25, 44), [(2, Fault::TooNew)]);
}

#[test]
fn a_sector_that_belongs_elsewhere_is_noticed() {
    let mut moved = image([2, 2, 3, 0]);
    moved[..SECTOR_BYTES].copy_from_slice(&label(2, 1));
    // A write that never touched the sector, one that never was, another run's.
    moved[3 * SECTOR_BYTES..].copy_from_slice(&label(3, 3));
    moved[SECTOR_BYTES..2 * SECTOR_BYTES].copy_from_slice(&label(9, 1));
    let mut other = [0; SECTOR_BYTES];
    Label { run: RUN + 1, write: 3, place: 2, made_ns: 5 }.fill(&mut other);
    moved[2 * SECTOR_BYTES..3 * SECTOR_BYTES].copy_from_slice(&other);
    let wrong: Vec<_> = (0..4).map(|sector| (sector, Fault::Foreign)).collect();
    assert_eq!(faults(&moved, 70, 80), wrong);
}

/// Each sector alone could be right in a cut that took long, and all together not.
#[test]
fn sectors_of_two_moments_are_noticed() {
    let mut history = History::new(RUN, 4);
    for (sectors, submitted_ns, completed_ns) in [(0..1, 10, 20), (1..2, 30, 40)] {
        let number = history.begin(sectors, Leaves::Labels, submitted_ns);
        history.end(number, completed_ns);
    }
    let window = Window { from_ns: 5, to_ns: 60 };
    // The later write is there and the earlier one is not.
    let verdict = judge(&history, &image([0, 2, 0, 0])[..], window);
    assert_eq!(verdict.named, [(1, Fault::Apart)]);
    assert_eq!(judge(&history, &image([1, 0, 0, 0])[..], window).faults, 0);
}

#[test]
fn zeroes_that_were_written_are_told_from_lost_ones() {
    let mut history = history();
    let zeroed = history.begin(0..1, Leaves::Zeroes, 80);
    history.end(zeroed, 90);
    let at = |image: &[u8], from_ns, to_ns| judge(&history, image, Window { from_ns, to_ns }).named;
    assert_eq!(at(&image([0, 2, 3, 0]), 95, 99), []);
    assert_eq!(at(&image([0, 2, 3, 0]), 70, 75), [(0, Fault::Lost)]);
    assert_eq!(at(&image([2, 2, 3, 0]), 95, 99), [(0, Fault::Stale)]);
    // Either of the two times of zeroes, and no other one, explains it.
    let verdict = judge(&history, &image([0, 0, 0, 0])[..], Window { from_ns: 0, to_ns: 19 });
    assert_eq!((verdict.faults, verdict.moments), (0, vec![Window { from_ns: 0, to_ns: 19 }]));
}

/// Zeroes over zeroes: many moments explain each sector, in one window.
#[test]
fn sectors_that_are_zeroed_again_and_again_are_explained_at_once() {
    const SECTORS: usize = 64;
    let mut history = History::new(RUN, SECTORS);
    for moment in (10..90).step_by(4) {
        let number = history.begin(0..SECTORS, Leaves::Zeroes, moment);
        history.end(number, moment + 3);
    }
    let number = history.begin(0..SECTORS, Leaves::Labels, 91);
    history.end(number, 95);
    let window = Window { from_ns: 5, to_ns: 99 };
    let verdict = judge(&history, &vec![0; SECTORS * SECTOR_BYTES][..], window);
    assert_eq!((verdict.faults, verdict.moments), (0, vec![Window { from_ns: 5, to_ns: 95 }]));
}

/// A disk in memory that lives through random writes, and is looked at.
#[test]
fn every_moment_of_a_random_life_is_right_and_a_change_is_seen() {
    const SECTORS: usize = 64;
    let mut random = Random::new();
    for _ in 0..200 {
        let (mut history, mut moment) = (History::new(RUN, SECTORS), 0);
        let mut disk = vec![0; SECTORS * SECTOR_BYTES];
        let mut looks = Vec::new();
        for _ in 0..30 {
            let begin = random.index_below(SECTORS);
            let sectors = begin..SECTORS.min(begin + 1 + random.index_below(16));
            let is_zero = random.happens(20);
            let leaves = if is_zero { Leaves::Zeroes } else { Leaves::Labels };
            moment += 2;
            let write = history.begin(sectors.clone(), leaves, moment);
            let look_at = random.index_below(sectors.len() + 1);
            for (count, place) in sectors.enumerate() {
                if count == look_at {
                    looks.push((disk.clone(), moment + 1));
                }
                let sector = if is_zero { [0; SECTOR_BYTES] } else { label(write, place as u64) };
                disk[place * SECTOR_BYTES..][..SECTOR_BYTES].copy_from_slice(&sector);
            }
            moment += 2;
            history.end(write, moment);
            moment += 2;
            looks.push((disk.clone(), moment));
        }
        for (image, at) in &looks {
            let window = Window { from_ns: *at, to_ns: *at };
            judge(&history, &image[..], window).expect_exact("a look at a disk in memory");
        }
        let (mut image, at) = looks.swap_remove(random.index_below(looks.len()));
        let place = random.index_below(image.len());
        image[place] ^= 1;
        let window = Window { from_ns: at, to_ns: at };
        assert_eq!(judge(&history, &image[..], window).faults, 1, "byte {place}");
    }
}

#[test]
fn what_a_writer_leaves_is_what_it_says() {
    let (scratch, mut random, clock) = (Scratch::new(), Random::new(), Clock::start());
    let bytes = (4 << 20) + 1536;
    let path = scratch.image("disk", bytes);
    let load = Load {
        way: Way::Buffered,
        threads: 3,
        burst: 20,
        pause: std::time::Duration::from_millis(2),
        zero_percent: 10,
        unit_sectors: 1,
    };
    let writer = Writer::start(&path, bytes, load, clock, &mut random);
    while writer.len() < 300 {
        std::thread::yield_now();
    }
    let history = writer.stop();
    let now_ns = clock.now_ns();
    let open = || File::open(&path).expect("it is there");
    let verdict = judge(&history, open(), Window { from_ns: now_ns, to_ns: now_ns });
    assert!(verdict.expect_exact("what was written").written > 300);
    let early =
        Window { from_ns: 0, to_ns: history.versions(0).next().expect("the first").write.submitted_ns };
    assert!(judge(&history, open(), early).faults > 300, "all of it is new");
}

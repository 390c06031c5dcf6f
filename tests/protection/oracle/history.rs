//! What was written, and when: kept in memory, beside the disk.

use std::ops::Range;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Moments in nanoseconds since 1970 that never go back.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    begun: Instant,
    begun_ns: u64,
}

impl Clock {
    pub fn start() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        Self { begun: Instant::now(), begun_ns: nanoseconds(now.as_nanos()) }
    }

    pub fn now_ns(&self) -> u64 {
        self.begun_ns + nanoseconds(self.begun.elapsed().as_nanos())
    }
}

fn nanoseconds(count: u128) -> u64 {
    u64::try_from(count).expect("a moment of this century")
}

/// What a write leaves in its sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    Labels,
    Zeroes,
}

/// One write. Two writes of one sector are never in flight together.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    pub leaves: Leaves,
    /// Before it was submitted.
    pub submitted_ns: u64,
    /// After it had completed; `u64::MAX` while it is in flight, or where it
    /// failed, for then either way is right.
    pub completed_ns: u64,
}

/// All writes to a disk that was zero before.
#[derive(Clone, Debug)]
pub struct History {
    pub run: u64,
    writes: Vec<Write>,
    /// For each sector the numbers of its writes, in order.
    sectors: Vec<Vec<u32>>,
}

impl History {
    pub fn new(run: u64, sectors: usize) -> Self {
        let nothing = Write { leaves: Leaves::Zeroes, submitted_ns: 0, completed_ns: 0 };
        // Write 0: the zeroes that were there.
        Self { run, writes: vec![nothing], sectors: vec![vec![0]; sectors] }
    }

    /// A write of `sectors` is about to be submitted; its number.
    pub fn begin(&mut self, sectors: Range<usize>, leaves: Leaves, now_ns: u64) -> u64 {
        let number = self.writes.len();
        self.writes.push(Write { leaves, submitted_ns: now_ns, completed_ns: u64::MAX });
        let short = u32::try_from(number).expect("fewer than 2^32 writes");
        self.sectors[sectors].iter_mut().for_each(|versions| versions.push(short));
        number as u64
    }

    /// Write `number` has completed.
    pub fn end(&mut self, number: u64, now_ns: u64) {
        self.writes[usize::try_from(number).expect("it was begun")].completed_ns = now_ns;
    }

    /// How many writes there are, the zeroes at the beginning left out.
    pub fn len(&self) -> usize {
        self.writes.len() - 1
    }

    pub fn sector_count(&self) -> usize {
        self.sectors.len()
    }

    /// The writes of a sector in order, each with its number and with the one
    /// that followed it.
    pub fn versions(&self, sector: usize) -> impl Iterator<Item = Version> + '_ {
        let numbers = &self.sectors[sector];
        numbers.iter().enumerate().map(|(at, number)| Version {
            number: u64::from(*number),
            write: self.writes[*number as usize],
            overwritten_ns: numbers
                .get(at + 1)
                .map_or(u64::MAX, |next| self.writes[*next as usize].completed_ns),
        })
    }
}

/// A write as one sector saw it.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    pub number: u64,
    pub write: Write,
    /// When the next write of the sector had completed.
    pub overwritten_ns: u64,
}

//! A sector that says what it is.

use std::hash::{DefaultHasher, Hasher};

use crate::fixture::Random;

pub const SECTOR_BYTES: usize = 512;

const MAGIC: [u8; 8] = *b"ORACLE-1";
/// Where the filler begins, behind magic and four numbers.
const FILLER: usize = 40;
/// Where the checksum of all before it lies.
const CHECKSUM: usize = SECTOR_BYTES - 8;

/// What a sector says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Whose it is: another writer's sectors are not taken for ours.
    pub run: u64,
    /// The number of the write.
    pub write: u64,
    /// The number of the sector on its disk.
    pub place: u64,
    /// When it was made.
    pub made_ns: u64,
}

/// What is found in a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Zero,
    Label(Label),
    /// Neither zero nor whole.
    Torn,
}

impl Label {
    /// Fills a sector.
    pub fn fill(&self, sector: &mut [u8]) {
        sector[..8].copy_from_slice(&MAGIC);
        let numbers = [self.run, self.write, self.place, self.made_ns];
        for (number, field) in numbers.iter().zip(sector[8..FILLER].chunks_mut(8)) {
            field.copy_from_slice(&number.to_le_bytes());
        }
        Random::with_seed(self.run ^ self.write << 20 ^ self.place).fill(&mut sector[FILLER..CHECKSUM]);
        let checksum = checksum(sector);
        sector[CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
    }
}

impl Content {
    pub fn of(sector: &[u8]) -> Self {
        if sector.iter().all(|byte| *byte == 0) {
            return Self::Zero;
        }
        let number = |at: usize| u64::from_le_bytes(sector[at..at + 8].try_into().expect("eight bytes"));
        if sector[..8] != MAGIC || number(CHECKSUM) != checksum(sector) {
            return Self::Torn;
        }
        Self::Label(Label { run: number(8), write: number(16), place: number(24), made_ns: number(32) })
    }
}

fn checksum(sector: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&sector[..CHECKSUM]);
    hasher.finish()
}

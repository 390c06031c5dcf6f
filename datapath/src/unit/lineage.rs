//! Which state of a disk a byte belongs to: generations, epochs, deltas, and the
//! chain that ties them together.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The identity of the state that a target holds. Every delta names the one it
/// applies to, so that none lands on a wrong base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation {
    /// Chosen at random when the target was first protected.
    pub incarnation: u64,
    /// Grows by one whenever the target's history forks: a rewind that was
    /// committed, an epoch that was rolled back.
    pub number: u64,
}

impl Generation {
    /// The generation after a fork of history.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { number: self.number.saturating_add(1), ..self }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}", self.incarnation, self.number)
    }
}

/// All deltas between two cuts, from 1 on. A number is never used again within
/// an incarnation, not even after a rewind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The first.
    pub const FIRST: Self = Self(1);

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a delta in its epoch, from 1 on; 0 stands before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeltaNumber(pub u64);

impl DeltaNumber {
    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for DeltaNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A cut through several disks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MachineCut {
    /// Chosen at random.
    pub number: u64,
    /// Disks that have it. It is a point of the machine once all of them do.
    pub disks: u32,
}

impl MachineCut {
    /// Its number as people see it.
    #[must_use]
    pub fn name(self) -> String {
        format!("{:016x}", self.number)
    }

    /// The number that is called `name`.
    #[must_use]
    pub fn number_of(name: &str) -> Option<u64> {
        let is_plain = name.len() == 16 && name.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_plain.then(|| u64::from_str_radix(name, 16).ok()).flatten()
    }
}

/// The head of the chain of manifests: a hash over everything that ever became
/// part of a point, up to that point.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Chain(pub [u8; Self::BYTES]);

impl Chain {
    /// Size in records and on the wire.
    pub const BYTES: usize = 32;
    /// The chain before the first synchronization.
    pub const START: Self = Self([0; Self::BYTES]);
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

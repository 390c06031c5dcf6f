//! The name of a pair: a machine, and one of its disks.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Remediable, Remedy};

/// A part of a name in bytes: it names a folder.
const PART_BYTES_MAX: usize = 200;

/// Which pair: `MACHINE/DISK`, which is also where its journal lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PairName {
    machine: String,
    disk: String,
}

/// A name that no pair has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}: a pair is called MACHINE/DISK, each without `/`, control characters or a dot in front")]
pub struct NoPairName(String);

impl Remediable for NoPairName {
    fn remedy(&self) -> Remedy {
        Remedy::Refused
    }
}

impl PairName {
    /// Disk `disk` of machine `machine`.
    ///
    /// # Errors
    /// Where a part of it could not name a folder.
    pub fn new(machine: &str, disk: &str) -> Result<Self, NoPairName> {
        let fits = |part: &str| {
            !part.is_empty()
                && part.len() <= PART_BYTES_MAX
                && !part.starts_with('.')
                && !part.contains(|letter: char| letter == '/' || letter.is_control())
        };
        if fits(machine) && fits(disk) {
            Ok(Self { machine: machine.to_owned(), disk: disk.to_owned() })
        } else {
            Err(NoPairName(format!("{machine}/{disk}")))
        }
    }

    /// The machine.
    #[must_use]
    pub fn machine(&self) -> &str {
        &self.machine
    }

    /// Its disk.
    #[must_use]
    pub fn disk(&self) -> &str {
        &self.disk
    }

    /// Where its journal lies in a retention directory.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        PathBuf::from(&self.machine).join(&self.disk)
    }
}

impl fmt::Display for PairName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.machine, self.disk)
    }
}

impl FromStr for PairName {
    type Err = NoPairName;

    fn from_str(text: &str) -> Result<Self, NoPairName> {
        let (machine, disk) = text.split_once('/').ok_or_else(|| NoPairName(text.to_owned()))?;
        Self::new(machine, disk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_two_folders() {
        let name: PairName = "web-1/root".parse().unwrap();
        assert_eq!(
            (name.machine(), name.disk(), name.to_string()),
            ("web-1", "root", "web-1/root".to_owned())
        );
        assert_eq!(name.folder(), PathBuf::from("web-1/root"));
        for wrong in ["", "web-1", "/", "web-1/", "/root", "../root", "web-1/..", "a/b/c", "a/\n", ".a/b"] {
            assert!(wrong.parse::<PairName>().is_err(), "{wrong:?}");
        }
        assert!(PairName::new(&"a".repeat(201), "b").is_err());
    }
}

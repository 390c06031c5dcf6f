//! The record of a freeze, looked at: nothing is undone by it.

use std::path::Path;

use serde::Serialize;

use super::Error;
use super::record::{Record, State};
use super::recover::boot_id;
use crate::disk::storage::Host;

/// What the record in a folder tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FreezeLook {
    /// Process number of the watchdog that wrote it.
    pub watchdog: u32,
    /// Whether that process lives.
    pub is_watched: bool,
    /// Whether it was written since this boot; no freeze outlives a boot.
    pub is_of_this_boot: bool,
    /// Whether nothing is left to undo.
    pub is_settled: bool,
    /// Device numbers of filesystems, top first, and what became of each.
    pub filesystems: Vec<(String, &'static str)>,
}

impl FreezeLook {
    /// Reads the record in `folder`; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Record`] and [`Error::RecordDamaged`]; [`Error::Storage`] where this
    /// boot cannot be told.
    pub fn at(folder: &Path) -> Result<Option<Self>, Error> {
        let Some(record) = Record::read(folder)? else { return Ok(None) };
        let filesystems = record.filesystems.iter();
        Ok(Some(Self {
            watchdog: record.watchdog.identifier,
            is_watched: record.watchdog.is_alive(),
            is_of_this_boot: record.boot_id == boot_id(&Host::here())?,
            is_settled: record.is_settled(),
            filesystems: filesystems.map(|(number, state)| (number.to_string(), name(*state))).collect(),
        }))
    }
}

const fn name(state: State) -> &'static str {
    match state {
        State::Untouched => "untouched",
        State::Freezing => "freezing",
        State::Frozen => "frozen",
        State::Released => "released",
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Process;
    use super::*;
    use crate::disk::storage::DeviceNumber;

    #[test]
    fn a_record_is_told_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(FreezeLook::at(folder.path()).expect("none is fine"), None);
        let number = DeviceNumber { major: 7, minor: 3 };
        let record = Record {
            boot_id: [0; 16],
            watchdog: Process { identifier: u32::MAX, started: 1 },
            filesystems: vec![(number, State::Frozen)],
        };
        record.create(folder.path()).expect("a record");
        let look = FreezeLook::at(folder.path()).expect("it is whole").expect("it is there");
        assert_eq!(look.filesystems, [("7:3".to_owned(), "frozen")]);
        assert!(!look.is_watched && !look.is_of_this_boot && !look.is_settled);
        std::fs::write(Record::path(folder.path()), "fbfrozen").expect("a file");
        assert!(matches!(FreezeLook::at(folder.path()), Err(Error::RecordDamaged { .. })));
    }
}

//! The record of a freeze: what a restarted agent must undo.
//!
//! A file in a folder of its own that lies in memory (`/run`), never on what is
//! frozen. It is written whole before anything is frozen; from then on only the
//! watchdog changes it, one byte at a time, so that it is right whenever a
//! process dies. It need not outlive the kernel: neither does a freeze.
//!
//! Little-endian, for `n` filesystems:
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | `fbfrozen` |
//! | 8 | 4 | version: 1 |
//! | 12 | 4 | `n`, at most [`limits::SUPERBLOCKS_MAX`] |
//! | 16 | 16 | the boot id |
//! | 32 | 4 | the watchdog's process number |
//! | 36 | 4 | 0 |
//! | 40 | 8 | when that process started, in clock ticks since boot |
//! | 48 | 8 | xxh3-64 of the bytes 0..48 and 56..56+8`n` |
//! | 56 | 8`n` | each filesystem's number: major, minor |
//! | 56+8`n` | `n` | each filesystem's [`State`], the only bytes that change |

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::Error;
use crate::disk::storage::DeviceNumber;
use crate::limits;
use crate::unit::to_u64;

const MAGIC: &[u8; 8] = b"fbfrozen";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 56;
const CHECKED_HEAD_BYTES: usize = 48;
const NUMBER_BYTES: usize = 8;

/// Where the record lies in its folder.
const FILE_NAME: &str = "freeze-record";

/// What became of one filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not touched yet.
    Untouched = 0,
    /// About to be frozen by us, or just frozen.
    Freezing = 1,
    /// Frozen by us.
    Frozen = 2,
    /// Thawed again, or never frozen by us.
    Released = 3,
}

impl State {
    fn of(byte: u8) -> Option<Self> {
        [Self::Untouched, Self::Freezing, Self::Frozen, Self::Released]
            .into_iter()
            .find(|state| *state as u8 == byte)
    }

    /// Whether there may be a freeze to undo.
    pub(super) fn is_outstanding(self) -> bool {
        matches!(self, Self::Freezing | Self::Frozen)
    }
}

/// A process, told from later ones with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) identifier: u32,
    /// In clock ticks since boot.
    pub(super) started: u64,
}

impl Process {
    /// The process that has this number now.
    pub(super) fn now(identifier: u32) -> Option<Self> {
        let line = fs::read_to_string(format!("/proc/{identifier}/stat")).ok()?;
        let after_name = line.rsplit_once(") ")?.1;
        let mut fields = after_name.split(' ');
        // A zombie is as good as gone.
        let is_alive = !matches!(fields.next()?, "Z" | "X");
        let started = fields.nth(18)?.parse().ok()?;
        is_alive.then_some(Self { identifier, started })
    }

    pub(super) fn is_alive(self) -> bool {
        Self::now(self.identifier) == Some(self)
    }
}

/// A record as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) boot_id: [u8; 16],
    pub(super) watchdog: Process,
    pub(super) filesystems: Vec<(DeviceNumber, State)>,
}

impl Record {
    pub(super) fn path(folder: &Path) -> PathBuf {
        folder.join(FILE_NAME)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.filesystems.len() * (NUMBER_BYTES + 1));
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(u32::try_from(self.filesystems.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(self.boot_id);
        bytes.extend(self.watchdog.identifier.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.watchdog.started.to_le_bytes());
        bytes.extend([0; 8]);
        for (number, _) in &self.filesystems {
            bytes.extend(number.major.to_le_bytes());
            bytes.extend(number.minor.to_le_bytes());
        }
        let sum = checksum(&bytes);
        bytes[CHECKED_HEAD_BYTES..HEAD_BYTES].copy_from_slice(&sum.to_le_bytes());
        bytes.extend(self.filesystems.iter().map(|(_, state)| *state as u8));
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES).ok_or("it is too short")?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if &head[..8] != MAGIC {
            return Err("it does not begin with fbfrozen");
        }
        if word(8) != VERSION {
            return Err("it has a version that this failback does not know");
        }
        let count = usize::try_from(word(12)).unwrap_or(usize::MAX);
        if count > limits::SUPERBLOCKS_MAX || rest.len() != count * (NUMBER_BYTES + 1) {
            return Err("its length is not what it says");
        }
        let (numbers, states) = rest.split_at(count * NUMBER_BYTES);
        if checksum(&bytes[..HEAD_BYTES + numbers.len()]) != long(CHECKED_HEAD_BYTES) {
            return Err("its checksum is wrong");
        }
        let mut boot_id = [0; 16];
        boot_id.copy_from_slice(&head[16..32]);
        let numbers = numbers.as_chunks::<8>().0.iter().map(|[a, b, c, d, e, f, g, h]| DeviceNumber {
            major: u32::from_le_bytes([*a, *b, *c, *d]),
            minor: u32::from_le_bytes([*e, *f, *g, *h]),
        });
        let states = states.iter().map(|state| State::of(*state).ok_or("it has a state that does not exist"));
        let filesystems = numbers
            .zip(states)
            .map(|(number, state)| state.map(|state| (number, state)))
            .collect::<Result<_, _>>()?;
        Ok(Self { boot_id, watchdog: Process { identifier: word(32), started: long(40) }, filesystems })
    }

    /// Whether nothing is left to undo.
    pub(super) fn is_settled(&self) -> bool {
        !self.filesystems.iter().any(|(_, state)| state.is_outstanding())
    }

    /// Refuses a folder whose record tells of a freeze that was not undone.
    pub(super) fn check_settled(folder: &Path) -> Result<(), Error> {
        match Self::read(folder)? {
            Some(record) if !record.is_settled() => Err(Error::RecordExists { path: Self::path(folder) }),
            _ => Ok(()),
        }
    }

    /// Writes the record, all or nothing, in place of one that is settled.
    pub(super) fn create(&self, folder: &Path) -> Result<Marks, Error> {
        Self::check_settled(folder)?;
        let path = Self::path(folder);
        let beside = folder.join(format!("{FILE_NAME}.new"));
        let failed = |source: io::Error| Error::Record { path: beside.clone(), source };
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true).mode(0o600);
        let mut file = options.open(&beside).map_err(failed)?;
        file.write_all(&self.encode()).and_then(|()| fs::rename(&beside, &path)).map_err(failed)?;
        Ok(Marks { file, begin: marks_begin(self.filesystems.len()) })
    }

    /// The record of a folder; `None` where there is none.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let path = Self::path(folder);
        let mut bytes = Vec::new();
        let most = to_u64(HEAD_BYTES + limits::SUPERBLOCKS_MAX * (NUMBER_BYTES + 1) + 1);
        match File::open(&path).and_then(|file| file.take(most).read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Record { path, source }),
        }
        Self::decode(&bytes).map(Some).map_err(|what| Error::RecordDamaged { path, what })
    }

    pub(super) fn remove(folder: &Path) -> Result<(), Error> {
        let path = Self::path(folder);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Record { path, source }),
            _ => Ok(()),
        }
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = Xxh3::new();
    sum.update(&bytes[..CHECKED_HEAD_BYTES]);
    sum.update(&bytes[HEAD_BYTES..]);
    sum.digest()
}

fn marks_begin(count: usize) -> u64 {
    to_u64(HEAD_BYTES + count * NUMBER_BYTES)
}

/// The changing bytes of a record.
#[derive(Debug)]
pub(super) struct Marks {
    pub(super) file: File,
    begin: u64,
}

impl Marks {
    /// Those of a record of `count` filesystems.
    pub(super) fn of(file: File, count: usize) -> Self {
        Self { file, begin: marks_begin(count) }
    }

    /// Notes what becomes of a filesystem. The file lies in memory; should the
    /// note fail nevertheless, the freeze goes on, and only a crash within it
    /// would find an older note.
    pub(super) fn set(&self, index: usize, state: State) {
        let _noted = self.file.write_at(&[state as u8], self.begin + to_u64(index));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use super::*;

    fn record() -> Record {
        let device = |minor| DeviceNumber { major: 7, minor };
        Record {
            boot_id: *b"0123456789abcdef",
            watchdog: Process { identifier: 4711, started: 0x0102_0304_0506 },
            filesystems: vec![(device(3), State::Frozen), (device(300), State::Freezing)],
        }
    }

    #[test]
    fn the_bytes_are_these() {
        let golden = "6662 66726f7a656e 01000000 02000000 30313233343536373839616263646566 \
            67120000 00000000 0605040302010000 SUM 0700000003000000 070000002c010000 0201";
        let bytes = record().encode();
        let sum = data_encoding::HEXLOWER.encode(&bytes[48..56]);
        let text = golden.replace("SUM", &sum).replace(' ', "");
        assert_eq!(data_encoding::HEXLOWER.encode(&bytes), text);
        assert_eq!(sum, "d6ef5b5404607829");
        assert_eq!(Record::decode(&bytes), Ok(record()));
    }

    #[test]
    fn damage_is_told_and_states_may_change() {
        let bytes = record().encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            assert!(Record::decode(&damaged).is_err(), "byte {at}");
            assert!(Record::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
        let mut changed = bytes;
        *changed.last_mut().unwrap() = State::Released as u8;
        assert_eq!(Record::decode(&changed).unwrap().filesystems[1].1, State::Released);
    }

    #[test]
    fn a_record_is_marked_in_place_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Record::read(folder.path()).unwrap().is_none());
        let marks = record().create(folder.path()).unwrap();
        assert!(matches!(record().create(folder.path()), Err(Error::RecordExists { .. })));
        marks.set(0, State::Released);
        Marks::of(marks.file, 2).set(1, State::Frozen);
        let read = Record::read(folder.path()).unwrap().unwrap();
        assert_eq!(
            read.filesystems.iter().map(|(_, state)| *state).collect::<Vec<_>>(),
            [State::Released, State::Frozen]
        );
        Record::remove(folder.path()).unwrap();
        Record::remove(folder.path()).unwrap();
    }

    #[test]
    fn a_process_is_told_from_a_later_one() {
        let own = Process::now(std::process::id()).unwrap();
        assert!(own.is_alive());
        assert!(!Process { started: own.started + 1, ..own }.is_alive());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::now(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.is_alive());
    }
}

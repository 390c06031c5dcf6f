//! A disk and a directory in memory, as the running program sees them.
//!
//! Reads see every write that has taken effect, flushed or not. What a power cut
//! leaves of it is made from the [`Tape`], by [`super::cut`].

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use failback_datapath::limits;

use super::tape::{DISK, Event, Inode, Tape};
use crate::fixture::Random;

/// What a storage claims without doing it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lies {
    /// Flushes of the journal's segments do nothing: before-images and points.
    pub segment_flush: bool,
    /// Flushes of the journal's other files do nothing.
    pub file_flush: bool,
    /// Flushes of the disk do nothing.
    pub disk_flush: bool,
    /// Flushes of the directory do nothing.
    pub directory_flush: bool,
}

/// After how many operations of a kind one fails; `None`: never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub disk_reads: Option<u64>,
    pub disk_writes: Option<u64>,
    pub disk_flushes: Option<u64>,
    pub journal_writes: Option<u64>,
    pub journal_flushes: Option<u64>,
}

/// Counts down; true once, when it is out.
pub fn strikes(countdown: &mut Option<u64>) -> bool {
    match countdown {
        Some(0) => {
            *countdown = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

/// The storage of one run.
pub struct World {
    pub contents: Vec<Rc<Vec<u8>>>,
    pub names: BTreeMap<String, Inode>,
    pub lies: Lies,
    pub faults: Faults,
    /// Bytes that all files together may have.
    pub capacity: u64,
    /// Entries of an open epoch that are kept in memory.
    pub open_entries_max: usize,
    /// `None`: nothing is recorded.
    tape: Option<Tape>,
    writes: usize,
    /// Writes of each inode that have completed and were not flushed yet.
    completed: Vec<Vec<usize>>,
    random: Random,
}

/// The storage, shared by its disk, its directory and its files.
pub type Shared = Rc<RefCell<World>>;

impl World {
    /// A world of a zeroed disk and an empty directory.
    pub fn new(disk_bytes: usize, seed: u64) -> Self {
        Self::of(vec![Rc::new(vec![0; disk_bytes])], BTreeMap::new(), seed)
    }

    /// A world of what a power cut left: the disk is the first of `contents`.
    pub fn of(contents: Vec<Rc<Vec<u8>>>, names: BTreeMap<String, Inode>, seed: u64) -> Self {
        let completed = vec![Vec::new(); contents.len()];
        Self {
            contents,
            names,
            lies: Lies::default(),
            faults: Faults::default(),
            capacity: u64::MAX,
            open_entries_max: limits::OPEN_ENTRIES_MAX,
            tape: None,
            writes: 0,
            completed,
            random: Random::with_seed(seed),
        }
    }

    /// Records from now on.
    pub fn record(&mut self) {
        self.tape = Some(Tape::default());
    }

    /// Ends the recording.
    pub fn take_tape(&mut self) -> Tape {
        self.tape.take().unwrap_or_default()
    }

    /// The disk's bytes as a reader sees them.
    pub fn disk(&self) -> &[u8] {
        &self.contents[DISK]
    }

    /// The workload did, or was told, something.
    pub fn milestone(&mut self, number: usize) {
        self.log(|| Event::Milestone(number));
    }

    /// How often whoever waits for this operation lets others run meanwhile.
    pub fn delay(&mut self) -> u64 {
        self.random.below(4)
    }

    /// What the files occupy.
    pub fn used_bytes(&self) -> u64 {
        self.names.values().map(|inode| self.contents[*inode].len() as u64).sum()
    }

    pub fn create(&mut self, name: &str, size: usize) -> io::Result<Inode> {
        if self.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if self.used_bytes() + size as u64 > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = self.contents.len();
        self.contents.push(Rc::new(vec![0; size]));
        self.completed.push(Vec::new());
        self.names.insert(name.to_owned(), inode);
        self.log(|| Event::Created { name: name.to_owned(), inode, size });
        Ok(inode)
    }

    pub fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let inode = self.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.names.insert(to.to_owned(), inode);
        self.log(|| Event::Renamed { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    pub fn remove(&mut self, name: &str) -> io::Result<()> {
        self.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        self.log(|| Event::Removed { name: name.to_owned() });
        Ok(())
    }

    pub fn flush_directory(&mut self) {
        if !self.lies.directory_flush {
            self.log(|| Event::DirectoryFlushed);
        }
    }

    /// A write begins; it takes effect with [`Self::complete`].
    pub fn submit(&mut self, inode: Inode, position: usize, bytes: &Rc<[u8]>) -> usize {
        self.writes += 1;
        let write = self.writes;
        let end = position + bytes.len();
        if end > self.contents[inode].len() {
            Rc::make_mut(&mut self.contents[inode]).resize(end, 0);
            self.log(|| Event::Grown { inode, size: end });
        }
        self.log(|| Event::Submitted { inode, position, bytes: Rc::clone(bytes), write });
        write
    }

    pub fn complete(&mut self, inode: Inode, position: usize, bytes: &[u8], write: usize) {
        Rc::make_mut(&mut self.contents[inode])[position..position + bytes.len()].copy_from_slice(bytes);
        if self.tape.is_some() {
            self.completed[inode].push(write);
        }
    }

    /// A flush begins: the writes, sorted, and the size that it will cover.
    pub fn begin_flush(&mut self, inode: Inode) -> (Rc<[usize]>, usize) {
        let mut covered = std::mem::take(&mut self.completed[inode]);
        covered.sort_unstable();
        (covered.into(), self.contents[inode].len())
    }

    pub fn end_flush(&mut self, inode: Inode, (covered, size): (Rc<[usize]>, usize)) {
        let is_segment = |(name, at): (&String, &Inode)| *at == inode && name.starts_with("segment-");
        let lie = match inode {
            DISK => self.lies.disk_flush,
            _ if self.names.iter().any(is_segment) => self.lies.segment_flush,
            _ => self.lies.file_flush,
        };
        if !lie {
            self.log(|| Event::Flushed { inode, covered, size });
        }
    }

    fn log(&mut self, event: impl FnOnce() -> Event) {
        if let Some(tape) = &mut self.tape {
            tape.events.push(event());
        }
    }
}

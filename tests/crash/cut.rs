//! Power cuts: what a storage may hold when it comes back.
//!
//! ```text
//!  durable ── everything that a flush covered
//!          ── of each other write: nothing, all, or some of its 512-byte sectors
//!          ── of each other size: what was flushed, what it is, or between
//!          ── of the names: all up to the last flush of the directory, and of
//!             what came after it the first so many (ext4 and xfs log names in order)
//! ```

use std::collections::BTreeMap;
use std::rc::Rc;

use super::tape::{DISK, Event, Inode, Tape};
use super::world::World;
use crate::fixture::Random;

/// A disk tears a write between its sectors, never inside one.
const SECTOR_BYTES: usize = 512;
/// A filesystem grows a file by its blocks.
const BLOCK_BYTES: usize = 4096;

/// The storage at a moment of a recorded run: what is sure, and what is not.
#[derive(Clone)]
pub struct Moment {
    files: Vec<File>,
    names: BTreeMap<String, Inode>,
    /// Changes of names that no flush of the directory covers.
    loose: Vec<Event>,
    /// Milestones that have passed.
    pub milestones: usize,
}

#[derive(Clone)]
struct File {
    durable: Rc<Vec<u8>>,
    /// As its readers see it.
    size: usize,
    pending: Vec<Pending>,
}

#[derive(Clone)]
struct Pending {
    write: usize,
    position: usize,
    bytes: Rc<[u8]>,
}

impl Moment {
    /// The beginning of a run that started from `contents` and `names`, durable.
    pub fn new(contents: &[Rc<Vec<u8>>], names: &BTreeMap<String, Inode>) -> Self {
        let file =
            |bytes: &Rc<Vec<u8>>| File { durable: Rc::clone(bytes), size: bytes.len(), pending: Vec::new() };
        Self {
            files: contents.iter().map(file).collect(),
            names: names.clone(),
            loose: Vec::new(),
            milestones: 0,
        }
    }

    /// The moment after `event`.
    pub fn advance(&mut self, event: &Event) {
        match event {
            Event::Submitted { inode, position, bytes, write } => {
                let pending = Pending { write: *write, position: *position, bytes: Rc::clone(bytes) };
                self.files[*inode].pending.push(pending);
            }
            Event::Flushed { inode, covered, size } => self.files[*inode].settle(covered, *size),
            Event::Created { inode, size, .. } => {
                assert_eq!(*inode, self.files.len(), "files are numbered as they are made");
                self.files.push(File { durable: Rc::default(), size: *size, pending: Vec::new() });
                self.loose.push(event.clone());
            }
            Event::Grown { inode, size } => self.files[*inode].size = *size,
            Event::Renamed { .. } | Event::Removed { .. } => self.loose.push(event.clone()),
            Event::DirectoryFlushed => {
                for change in self.loose.drain(..) {
                    rename(&mut self.names, &change);
                }
            }
            Event::Milestone(number) => self.milestones = *number,
        }
    }

    /// What a power cut now may leave. The extremes, where all or nothing of
    /// what is not sure is there, come up often.
    pub fn cut(&self, seed: u64) -> World {
        let mut random = Random::with_seed(seed);
        let chance = match random.below(6) {
            0 => 0,
            1 => 100,
            _ => random.below(101),
        };
        let mut names = self.names.clone();
        let kept = match random.below(3) {
            0 => self.loose.len(),
            _ => random.index_below(self.loose.len() + 1),
        };
        for change in &self.loose[..kept] {
            rename(&mut names, change);
        }
        // A file without a name is gone, but keeps its number.
        let named: std::collections::BTreeSet<_> = names.values().copied().chain([DISK]).collect();
        let survive = |(inode, file): (Inode, &File)| match named.contains(&inode) {
            true => file.cut(chance, &mut random),
            false => Rc::default(),
        };
        let contents = self.files.iter().enumerate().map(survive).collect();
        World::of(contents, names, seed)
    }
}

impl File {
    fn settle(&mut self, covered: &[usize], size: usize) {
        let durable = Rc::make_mut(&mut self.durable);
        if durable.len() < size {
            durable.resize(size, 0);
        }
        self.pending.retain(|pending| {
            let is_covered = covered.binary_search(&pending.write).is_ok();
            if is_covered {
                let end = pending.position + pending.bytes.len();
                durable[pending.position..end].copy_from_slice(&pending.bytes);
            }
            !is_covered
        });
    }

    fn cut(&self, chance: u64, random: &mut Random) -> Rc<Vec<u8>> {
        let mut bytes = Rc::clone(&self.durable);
        if self.size > bytes.len() {
            let size = match random.below(3) {
                0 => bytes.len(),
                1 => self.size,
                _ => {
                    let blocks = (self.size - bytes.len()).div_ceil(BLOCK_BYTES);
                    self.size.min(bytes.len() + random.index_below(blocks + 1) * BLOCK_BYTES)
                }
            };
            Rc::make_mut(&mut bytes).resize(size, 0);
        }
        for pending in &self.pending {
            if random.happens(chance) {
                let torn = random.happens(30);
                pending.apply(
                    Rc::make_mut(&mut bytes).as_mut_slice(),
                    |random| !torn || random.happens(50),
                    random,
                );
            }
        }
        bytes
    }
}

impl Pending {
    /// Puts those sectors in place that `keep` chooses, as far as the file reaches.
    fn apply(&self, bytes: &mut [u8], keep: impl Fn(&mut Random) -> bool, random: &mut Random) {
        let mut at = self.position;
        let end = self.position + self.bytes.len();
        while at < end {
            let next = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
            let next = next.min(end);
            if keep(random)
                && let Some(place) = bytes.get_mut(at..next)
            {
                place.copy_from_slice(&self.bytes[at - self.position..next - self.position]);
            }
            at = next;
        }
    }
}

fn rename(names: &mut BTreeMap<String, Inode>, change: &Event) {
    match change {
        Event::Created { name, inode, .. } => drop(names.insert(name.clone(), *inode)),
        Event::Renamed { from, to } => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        Event::Removed { name } => drop(names.remove(name)),
        _ => {}
    }
}

/// Walks a tape, and calls `visit` with the moment after as many events as each
/// of `stops` says, which ascend. Ends with the first error of it.
pub fn walk<E>(
    mut moment: Moment,
    tape: &Tape,
    stops: &[usize],
    mut visit: impl FnMut(usize, &Moment) -> Result<(), E>,
) -> Result<(), E> {
    let mut stops = stops.iter().copied().peekable();
    for passed in 0..=tape.events.len() {
        while stops.next_if_eq(&passed).is_some() {
            visit(passed, &moment)?;
        }
        if let Some(event) = tape.events.get(passed) {
            moment.advance(event);
        }
    }
    Ok(())
}

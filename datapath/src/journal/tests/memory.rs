//! A volume in memory that forgets what was not flushed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::rc::Rc;

use super::random::Random;
use crate::journal::{Volume, VolumeFile};
use crate::limits;
use crate::sys::Buffer;

const SECTOR: usize = 512;

#[derive(Clone, Default)]
pub struct Memory {
    world: Rc<RefCell<World>>,
}

#[derive(Default)]
struct World {
    files: BTreeMap<u64, Bytes>,
    names: BTreeMap<String, u64>,
    /// What the directory was after each change since it was last flushed.
    histories: Vec<BTreeMap<String, u64>>,
    made: u64,
    room: Option<u64>,
    /// Entries of an open epoch in memory, where not as many as may be.
    spills_at: Option<usize>,
    pub flushes: u64,
    pub reads: u64,
    pub writes: u64,
}

#[derive(Clone, Default)]
struct Bytes {
    now: Vec<u8>,
    /// Sectors written since the last flush, as they were before.
    unflushed: Vec<(usize, Vec<u8>)>,
}

pub struct MemoryFile {
    world: Rc<RefCell<World>>,
    id: u64,
}

impl Memory {
    /// One to which open epochs are spilled with so many entries in memory.
    pub fn spilling_at(entries: usize) -> Self {
        let memory = Self::default();
        memory.world.borrow_mut().spills_at = Some(entries);
        memory
    }

    /// What it may hold.
    pub fn limit(&self, bytes: Option<u64>) {
        self.world.borrow_mut().room = bytes;
    }

    /// The power fails: of what was not flushed any sectors may be lost, and of
    /// the changes of names the last ones.
    pub fn crash(&self, random: &mut Random) {
        let mut world = self.world.borrow_mut();
        for bytes in world.files.values_mut() {
            let unflushed = std::mem::take(&mut bytes.unflushed);
            let lose_all = random.happens(30);
            for (at, old) in unflushed.into_iter().rev() {
                if lose_all || random.happens(40) {
                    bytes.now[at..at + old.len()].copy_from_slice(&old);
                }
            }
        }
        let histories = std::mem::take(&mut world.histories);
        if !histories.is_empty() && random.happens(60) {
            world.names = histories[random.index_below(histories.len())].clone();
        }
    }

    pub fn counts(&self) -> (u64, u64, u64) {
        let world = self.world.borrow();
        (world.reads, world.writes, world.flushes)
    }

    /// Changes a file behind the journal's back.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut world = self.world.borrow_mut();
        let id = world.names[name];
        change(&mut world.files.get_mut(&id).expect("a name has a file").now);
    }

    /// All names, and what their files hold.
    pub fn image(&self) -> BTreeMap<String, Vec<u8>> {
        let world = self.world.borrow();
        world.names.iter().map(|(name, id)| (name.clone(), world.files[id].now.clone())).collect()
    }

    pub fn copy(&self) -> Self {
        let world = self.world.borrow();
        let copy = World {
            files: world.files.clone(),
            names: world.names.clone(),
            spills_at: world.spills_at,
            ..World::default()
        };
        Self { world: Rc::new(RefCell::new(copy)) }
    }
}

impl World {
    fn changes_names(&mut self) {
        let before = self.names.clone();
        self.histories.push(before);
    }

    fn used(&self) -> u64 {
        self.names.values().map(|id| self.files[id].now.len() as u64).sum()
    }

    fn has_room(&self, bytes: u64) -> io::Result<()> {
        let fits = self.room.is_none_or(|room| self.used() + bytes <= room);
        if fits { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn id(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Volume for Memory {
    type File = MemoryFile;

    fn create(&self, name: &str, size_bytes: u64) -> io::Result<MemoryFile> {
        let mut world = self.world.borrow_mut();
        if world.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.has_room(size_bytes)?;
        world.changes_names();
        world.made += 1;
        let id = world.made;
        let size = usize::try_from(size_bytes).expect("small");
        world.files.insert(id, Bytes { now: vec![0; size], unflushed: Vec::new() });
        world.names.insert(name.to_owned(), id);
        Ok(MemoryFile { world: Rc::clone(&self.world), id })
    }

    fn open(&self, name: &str, _writable: bool) -> io::Result<MemoryFile> {
        let id = self.world.borrow().id(name)?;
        Ok(MemoryFile { world: Rc::clone(&self.world), id })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        let id = world.id(from)?;
        world.changes_names();
        world.names.remove(from);
        world.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        world.id(name)?;
        world.changes_names();
        world.names.remove(name);
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.world.borrow().names.keys().cloned().collect())
    }

    fn flush_directory(&self) -> io::Result<()> {
        self.world.borrow_mut().histories.clear();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let world = self.world.borrow();
        Ok(world.room.map_or(1 << 40, |room| room.saturating_sub(world.used())))
    }

    fn open_entries_max(&self) -> usize {
        self.world.borrow().spills_at.unwrap_or(limits::OPEN_ENTRIES_MAX)
    }
}

impl VolumeFile for MemoryFile {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.world.borrow().files[&self.id].now.len() as u64)
    }

    async fn read(&self, position: u64, mut buffer: Buffer, range: Range<usize>) -> (io::Result<()>, Buffer) {
        let mut world = self.world.borrow_mut();
        world.reads += 1;
        let start = usize::try_from(position).expect("small");
        assert!(start.is_multiple_of(4096) && range.len().is_multiple_of(4096), "not for direct I/O");
        match world.files[&self.id].now.get(start..start + range.len()) {
            Some(bytes) => {
                buffer.bytes_mut()[range].copy_from_slice(bytes);
                (Ok(()), buffer)
            }
            None => (Err(io::ErrorKind::UnexpectedEof.into()), buffer),
        }
    }

    async fn write(&self, position: u64, buffer: Buffer, range: Range<usize>) -> (io::Result<()>, Buffer) {
        let mut world = self.world.borrow_mut();
        world.writes += 1;
        let (start, length) = (usize::try_from(position).expect("small"), range.len());
        assert!(start.is_multiple_of(4096) && length.is_multiple_of(4096), "not for direct I/O");
        let size = world.files[&self.id].now.len();
        let growth = (start + length).saturating_sub(size);
        if let Err(error) = world.has_room(growth as u64) {
            return (Err(error), buffer);
        }
        let file = world.files.get_mut(&self.id).expect("an open file is there");
        file.now.resize(size + growth, 0);
        for (at, new) in (start..).step_by(SECTOR).zip(buffer.bytes()[range].chunks(SECTOR)) {
            let place = &mut file.now[at..at + new.len()];
            file.unflushed.push((at, place.to_vec()));
            place.copy_from_slice(new);
        }
        (Ok(()), buffer)
    }

    async fn flush(&self) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        world.flushes += 1;
        world.files.get_mut(&self.id).expect("an open file is there").unflushed.clear();
        Ok(())
    }
}

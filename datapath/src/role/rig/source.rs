//! A source that is a file, with its changes in a model of the tracker.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::role::agent::Freezer;
use crate::track::{ChangeSource, ChunkSet, Doubt, Drained, Geometry, Parity, Statistics};
use crate::unit::{ChunkSize, Extent};

struct Marks {
    dirty: ChunkSet,
    transit: [ChunkSet; 2],
    doubt: Option<Doubt>,
}

/// The file, its marks, and the lock that a freeze takes.
#[derive(Clone)]
pub struct SharedSource {
    file: Arc<File>,
    marks: Arc<Mutex<Marks>>,
    gate: Arc<RwLock<()>>,
    geometry: Geometry,
}

impl SharedSource {
    pub fn create(path: &Path, size_bytes: u64, chunk_size: ChunkSize) -> Self {
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        file.set_len(size_bytes).unwrap();
        let geometry = Geometry { size_bytes, chunk_size };
        let none = ChunkSet::empty(geometry.chunks());
        let marks = Marks { dirty: none.clone(), transit: [none.clone(), none], doubt: None };
        Self { file: Arc::new(file), marks: Arc::new(Mutex::new(marks)), gate: Arc::default(), geometry }
    }

    /// Writes as a kernel would: marked when issued and when completed.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        let _not_frozen = self.gate.read().unwrap();
        self.write_whatever_is_frozen(offset, bytes);
    }

    pub fn write_whatever_is_frozen(&self, offset: u64, bytes: &[u8]) {
        let extent = Extent::new(offset, bytes.len() as u64).unwrap();
        self.marks.lock().unwrap().dirty.insert_extent(extent, self.geometry.chunk_size);
        self.file.write_all_at(bytes, offset).unwrap();
        self.marks.lock().unwrap().dirty.insert_extent(extent, self.geometry.chunk_size);
    }

    pub fn doubt(&self) {
        self.marks.lock().unwrap().doubt = Some(Doubt::UnknownWrite { writes: 1 });
    }

    pub fn content(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.geometry.size_bytes).unwrap()];
        self.file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    pub fn changes(&self) -> Changes {
        Changes(self.clone())
    }

    /// A freezer that keeps what the source held at each freeze.
    pub fn freezer(&self) -> TestFreezer {
        TestFreezer {
            source: self.clone(),
            guard: None,
            copies: Vec::new(),
            fails: false,
            thawed_early: false,
            somebody_thaws: Arc::default(),
        }
    }
}

/// The tracker of a source.
pub struct Changes(SharedSource);

impl Changes {
    fn marks(&self) -> std::sync::MutexGuard<'_, Marks> {
        self.0.marks.lock().unwrap()
    }
}

fn number(parity: Parity) -> usize {
    usize::from(parity == Parity::Odd)
}

impl ChangeSource for Changes {
    fn geometry(&self) -> Geometry {
        self.0.geometry
    }

    fn knows_changes(&self) -> bool {
        true
    }

    fn drain(&mut self, parity: Parity, _budget: u64, into: &mut ChunkSet) -> Result<Drained, Doubt> {
        let mut marks = self.marks();
        if let Some(doubt) = &marks.doubt {
            return Err(doubt.clone());
        }
        let dirty = std::mem::replace(&mut marks.dirty, ChunkSet::empty(self.0.geometry.chunks()));
        marks.transit[number(parity)].insert_all(&dirty);
        into.insert_all(&dirty);
        Ok(Drained { chunks: dirty.len(), is_complete: true })
    }

    fn give_back(&mut self, extents: &[Extent]) {
        let chunk = self.0.geometry.chunk_size;
        extents.iter().for_each(|extent| self.marks().dirty.insert_extent(*extent, chunk));
    }

    fn confirmed(&mut self, parity: Parity) {
        self.marks().transit[number(parity)].clear();
    }

    fn restart(&mut self) -> ChunkSet {
        let mut marks = self.marks();
        let mut all = marks.transit[0].clone();
        all.insert_all(&marks.transit[1]);
        marks.dirty.insert_all(&all);
        marks.transit.iter_mut().for_each(ChunkSet::clear);
        all
    }

    fn mark_all(&mut self) -> Result<(), Doubt> {
        let mut marks = self.marks();
        marks.doubt = None;
        marks.dirty = ChunkSet::full(self.0.geometry.chunks());
        Ok(())
    }

    fn check(&mut self) -> Result<(), Doubt> {
        self.marks().doubt.clone().map_or(Ok(()), Err)
    }

    fn dirty_chunks(&self) -> u64 {
        self.marks().dirty.len()
    }

    fn statistics(&self) -> Statistics {
        Statistics::default()
    }
}

/// Stops the writers of a source.
pub struct TestFreezer {
    source: SharedSource,
    guard: Option<JoinHandle<()>>,
    /// What the source held at each freeze.
    pub copies: Vec<Vec<u8>>,
    pub fails: bool,
    pub thawed_early: bool,
    /// The same, for another thread to set.
    pub somebody_thaws: Arc<AtomicBool>,
}

impl Freezer for TestFreezer {
    fn prepare(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn freeze(&mut self, _hold: bool) -> Result<Instant, String> {
        let begun = Instant::now();
        if self.fails {
            return Err("a filesystem that does not freeze".to_owned());
        }
        // A lock that a thread of its own holds, because guards stay on their thread.
        let gate = Arc::clone(&self.source.gate);
        let (tell, told) = std::sync::mpsc::channel();
        self.guard = Some(std::thread::spawn(move || {
            let _frozen = gate.write().unwrap();
            tell.send(()).unwrap();
            std::thread::park();
        }));
        told.recv().unwrap();
        self.copies.push(self.source.content());
        Ok(begun)
    }

    fn holds(&mut self) -> bool {
        !self.thawed_early && !self.somebody_thaws.load(Ordering::Relaxed)
    }

    fn thaw(&mut self) -> bool {
        if let Some(guard) = self.guard.take() {
            guard.thread().unpark();
            guard.join().unwrap();
        }
        !self.thawed_early
    }

    fn power_off(&mut self) -> Result<(), String> {
        Ok(())
    }
}

impl TestFreezer {
    pub fn thaw_for_test(&mut self) {
        let _ = self.thaw();
    }
}

impl Drop for TestFreezer {
    fn drop(&mut self) {
        self.thaw();
    }
}

/// Stops the writers of two sources at once.
pub struct Both(pub TestFreezer, pub TestFreezer);

impl Freezer for Both {
    fn prepare(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn freeze(&mut self, hold: bool) -> Result<Instant, String> {
        let begun = self.0.freeze(hold)?;
        self.1.freeze(hold).map(|_| begun)
    }

    fn holds(&mut self) -> bool {
        self.0.holds() && self.1.holds()
    }

    fn thaw(&mut self) -> bool {
        self.0.thaw() & self.1.thaw()
    }

    fn power_off(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Writes at random places until it is dropped.
pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn start(source: &SharedSource, seed: u64) -> Self {
        let (source, stop) = (source.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut state = seed | 1;
            let sectors = source.geometry.size_bytes / 512;
            while !stopped.load(Ordering::Relaxed) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let length = 1 + state % 32;
                let at = (state >> 16) % (sectors - length);
                let fill = if state.is_multiple_of(5) { 0 } else { u8::try_from(state >> 56).unwrap() };
                source.write(at * 512, &vec![fill; usize::try_from(length * 512).unwrap()]);
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

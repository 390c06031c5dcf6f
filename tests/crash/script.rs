//! What is done to a replica, and what each of its points must hold.
//!
//! A script is made by chance from a seed, with the contents of every point by
//! an obvious model: a disk is an array of bytes.

use std::collections::BTreeMap;
use std::rc::Rc;

use failback_datapath::delta::{
    Content as EntryContent, DigestAlgorithm, Filling, Manifest, Opened, Packed, Place, Shape,
};
use failback_datapath::disk::WriteMark;
use failback_datapath::journal::{Pair, PairState, SecretKey};
use failback_datapath::limits;
use failback_datapath::unit::{ChunkSize, DeltaNumber, Epoch, Generation, to_usize};

use crate::fixture::Random;

pub const CHUNK: ChunkSize = ChunkSize::MIN;
/// The last chunk is an odd one.
pub const DISK_BYTES: usize = 40 * 4096 + 1536;

/// The bytes of a disk.
pub type Content = Rc<Vec<u8>>;

/// One thing to do.
#[derive(Clone)]
pub enum Step {
    /// Land these, which follow each other.
    Land(Rc<[Opened]>),
    Checkpoint,
    /// Bring the target to this content by offering it, from wherever it is; with
    /// a checkpoint on the way, or without any.
    Bring {
        content: Content,
        checkpoint: bool,
    },
    Cut,
    BeginSynchronization,
    CancelSynchronization,
    Fence,
    Rewind(Epoch),
    Commit,
    /// Merge indexes.
    Tend,
    /// Drop the points before this one for their age.
    Expire(Epoch),
    /// Drop the points before this one, each for the room that it takes.
    GiveUp(Epoch),
}

/// The state of the target that a step starts from: in order, they only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stage {
    pub generation: u64,
    pub epoch: Epoch,
}

pub struct Script {
    pub steps: Vec<(Stage, Step)>,
    /// What each point holds.
    pub points: BTreeMap<Epoch, Content>,
    /// The manifests of epochs that consist of scripted deltas alone.
    pub manifests: BTreeMap<Epoch, Manifest>,
    /// What the target holds when it is fenced.
    pub fenced: Option<Content>,
    /// Entries of the open epoch that the journal keeps in memory.
    pub open_entries_max: usize,
}

impl Script {
    /// Points before this one may be gone once the first `steps` steps have begun,
    /// and are when those are done.
    pub fn dropped_before(&self, steps: usize) -> Epoch {
        let dropped = self.steps[..steps].iter().filter_map(|(_, step)| match step {
            Step::Expire(kept) | Step::GiveUp(kept) => Some(*kept),
            _ => None,
        });
        dropped.max().unwrap_or(Epoch::FIRST)
    }
}

/// The pair that all scripts are for.
pub fn pair() -> Pair {
    Pair {
        generation: Generation { incarnation: 7, number: 1 },
        machine: "web".to_owned(),
        machine_identity: String::new(),
        machine_key: String::new(),
        disk: "sda".to_owned(),
        target_identity: "simulated".to_owned(),
        target_path: "/dev/simulated".to_owned(),
        size_bytes: DISK_BYTES as u64,
        chunk_size: CHUNK,
        digest_algorithm: DigestAlgorithm::Xxh3,
        key: SecretKey([9; 32]),
        state: PairState::Initial,
        pins: std::collections::BTreeSet::new(),
        segment_bytes: 128 << 10,
        target_writes: WriteMark::default(),
        exact_from: None,
        awaits_comparison: false,
    }
}

/// Chunks of the disk.
pub fn chunk_count() -> u64 {
    CHUNK.count(DISK_BYTES as u64)
}

/// Where chunk `index` lies in a content.
pub fn place_of(index: u64) -> std::ops::Range<usize> {
    let extent = CHUNK.extent(index, DISK_BYTES as u64);
    to_usize(extent.offset())..to_usize(extent.end())
}

/// A delta that makes `chunks` hold what `content` holds there.
pub fn delta(place: Place, content: &[u8], chunks: impl IntoIterator<Item = u64>) -> Opened {
    let shape = Shape { disk_bytes: DISK_BYTES as u64, chunk: CHUNK, algorithm: DigestAlgorithm::Xxh3 };
    let digester = pair().digester();
    let mut filling = Filling::new(shape);
    for index in chunks {
        let extent = CHUNK.extent(index, DISK_BYTES as u64);
        let bytes = &content[place_of(index)];
        let pushed = match bytes.iter().all(|byte| *byte == 0) {
            true => filling.push_zero(extent),
            false => filling.push_data(extent, bytes, digester.digest(bytes)),
        };
        pushed.expect("a small delta has room");
    }
    let (head, payload) = filling.close(place).expect("a delta has entries").raw().into_parts();
    Packed::open(head, payload, |bytes| digester.digest(bytes)).expect("its own digests")
}

/// The same chunks with the same bytes as a delta at another place: what a source
/// makes of a delta that its target has lost.
pub fn anew(lost: &Opened, place: Place) -> Opened {
    let mut filling = Filling::new(lost.header().shape);
    for entry in lost.entries() {
        let pushed = match entry.content {
            EntryContent::Data { digest, .. } => filling.push_data(entry.extent, lost.bytes(entry), digest),
            EntryContent::Zero => filling.push_zero(entry.extent),
        };
        pushed.expect("it had room before");
    }
    let digester = pair().digester();
    let (head, payload) = filling.close(place).expect("a delta has entries").raw().into_parts();
    Packed::open(head, payload, |bytes| digester.digest(bytes)).expect("its own digests")
}

/// Makes a script step by step, keeping the model beside it.
pub struct Author {
    random: Random,
    script: Script,
    stage: Stage,
    number: DeltaNumber,
    manifest: Option<Manifest>,
    content: Vec<u8>,
}

impl Author {
    pub fn new(seed: u64) -> Self {
        let script = Script {
            steps: Vec::new(),
            points: BTreeMap::new(),
            manifests: BTreeMap::new(),
            fenced: None,
            open_entries_max: limits::OPEN_ENTRIES_MAX,
        };
        Self {
            random: Random::with_seed(seed),
            script,
            stage: Stage { generation: 1, epoch: Epoch::FIRST },
            number: DeltaNumber(0),
            manifest: Some(Manifest::EMPTY),
            content: vec![0; DISK_BYTES],
        }
    }

    /// Has open epochs spilled with so many entries in memory.
    pub fn spill_at(&mut self, entries: usize) {
        self.script.open_entries_max = entries;
    }

    fn push(&mut self, step: Step) {
        self.script.steps.push((self.stage, step));
    }

    /// Changes some chunks of the content: neighbours, scattered ones, zeroes, the last.
    fn change(&mut self) -> std::collections::BTreeSet<u64> {
        let count = chunk_count();
        let mut chunks = std::collections::BTreeSet::new();
        for _ in 0..=self.random.below(3) {
            let first = self.random.below(count);
            let length = 1 + self.random.below(4);
            chunks.extend((first..first + length).filter(|chunk| *chunk < count));
        }
        if self.random.happens(20) {
            chunks.insert(count - 1);
        }
        let zero = self.random.happens(25);
        for chunk in &chunks {
            let place = place_of(*chunk);
            match zero {
                true => self.content[place].fill(0),
                false => self.random.fill(&mut self.content[place]),
            }
        }
        chunks
    }

    /// Some deltas, which land together or one by one.
    pub fn land(&mut self) {
        let mut deltas = Vec::new();
        for _ in 0..=self.random.below(2) {
            let chunks = self.change();
            deltas.push(self.delta(chunks));
        }
        self.land_all(deltas);
        if self.random.happens(40) {
            self.push(Step::Checkpoint);
        }
    }

    /// One delta of two chunks.
    pub fn land_little(&mut self) {
        let first = self.random.below(chunk_count() - 1);
        let chunks = [first, first + 1];
        chunks.map(place_of).into_iter().for_each(|place| self.random.fill(&mut self.content[place]));
        let delta = self.delta(chunks);
        self.land_all(vec![delta]);
    }

    fn delta(&mut self, chunks: impl IntoIterator<Item = u64>) -> Opened {
        self.number = self.number.next();
        let generation = Generation { number: self.stage.generation, ..pair().generation };
        let place = Place { generation, epoch: self.stage.epoch, number: self.number };
        delta(place, &self.content, chunks)
    }

    fn land_all(&mut self, deltas: Vec<Opened>) {
        let with = |manifest, delta: &Opened| Manifest::with(manifest, delta.head());
        self.manifest = self.manifest.map(|manifest| deltas.iter().fold(manifest, with));
        self.push(Step::Land(deltas.into()));
    }

    /// An epoch of deltas; now and then one of none.
    pub fn epoch(&mut self) {
        for _ in 0..self.random.below(4) {
            self.land();
        }
        self.cut();
    }

    /// An epoch that stays small.
    pub fn little_epoch(&mut self) {
        if self.random.happens(80) {
            self.land_little();
        }
        self.cut();
    }

    /// How many epochs there are since the oldest point that is kept.
    pub fn epochs_kept(&self) -> u64 {
        self.stage.epoch.0 - self.oldest().0
    }

    fn oldest(&self) -> Epoch {
        self.script.dropped_before(self.script.steps.len())
    }

    pub fn tend(&mut self) {
        self.push(Step::Tend);
    }

    /// Drops so many points for their age.
    pub fn expire(&mut self, count: usize) {
        let kept = self.oldest_but(count);
        self.push(Step::Expire(kept));
    }

    /// The same for room.
    pub fn give_up(&mut self, count: usize) {
        let kept = self.oldest_but(count);
        self.push(Step::GiveUp(kept));
    }

    fn oldest_but(&self, count: usize) -> Epoch {
        let mut kept = self.script.points.range(self.oldest()..);
        *kept.nth(count).expect("there are more").0
    }

    pub fn cut(&mut self) {
        self.push(Step::Cut);
        self.close();
    }

    fn close(&mut self) {
        self.script.points.insert(self.stage.epoch, Rc::new(self.content.clone()));
        if let Some(manifest) = self.manifest {
            self.script.manifests.insert(self.stage.epoch, manifest);
        }
        self.open(self.stage.generation);
    }

    fn open(&mut self, generation: u64) {
        self.stage = Stage { generation, epoch: self.stage.epoch.next() };
        self.number = DeltaNumber(0);
        self.manifest = Some(Manifest::EMPTY);
    }

    /// Brings the target to a content that differs here and there, by offers.
    pub fn bring(&mut self) {
        for _ in 0..3 {
            self.change();
        }
        self.manifest = None;
        let checkpoint = self.random.happens(50);
        self.push(Step::Bring { content: Rc::new(self.content.clone()), checkpoint });
    }

    pub fn begin_synchronization(&mut self) {
        self.push(Step::BeginSynchronization);
    }

    /// Gives up a synchronization that has changed something.
    pub fn cancel_synchronization(&mut self) {
        self.push(Step::CancelSynchronization);
        if let Some((_, newest)) = self.script.points.last_key_value() {
            self.content = newest.as_ref().clone();
        }
        self.open(self.stage.generation + 1);
    }

    pub fn fence(&mut self) {
        self.script.fenced = Some(Rc::new(self.content.clone()));
        self.push(Step::Fence);
    }

    /// To a point by chance, of those that are kept.
    pub fn rewind(&mut self) {
        let points: Vec<Epoch> = self.script.points.range(self.oldest()..).map(|(epoch, _)| *epoch).collect();
        let to = points[self.random.index_below(points.len())];
        self.push(Step::Rewind(to));
        self.content = self.script.points[&to].as_ref().clone();
        self.manifest = None;
        self.close();
    }

    pub fn commit(&mut self) {
        self.push(Step::Commit);
        self.stage.generation += 1;
    }

    pub fn finish(self) -> Script {
        self.script
    }
}

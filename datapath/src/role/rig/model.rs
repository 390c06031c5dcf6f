//! A target in memory: it holds a disk and a copy of it for each point.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::delta::{Content, DigestAlgorithm, Manifest, Opened, Shape};
use crate::pipeline::Digester;
use crate::role::master_target::{Landing, PairName, Standing, Targets, Tended, Visitor};
use crate::role::{Error, LandingError, Pair};
use crate::unit::{Chain, ChunkSize, DeltaNumber, Digest, Epoch, Extent, Generation, to_usize};
use crate::wire::{Cut, CutKind, Position};

const KEY: [u8; 32] = [9; 32];

/// What a target is, written so that nobody can doubt it.
pub struct Model {
    pub disk: Vec<u8>,
    pub points: Vec<(Cut, Vec<u8>)>,
    pub position: Position,
    pub fenced: bool,
    pub synchronizations: u32,
    /// A synchronization of a target with points was begun, and not finished.
    pub resyncing: bool,
    pub chunks_landed: u64,
    pub chunks_unwanted: u64,
    manifest: Manifest,
    shape: Shape,
    /// Cuts are taken in, and no point is made of them.
    pub holds_cuts: bool,
    /// It takes so long to open.
    pub opens_after: Duration,
    /// There is no room for a point.
    pub is_full: bool,
    /// So many further sessions find damaged whatever they are sent.
    pub misreads: u32,
    /// Steps until one fails; it then hangs up as a pulled network would.
    pub fails_after: Option<u32>,
}

impl Model {
    pub fn new(size_bytes: u64, chunk: ChunkSize) -> Self {
        let generation = Generation { incarnation: 7, number: 1 };
        let shape = Shape { disk_bytes: size_bytes, chunk, algorithm: DigestAlgorithm::Xxh3 };
        Self {
            // Not zero: a first synchronization finds something else there.
            disk: vec![0xee; to_usize(size_bytes)],
            points: Vec::new(),
            position: Position { generation, epoch: Epoch::FIRST, landed: DeltaNumber::default() },
            fenced: false,
            synchronizations: 0,
            resyncing: false,
            chunks_landed: 0,
            chunks_unwanted: 0,
            manifest: Manifest::EMPTY,
            shape,
            holds_cuts: false,
            opens_after: Duration::ZERO,
            is_full: false,
            misreads: 0,
            fails_after: None,
        }
    }

    fn chain(&self) -> Chain {
        self.points.last().map_or(Chain::START, |(cut, _)| cut.chain)
    }

    fn rest(&self) -> Pair {
        match self.points.last() {
            _ if self.fenced => Pair::Fenced,
            None => Pair::Corrupted,
            Some(_) if self.resyncing => Pair::ResyncRequired,
            Some(_) => Pair::Disconnected,
        }
    }

    fn step(&mut self) -> Result<(), LandingError> {
        match &mut self.fails_after {
            Some(0) => {
                self.fails_after = None;
                Err(LandingError::Full("a step that was made to fail".into()))
            }
            Some(steps) => {
                *steps -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn range(extent: Extent) -> std::ops::Range<usize> {
        to_usize(extent.offset())..to_usize(extent.end())
    }

    fn land(&mut self, delta: &Opened) -> Result<(), LandingError> {
        let place = delta.head().place();
        let position = self.position;
        let follows = place.generation == position.generation
            && place.epoch == position.epoch
            && place.number == position.landed.next();
        if !follows || self.fenced {
            return Err(LandingError::Unfit(format!("delta {place} does not follow {position:?}").into()));
        }
        for entry in delta.entries() {
            let range = Self::range(entry.extent);
            match entry.content {
                Content::Data { .. } => self.disk[range].copy_from_slice(delta.bytes(entry)),
                Content::Zero => self.disk[range].fill(0),
            }
            self.chunks_landed += self.shape.chunk.count(entry.extent.length());
        }
        self.manifest = self.manifest.with(delta.head());
        self.position.landed = place.number;
        Ok(())
    }

    fn cut(&mut self, cut: &Cut) -> Result<Chain, LandingError> {
        let unfit = |what: &str| Err(LandingError::Unfit(what.to_owned().into()));
        if cut.epoch != self.position.epoch || cut.deltas != self.position.landed {
            return unfit("a cut of something else");
        }
        let chain = Chain::next(self.chain(), self.position.generation, cut.epoch, self.manifest);
        if cut.manifest != self.manifest || cut.chain != chain {
            return unfit("a cut with another manifest");
        }
        self.points.push((cut.clone(), self.disk.clone()));
        self.position.epoch = cut.epoch.next();
        self.position.landed = DeltaNumber::default();
        self.manifest = Manifest::EMPTY;
        self.resyncing = false;
        Ok(chain)
    }
}

/// The model, as several sessions and a test reach it.
#[derive(Clone)]
pub struct SharedModel {
    model: Arc<Mutex<Model>>,
    /// How often this session has asked where it stands.
    asked: Arc<AtomicU32>,
}

impl SharedModel {
    pub fn new(model: Model) -> Self {
        Self { model: Arc::new(Mutex::new(model)), asked: Arc::default() }
    }

    pub fn look(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }
}

impl Targets for SharedModel {
    type Landing = Self;

    fn check(&self, _pair: &PairName, _visitor: &Visitor) -> Result<(), Error> {
        Ok(())
    }

    async fn open(&self, _pair: &PairName, _visitor: &Visitor) -> Result<Self, Error> {
        let opens_after = self.look().opens_after;
        tokio::time::sleep(opens_after).await;
        Ok(Self { asked: Arc::default(), ..self.clone() })
    }
}

impl Landing for SharedModel {
    fn standing(&self) -> Standing {
        let mut model = self.look();
        // The agent is told its key at the second time; whoever verifies asks next.
        let verifies = self.asked.fetch_add(1, Ordering::Relaxed) == 2;
        let misreads = verifies && model.misreads > 0;
        model.misreads -= u32::from(misreads);
        Standing {
            position: model.position,
            manifest: model.manifest,
            chain: model.chain(),
            newest: model.points.last().map(|(cut, _)| cut.epoch),
            shape: model.shape,
            key: if misreads { [0xdd; 32] } else { KEY },
            rest: model.rest(),
        }
    }

    async fn begin_synchronization(&mut self) -> Result<(), LandingError> {
        let mut model = self.look();
        model.synchronizations += 1;
        model.resyncing = true;
        Ok(())
    }

    async fn want(&mut self, window: Extent, digests: &[Digest]) -> Result<Vec<bool>, LandingError> {
        let mut model = self.look();
        model.step().map_err(|error| LandingError::Unfit(error.into()))?;
        let digester = Digester::new(model.shape.algorithm, KEY);
        let chunks = window.split_at_multiples(u64::from(model.shape.chunk.bytes()));
        let wanted: Vec<bool> = chunks
            .zip(digests)
            .map(|(extent, digest)| digester.digest(&model.disk[Model::range(extent)]) != *digest)
            .collect();
        model.chunks_unwanted += wanted.iter().filter(|wanted| !**wanted).count() as u64;
        Ok(wanted)
    }

    async fn land(&mut self, deltas: &[Opened]) -> Result<(), LandingError> {
        let mut model = self.look();
        model.step().map_err(|error| LandingError::Unfit(error.into()))?;
        deltas.iter().try_for_each(|delta| model.land(delta))
    }

    async fn checkpoint(&mut self) -> Result<DeltaNumber, LandingError> {
        Ok(self.look().position.landed)
    }

    async fn cut(&mut self, cut: &Cut) -> Result<Chain, LandingError> {
        while self.look().holds_cuts {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if self.look().is_full {
            return Err(LandingError::Full("the retention volume has no room".into()));
        }
        self.look().cut(cut)
    }

    async fn tend(&mut self) -> Result<Tended, LandingError> {
        Ok(Tended::default())
    }

    async fn leave(&mut self) -> Result<(), LandingError> {
        Ok(())
    }

    async fn fence(&mut self, epoch: Epoch) -> Result<(), LandingError> {
        let mut model = self.look();
        let fits =
            model.points.last().is_some_and(|(cut, _)| cut.epoch == epoch && cut.kind == CutKind::Final);
        if !fits {
            return Err(LandingError::Unfit("not the final point".into()));
        }
        model.fenced = true;
        Ok(())
    }
}

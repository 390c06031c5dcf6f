//! Playing a script on a replica, from its beginning or from wherever a crash left it.

use std::ops::Range;
use std::rc::Rc;

use failback_datapath::delta::{Opened, Place};
use failback_datapath::journal::{PairState, PointKind, RetentionPolicy};
use failback_datapath::landing::replica::{Cut, Error, OnForeignWrites, Replica};
use failback_datapath::sys::{Arena, Buffer};
use failback_datapath::unit::{Chain, DeltaNumber, Digest, Epoch, Extent, to_u64};

use super::script::{
    CHUNK, Content, DISK_BYTES, Script, Stage, Step, anew, chunk_count, delta, pair, place_of,
};
use super::storage::{Directory, Disk};
use super::world::Shared;

pub type Simulated = Replica<Disk, Directory>;

/// Chunks of an offer: several windows a disk.
const WINDOW_CHUNKS: u64 = 11;

/// Something that was promised to the source, or begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// A step was begun: from now on it may have happened.
    Begun(usize),
    /// A step was acknowledged.
    Done(usize),
    /// Everything of an epoch up to this delta was called durable.
    Durable(Epoch, DeltaNumber),
    /// So many deltas were sent.
    Sent(usize),
}

/// Who plays: notes what was promised, where that is wanted.
pub struct Player<'a> {
    pub script: &'a Script,
    pub world: Shared,
    pub milestones: Vec<Milestone>,
    /// Every delta that was sent, in order.
    pub sent: Vec<Opened>,
}

/// Where a replica is, as scripts count.
pub fn stage(replica: &Simulated) -> Stage {
    let position = replica.position();
    Stage { generation: position.generation.number, epoch: position.epoch }
}

impl<'a> Player<'a> {
    pub fn new(script: &'a Script, world: &Shared) -> Self {
        Self { script, world: Rc::clone(world), milestones: Vec::new(), sent: Vec::new() }
    }

    pub fn note(&mut self, milestone: Milestone) {
        self.milestones.push(milestone);
        self.world.borrow_mut().milestone(self.milestones.len());
    }

    /// Plays those of `steps` that are not behind the replica.
    pub async fn play(&mut self, replica: &mut Simulated, steps: Range<usize>) -> Result<(), Error> {
        for index in steps {
            let (at, step) = &self.script.steps[index];
            if *at < stage(replica) || is_behind(step, replica.position().state) {
                continue;
            }
            assert_eq!(*at, stage(replica), "step {index} starts from another state");
            self.note(Milestone::Begun(index));
            self.perform(replica, step).await?;
            self.note(Milestone::Done(index));
        }
        Ok(())
    }

    async fn perform(&mut self, replica: &mut Simulated, step: &Step) -> Result<(), Error> {
        match step {
            Step::Land(deltas) => {
                let landed = replica.position().landed;
                let left = deltas.iter().position(|delta| delta.head().number() > landed);
                match left {
                    Some(first) => self.land(replica, &deltas[first..]).await,
                    None => Ok(()),
                }
            }
            Step::Checkpoint => self.checkpoint(replica).await,
            Step::Bring { content, checkpoint } => self.bring(replica, content, *checkpoint).await,
            Step::Cut => {
                let cut = self.cut_of(replica);
                replica.cut(&cut).await.map(drop)
            }
            Step::BeginSynchronization => replica.begin_synchronization().await,
            Step::CancelSynchronization => replica.cancel_synchronization().await,
            Step::Fence => replica.fence().await,
            Step::Rewind(to) => replica.rewind(*to).await,
            Step::Commit => replica.commit(OnForeignWrites::Refuse).await.map(drop),
            Step::Tend => replica.tend().await,
            Step::Expire(kept) => expire(replica, *kept).await,
            Step::GiveUp(kept) => give_up(replica, *kept).await,
        }
    }

    async fn land(&mut self, replica: &mut Simulated, deltas: &[Opened]) -> Result<(), Error> {
        self.sent.extend_from_slice(deltas);
        self.note(Milestone::Sent(self.sent.len()));
        replica.land(deltas).await
    }

    /// Lands again what the target has lost of `sent`, as a source does that has
    /// not forgotten it: as deltas that go on from where the target is.
    pub async fn land_lost(&mut self, replica: &mut Simulated, sent: &[Opened]) -> Result<(), Error> {
        let position = replica.position();
        let (generation, epoch) = (position.generation, position.epoch);
        for lost in sent {
            let was = lost.head().place();
            if (was.generation, was.epoch) == (generation, epoch) && was.number > position.landed {
                let number = replica.position().landed.next();
                self.land(replica, &[anew(lost, Place { generation, epoch, number })]).await?;
            }
        }
        Ok(())
    }

    async fn checkpoint(&mut self, replica: &mut Simulated) -> Result<(), Error> {
        let durable = replica.checkpoint().await?;
        self.note(Milestone::Durable(replica.position().epoch, durable));
        Ok(())
    }

    /// Offers all of `content`, and lands what is wanted. What is not wanted must
    /// be durable whether or not there is a checkpoint.
    async fn bring(
        &mut self,
        replica: &mut Simulated,
        content: &Content,
        checkpoint: bool,
    ) -> Result<(), Error> {
        for first in (0..chunk_count()).step_by(usize::try_from(WINDOW_CHUNKS).expect("small")) {
            let chunks = first..(first + WINDOW_CHUNKS).min(chunk_count());
            let digester = pair().digester();
            let digests: Vec<Digest> =
                chunks.clone().map(|chunk| digester.digest(&content[place_of(chunk)])).collect();
            let window = Extent::between(
                first * u64::from(CHUNK.bytes()),
                (chunks.end * u64::from(CHUNK.bytes())).min(DISK_BYTES as u64),
            );
            let position = replica.position();
            let wanted = replica.want(position.generation, window, &digests).await?;
            if !wanted.is_empty() {
                let position = replica.position();
                let number = position.landed.next();
                let place = Place { generation: position.generation, epoch: position.epoch, number };
                let delta = delta(place, content, wanted.iter().map(u64::from));
                self.land(replica, &[delta]).await?;
            }
            if checkpoint && first == WINDOW_CHUNKS {
                self.checkpoint(replica).await?;
            }
        }
        Ok(())
    }

    fn cut_of(&self, replica: &Simulated) -> Cut {
        let position = replica.position();
        // After a crash the rest of an epoch may have been offered instead.
        let manifest = position.manifest;
        Cut {
            generation: position.generation,
            epoch: position.epoch,
            deltas: position.landed,
            manifest,
            chain: Chain::next(replica.chain(), position.generation, position.epoch, manifest),
            kind: PointKind::Crash,
            name: format!("point {}", position.epoch),
            machine_cut: None,
            chunks: 3,
            cut_unix_ms: 1000 * position.epoch.0,
            freeze_ms: 5,
        }
    }
}

/// Drops the points that are older than `kept`.
async fn expire(replica: &mut Simulated, kept: Epoch) -> Result<(), Error> {
    let policy = RetentionPolicy { keep_seconds: 0, ..RetentionPolicy::default() };
    let time = replica.journal().point(kept)?.closed_unix_ms;
    replica.expire(&policy, Ok(time)).await?;
    // Those of the same millisecond are not older.
    give_up(replica, kept).await
}

/// Drops the points before `kept`, one by one.
async fn give_up(replica: &mut Simulated, kept: Epoch) -> Result<(), Error> {
    while replica.journal().points().next().is_some_and(|oldest| oldest.epoch < kept) {
        replica.give_up(1).await?;
    }
    Ok(())
}

/// Whether a pair in this state has passed that step of its stage.
fn is_behind(step: &Step, state: PairState) -> bool {
    match step {
        Step::Land(_)
        | Step::Checkpoint
        | Step::Bring { .. }
        | Step::BeginSynchronization
        | Step::Expire(_)
        | Step::GiveUp(_) => {
            matches!(state, PairState::Fenced | PairState::Rewinding { .. } | PairState::Rewound { .. })
        }
        _ => false,
    }
}

/// Reads points into memory that it keeps: to map it anew costs more than to read.
pub struct PointReader {
    buffer: Option<Buffer>,
}

impl PointReader {
    pub fn new() -> Self {
        let size = std::num::NonZeroUsize::new(DISK_BYTES).expect("a disk has bytes");
        Self { buffer: Arena::buffers(1, size).expect("memory").pop() }
    }

    /// All bytes of a point, read in two operations that share no border of an epoch.
    pub async fn read(&mut self, replica: &Simulated, at: Epoch) -> Result<Vec<u8>, Error> {
        let middle = to_u64(place_of(chunk_count() / 3).start);
        let mut bytes = Vec::with_capacity(DISK_BYTES);
        for extent in [Extent::between(0, middle), Extent::between(middle, DISK_BYTES as u64)] {
            let buffer = self.buffer.take().expect("a read gives it back");
            let (result, buffer) = replica.read_at(at, extent, buffer).await;
            let buffer = self.buffer.insert(buffer);
            result?;
            bytes.extend_from_slice(&buffer.bytes()[..usize::try_from(extent.length()).expect("small")]);
        }
        Ok(bytes)
    }
}

/// The bytes of one point.
pub async fn read_point(replica: &Simulated, at: Epoch) -> Result<Vec<u8>, Error> {
    PointReader::new().read(replica, at).await
}

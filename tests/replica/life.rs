//! The life of a replica: what each of its points holds follows from a seed, so
//! that whoever opens it after a crash goes on to the same end.

use std::fs::OpenOptions;
use std::io::Write;

use failback_datapath::delta::{Filling, Opened, Packed, Place, Shape};
use failback_datapath::journal::{PairState, PointKind};
use failback_datapath::landing::replica::{Cut, OnForeignWrites};
use failback_datapath::unit::{Chain, Digest, Epoch, Extent, to_u64, to_usize};

use super::place::{DISK_BYTES, Home, Real};
use crate::fixture::{Model, Random};

/// Every so many epochs one is a rewind, by [`REWIND_BY`] points.
const REWIND_EVERY: u64 = 5;
const REWIND_BY: u64 = 3;
/// Chunks of an offer.
const OFFER_CHUNKS: u64 = 40;

/// The contents of all points, made as they are asked for.
pub struct Life {
    seed: u64,
    contents: Vec<Model>,
}

impl Life {
    pub fn new(seed: u64) -> Self {
        Self { seed, contents: Vec::new() }
    }

    /// What point `epoch` holds.
    pub fn content(&mut self, epoch: Epoch) -> &Model {
        while to_u64(self.contents.len()) < epoch.0 {
            let made = to_u64(self.contents.len());
            let mut random = Random::with_seed(self.seed ^ (made << 40));
            let next = match self.contents.last() {
                None => Model::mixed(DISK_BYTES, &mut random),
                Some(_) if is_rewind(Epoch(made + 1)) => self.contents[to_usize(made - REWIND_BY)].clone(),
                Some(last) => {
                    let mut next = last.clone();
                    next.scribble(random.index_below(12), &mut random);
                    next
                }
            };
            self.contents.push(next);
        }
        &self.contents[to_usize(epoch.0 - 1)]
    }

    /// Lives until point `last` was made and the pair is protected.
    pub async fn live(&mut self, replica: &mut Real, home: &Home, last: Epoch) {
        loop {
            let position = replica.position();
            match position.state {
                PairState::Rewinding { .. } => replica.resume().await.expect("resumed"),
                PairState::Rewound { .. } => {
                    replica.commit(OnForeignWrites::Refuse).await.expect("committed");
                }
                PairState::Committed => replica.begin_synchronization().await.expect("begun"),
                PairState::Fenced => {
                    let to = Epoch(position.epoch.0 - REWIND_BY);
                    replica.rewind(to).await.expect("rewound");
                    acknowledge(home, position.epoch);
                }
                PairState::Protected if position.epoch > last => return,
                PairState::Protected if is_rewind(position.epoch) => replica.fence().await.expect("fenced"),
                _ => {
                    self.epoch(replica).await;
                    acknowledge(home, position.epoch);
                    replica.tend().await.expect("tended");
                }
            }
        }
    }

    /// One epoch: what changed, or, where that is not known, what differs.
    async fn epoch(&mut self, replica: &mut Real) {
        let position = replica.position();
        let is_fresh = position.landed.0 == 0 && replica.journal().touched_chunks().is_empty();
        if position.state == PairState::Protected && is_fresh {
            let before = self.content(Epoch(position.epoch.0 - 1)).clone();
            let after = self.content(position.epoch);
            let changed: Vec<u64> = (0..chunk_count(replica))
                .filter(|chunk| {
                    let place = place_of(replica, *chunk);
                    before.bytes[place.clone()] != after.bytes[place]
                })
                .collect();
            for some in changed.chunks(changed.len() / 3 + 1) {
                land(replica, after, some).await;
                replica.checkpoint().await.expect("a checkpoint");
            }
        } else {
            offer(replica, self.content(position.epoch)).await;
        }
        cut(replica).await;
    }
}

pub fn is_rewind(epoch: Epoch) -> bool {
    epoch.0.is_multiple_of(REWIND_EVERY)
}

fn acknowledge(home: &Home, epoch: Epoch) {
    let file = OpenOptions::new().create(true).append(true).open(&home.log);
    // One write: a kill leaves the line whole, or none of it.
    file.and_then(|mut file| file.write_all(format!("{epoch}\n").as_bytes())).expect("written");
    println!("made {epoch}");
}

async fn offer(replica: &mut Real, content: &Model) {
    let count = chunk_count(replica);
    for first in (0..count).step_by(to_usize(OFFER_CHUNKS)) {
        let chunks = first..(first + OFFER_CHUNKS).min(count);
        let digester = replica.journal().pair().digester();
        let digest = |chunk| digester.digest(&content.bytes[place_of(replica, chunk)]);
        let digests: Vec<Digest> = chunks.clone().map(digest).collect();
        let (start, end) = (place_of(replica, first).start, place_of(replica, chunks.end - 1).end);
        let window = Extent::between(to_u64(start), to_u64(end));
        let generation = replica.position().generation;
        let wanted = replica.want(generation, window, &digests).await.expect("an answer");
        let wanted: Vec<u64> = wanted.iter().map(u64::from).collect();
        if !wanted.is_empty() {
            land(replica, content, &wanted).await;
        }
    }
}

async fn land(replica: &mut Real, content: &Model, chunks: &[u64]) {
    let position = replica.position();
    let (generation, epoch, number) = (position.generation, position.epoch, position.landed.next());
    let delta = delta(replica, Place { generation, epoch, number }, content, chunks);
    replica.land(&[delta]).await.expect("landed");
}

fn delta(replica: &Real, place: Place, content: &Model, chunks: &[u64]) -> Opened {
    let pair = replica.journal().pair();
    let digester = pair.digester();
    let shape =
        Shape { disk_bytes: pair.size_bytes, chunk: pair.chunk_size, algorithm: pair.digest_algorithm };
    let mut filling = Filling::new(shape);
    for chunk in chunks {
        let extent = pair.chunk_size.extent(*chunk, pair.size_bytes);
        let bytes = &content.bytes[place_of(replica, *chunk)];
        let pushed = match bytes.iter().all(|byte| *byte == 0) {
            true => filling.push_zero(extent),
            false => filling.push_data(extent, bytes, digester.digest(bytes)),
        };
        pushed.expect("a small delta has room");
    }
    let (head, payload) = filling.close(place).expect("a delta has entries").raw().into_parts();
    Packed::open(head, payload, |bytes| digester.digest(bytes)).expect("its own digests")
}

async fn cut(replica: &mut Real) {
    let position = replica.position();
    let (generation, epoch, manifest) = (position.generation, position.epoch, position.manifest);
    let cut = Cut {
        generation,
        epoch,
        deltas: position.landed,
        manifest,
        chain: Chain::next(replica.chain(), generation, epoch, manifest),
        kind: PointKind::Crash,
        name: String::new(),
        machine_cut: None,
        chunks: 1,
        cut_unix_ms: 1000 * epoch.0,
        freeze_ms: 5,
    };
    replica.cut(&cut).await.expect("a point");
}

fn chunk_count(replica: &Real) -> u64 {
    replica.journal().pair().chunks()
}

fn place_of(replica: &Real, chunk: u64) -> std::ops::Range<usize> {
    let pair = replica.journal().pair();
    let extent = pair.chunk_size.extent(chunk, pair.size_bytes);
    to_usize(extent.offset())..to_usize(extent.end())
}

//! The journal against an obvious model, over a volume in memory that crashes.

mod aside;
mod counted;
mod damage;
mod directory;
mod golden;
mod hostile;
mod large;
mod memory;
mod model;
mod steps;

#[allow(dead_code, reason = "shared with the end-to-end tests, which use more of it")]
#[path = "../../../tests/fixture/random.rs"]
mod random;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::{Journal, Pair, PairState, PointKind, PointRecord, SecretKey, Volume};
use crate::disk::WriteMark;
use crate::pipeline::DigestAlgorithm;
use crate::unit::{Chain, ChunkSize, DeltaNumber, Epoch, Generation};

/// Runs what never waits: everything over a volume in memory.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a volume in memory never waits"),
    }
}

const GENERATION: Generation = Generation { incarnation: 0x1234_5678_9abc_def0, number: 7 };

/// A pair of `chunks` chunks of 4 KiB, the last one short.
fn pair(chunks: u64, segment_bytes: u32) -> Pair {
    Pair {
        generation: GENERATION,
        machine: "web-1".to_owned(),
        machine_identity: String::new(),
        machine_key: String::new(),
        disk: "vda".to_owned(),
        target_identity: "wwn-0x1".to_owned(),
        target_path: "/dev/sdb".to_owned(),
        size_bytes: chunks * 4096 - 512,
        chunk_size: ChunkSize::MIN,
        digest_algorithm: DigestAlgorithm::Xxh3,
        key: SecretKey([9; 32]),
        state: PairState::Initial,
        pins: std::collections::BTreeSet::default(),
        segment_bytes,
        target_writes: WriteMark::default(),
        exact_from: None,
        awaits_comparison: false,
    }
}

fn point<V: Volume>(journal: &Journal<V>, closed_unix_ms: u64) -> PointRecord {
    PointRecord {
        generation: GENERATION,
        epoch: journal.open_epoch(),
        kind: PointKind::Crash,
        name: String::new(),
        machine_cut: None,
        cut_unix_ms: closed_unix_ms,
        closed_unix_ms,
        freeze_ms: 12,
        deltas: DeltaNumber(1),
        chunks: journal.touched_chunks().len(),
        manifest: [3; 32],
        chain: Chain([4; 32]),
    }
}

/// Bytes that say what they are: version `version` of a chunk. Version 0 is zeroes.
fn content(chunk: u64, version: u64, length: usize) -> Vec<u8> {
    if version == 0 {
        return vec![0; length];
    }
    if version.is_multiple_of(3) {
        // Shrinks.
        return format!("chunk {chunk} version {version} ")
            .into_bytes()
            .into_iter()
            .cycle()
            .take(length)
            .collect();
    }
    let mut random = random::Random::with_seed(chunk << 32 ^ version);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

const FIRST: Epoch = Epoch::FIRST;

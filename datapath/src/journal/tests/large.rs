//! Many points over a large disk: what opening reads, and how long it takes.

use std::time::{Duration, Instant};

use super::counted::{Counted, Reads};
use super::memory::Memory;
use super::random::Random;
use super::{FIRST, now, pair, point};
use crate::journal::files::RUN_BYTES;
use crate::journal::record::{BLOCK, HEAD_BYTES_MAX};
use crate::journal::{Directory, Journal, Volume};
use crate::ring;
use crate::unit::{ChunkSize, DeltaNumber, to_u64};

struct Opened {
    took: Duration,
    reads: Reads,
    reads_most: Reads,
    lookup_us: u128,
    index_bytes: u64,
}

/// What opening must read: the pair, the headers of digests and of each index, the
/// beginning of the last segment, which says how long it was made, and what lies in it
/// behind the newest point, once for its records and once for what may lie beyond. No
/// leaf of an index, no digest and no other segment.
fn most<V: Volume>(journal: &Journal<V>) -> Reads {
    let tables = to_u64(journal.shelf.epochs.len() + journal.shelf.merged.len());
    let tail_bytes = journal.log.tail_bytes();
    let (block, window) = (to_u64(BLOCK), to_u64(2 * HEAD_BYTES_MAX));
    Reads {
        times: 1 + 1 + tables + 1 + 1 + tail_bytes.div_ceil(to_u64(RUN_BYTES)),
        bytes: block + 2 * block + tables * block + block + window + tail_bytes,
    }
}

/// A journal of `points` points over a disk of `size_bytes`, each of `chunks`
/// chunks that were zeroes, so that images take no space; then opens it.
async fn open_after<V: Volume>(volume: Counted<V>, size_bytes: u64, points: u64, chunks: u64) -> Opened {
    let mut random = Random::new();
    let mut pair = pair(1, 64 << 20);
    (pair.size_bytes, pair.chunk_size) = (size_bytes, ChunkSize::for_disk(size_bytes));
    let mut journal = Journal::create(volume.clone(), pair).await.expect("created");
    let (mut batch, zeroes) = (journal.batch().expect("memory"), vec![0; 4096]);
    let digest = journal.pair().digester().digest(&zeroes);
    for epoch in 1..=points {
        batch.belongs_to(DeltaNumber(1));
        let mut chunk = 0;
        for number in 0..chunks {
            // Runs, as files are written.
            chunk = if number % 100 == 0 { random.below(journal.pair().chunks() - 100) } else { chunk + 1 };
            if epoch == 1 { batch.unkept(chunk, digest) } else { batch.keep(chunk, &zeroes, digest, digest) }
                .expect("room");
            if batch.len() == 1024 || number + 1 == chunks {
                journal.append(&mut batch).await.expect("appended");
            }
        }
        let point = point(&journal, epoch);
        journal.close_epoch(point).await.expect("closed");
        while journal.merge().await.expect("merged") {}
    }
    // An epoch is open, as it nearly always is.
    batch.keep(7, &zeroes, digest, digest).expect("room");
    journal.append(&mut batch).await.expect("appended");
    journal.flush().await.expect("flushed");
    drop(journal);
    volume.take_reads();
    let start = Instant::now();
    let (journal, recovery) = Journal::open(volume.clone()).await.expect("opened");
    let (took, reads, reads_most) = (start.elapsed(), volume.take_reads(), most(&journal));
    assert_eq!((journal.points().count() as u64, recovery.suspect.len()), (points, 1));
    let start = Instant::now();
    for _ in 0..1000 {
        let chunk = random.below(journal.pair().chunks() - 16);
        journal.before_images(chunk..chunk + 16, FIRST).await.expect("looked up");
    }
    let lookup_us = start.elapsed().as_micros() / 1000;
    Opened { took, reads, reads_most, lookup_us, index_bytes: journal.space().expect("known").index_bytes }
}

impl Opened {
    /// Opening read no more than it must, and so nothing that grows with what
    /// points hold.
    fn check(&self) {
        let Self { reads, reads_most, index_bytes, .. } = self;
        println!("read {reads:?}, at most {reads_most:?}, of indexes of {index_bytes} bytes");
        assert!(reads.times <= reads_most.times && reads.bytes <= reads_most.bytes);
    }
}

#[test]
fn opening_reads_headers_and_the_tail() {
    let volume = Counted::new(Memory::default());
    let opened = now(open_after(volume, 64 << 30, 40, 200));
    assert!(opened.index_bytes > 0);
    opened.check();
}

/// The promise: 288 points over 1 TiB are opened in less than a second.
#[test]
#[ignore = "takes a minute; run it with --ignored --nocapture for the figure"]
fn opening_288_points_over_a_tebibyte() {
    let folder = tempfile::tempdir().expect("a folder");
    let opened = ring::run(async {
        let volume = Directory::open(folder.path(), "a test").expect("opened");
        open_after(Counted::new(volume), 1 << 40, 288, 4_000).await
    })
    .expect("a ring");
    println!(
        "opening 288 points over 1 TiB took {} ms; a lookup of 16 chunks at the oldest {} us; indexes {} MiB",
        opened.took.as_millis(),
        opened.lookup_us,
        opened.index_bytes >> 20
    );
    opened.check();
}

//! Benches of the stages that a chunk passes, on one core and without disks.
//!
//! Sizes are those of the data path: a chunk of 64 KiB, a window of 1 MiB.

#![allow(
    missing_docs,
    clippy::print_stderr,
    reason = "criterion makes public functions, and a bench talks to people"
)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use failback_benches::Content;
use failback_datapath::limits;
use failback_datapath::pipeline::{
    Codec, Compression, DigestAlgorithm, Digester, Packer, Pool, is_zero, unpack,
};
use failback_datapath::resync::{Fate, runs};
use failback_datapath::unit::{Digest, Extent, to_u64, to_usize};
use failback_datapath::wire::{Header, Kind, digests};

const CHUNK: usize = to_usize(limits::CHUNK_BYTES as u64);
const WINDOW: usize = to_usize(limits::WINDOW_BYTES as u64);
const SIZES: [(&str, usize); 2] = [("64KiB", CHUNK), ("1MiB", WINDOW)];

fn digest(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("digest");
    for (name, algorithm) in [("xxh3", DigestAlgorithm::Xxh3), ("blake3", DigestAlgorithm::Blake3)] {
        let digester = Digester::new(algorithm, [7; 32]);
        for (size, length) in SIZES {
            let bytes = Content::Random.bytes(length);
            group.throughput(Throughput::Bytes(to_u64(length)));
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| digester.digest(black_box(&bytes)));
            });
        }
    }
    group.finish();
}

fn zero_scan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("is_zero");
    for content in [Content::Zero, Content::Random] {
        for (size, length) in SIZES {
            let bytes = content.bytes(length);
            group.throughput(Throughput::Bytes(to_u64(length)));
            group.bench_function(BenchmarkId::new(content.name(), size), |bencher| {
                bencher.iter(|| is_zero(black_box(&bytes)));
            });
        }
    }
    group.finish();
}

fn pack(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pack");
    for (name, compression) in [("lz4", Compression::Lz4), ("zstd", Compression::Zstd)] {
        for content in Content::ALL {
            for (size, length) in SIZES {
                let bytes = content.bytes(length);
                let mut packer = Packer::new(compression);
                group.throughput(Throughput::Bytes(to_u64(length)));
                group.bench_function(
                    BenchmarkId::new(format!("{name}/{}", content.name()), size),
                    |bencher| {
                        bencher.iter(|| packer.pack(black_box(&bytes)).1.len());
                    },
                );
            }
        }
    }
    group.finish();
}

fn unpacking(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("unpack");
    for (name, compression) in [("lz4", Compression::Lz4), ("zstd", Compression::Zstd)] {
        for content in Content::ALL {
            for (size, length) in SIZES {
                let (codec, packed) = packed(compression, &content.bytes(length));
                let mut into = vec![0; length];
                group.throughput(Throughput::Bytes(to_u64(length)));
                group.bench_function(
                    BenchmarkId::new(format!("{name}/{}", content.name()), size),
                    |bencher| {
                        bencher.iter(|| unpack(codec, black_box(&packed), &mut into));
                    },
                );
            }
        }
    }
    group.finish();
}

fn packed(compression: Compression, bytes: &[u8]) -> (Codec, Vec<u8>) {
    let mut packer = Packer::new(compression);
    let (codec, packed) = packer.pack(bytes);
    (codec, packed.to_vec())
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    let extent = Extent::between(1 << 30, (1 << 30) + to_u64(WINDOW));
    let header = Header { kind: Kind::Data, detail: Codec::Lz4 as u8, payload_bytes: 300_000, extent };
    let bytes = header.encode();
    group.throughput(Throughput::Elements(1));
    group.bench_function("encode", |bencher| bencher.iter(|| black_box(&header).encode()));
    group.bench_function("decode", |bencher| bencher.iter(|| Header::decode(black_box(&bytes))));
    group.bench_function("check", |bencher| {
        bencher.iter(|| black_box(&header).check_chunks(black_box(2 << 30)));
    });
    let payload = Content::Random.bytes(WINDOW / CHUNK * Digest::BYTES);
    group.bench_function("digests", |bencher| {
        bencher.iter(|| digests(black_box(&payload)));
    });
    group.finish();
}

/// What a window of the target needs, where both sides are in memory.
fn comparison(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("runs");
    let window = Extent::between(0, to_u64(WINDOW));
    let source = Content::Random.bytes(WINDOW);
    let mut scattered = source.clone();
    scattered.chunks_mut(2 * CHUNK).for_each(|chunks| chunks[CHUNK - 1] ^= 1);
    let others =
        [("equal", source.clone()), ("scattered", scattered), ("different", Content::Text.bytes(WINDOW))];
    group.throughput(Throughput::Bytes(to_u64(WINDOW)));
    for (name, target) in &others {
        group.bench_function(BenchmarkId::new(*name, "1MiB"), |bencher| {
            bencher.iter(|| runs(window, |_, chunk| fate(black_box(&source), black_box(target), chunk)));
        });
    }
    group.finish();
}

fn fate(source: &[u8], target: &[u8], chunk: Extent) -> Fate {
    let range = to_usize(chunk.offset())..to_usize(chunk.end());
    match &source[range.clone()] {
        bytes if *bytes == target[range] => Fate::Equal,
        bytes if is_zero(bytes) => Fate::Zero,
        _ => Fate::Data,
    }
}

fn pool(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool");
    match Pool::new(limits::QUEUE_DEPTH) {
        Ok(pool) => {
            group.throughput(Throughput::Elements(1));
            group.bench_function("take and give back", |bencher| bencher.iter(|| drop(pool.try_take())));
        }
        Err(error) => eprintln!("no pool, no bench of it: {error}"),
    }
    group.finish();
}

criterion_group!(stages, digest, zero_scan, pack, unpacking, frames, comparison, pool);
criterion_main!(stages);

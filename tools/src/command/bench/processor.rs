//! Stages that need a processor and nothing else: digests, the search for
//! zeroes, packing and unpacking.

use std::hint::black_box;
use std::time::Instant;

use failback_datapath::limits;
use failback_datapath::pipeline::{Codec, Compression, DigestAlgorithm, Digester, Packer, is_zero, unpack};
use failback_datapath::telemetry::{Latencies, Stage};
use failback_datapath::unit::{to_u64, to_usize};

use super::measure::{Round, Stopwatch};
use super::sample::Content;
use super::{Error, Workbench};

const CHUNK: usize = to_usize(limits::CHUNK_BYTES as u64);
const WINDOW: usize = to_usize(limits::WINDOW_BYTES as u64);

/// The digests of all chunks.
pub fn hash(bench: &Workbench, algorithm: DigestAlgorithm) -> Result<Round, Error> {
    let digester = Digester::new(algorithm, [7; 32]);
    let windows = bench.sample.windows(|_| true);
    walk(bench, Stage::Digest, &windows, |window| {
        for chunk in window.chunks(CHUNK) {
            black_box(digester.digest(chunk));
        }
        Ok(())
    })
}

/// Finding out that chunks are zero.
pub fn zero_scan(bench: &Workbench) -> Result<Round, Error> {
    let windows = bench.sample.windows(|content| content == Content::Zero);
    walk(bench, Stage::Digest, &windows, |window| {
        for chunk in window.chunks(CHUNK) {
            black_box(is_zero(black_box(chunk)));
        }
        Ok(())
    })
}

/// Packing; zeroes are never packed, because they are never sent.
pub fn compress(bench: &Workbench, compression: Compression) -> Result<Round, Error> {
    let mut packer = Packer::new(compression);
    let windows = bench.sample.windows(|content| content != Content::Zero);
    walk(bench, Stage::Compress, &windows, |window| {
        black_box(packer.pack(window));
        Ok(())
    })
}

/// Unpacking what was packed before; what did not shrink is copied.
pub fn decompress(bench: &Workbench, compression: Compression) -> Result<Round, Error> {
    let mut packer = Packer::new(compression);
    let windows = bench.sample.windows(|content| content != Content::Zero);
    let pack = |window: &&[u8]| {
        let (codec, packed) = packer.pack(window);
        Packed { codec, bytes: packed.to_vec() }
    };
    let packed: Vec<Packed> = windows.iter().map(pack).collect();
    let mut into = vec![0; WINDOW];
    walk(bench, Stage::Decompress, &packed, |packed| {
        Ok(unpack(packed.codec, &packed.bytes, black_box(&mut into))?)
    })
}

struct Packed {
    codec: Codec,
    bytes: Vec<u8>,
}

/// Does `work` on one window after the other, over and over, until the size to
/// walk is reached.
fn walk<T>(
    bench: &Workbench,
    stage: Stage,
    windows: &[T],
    mut work: impl FnMut(&T) -> Result<(), Error>,
) -> Result<Round, Error> {
    let mut latencies = Latencies::default();
    let stopwatch = Stopwatch::start();
    for window in windows.iter().cycle().take(to_usize(bench.size_bytes) / WINDOW) {
        bench.cancel.check()?;
        let start = Instant::now();
        work(window)?;
        latencies.record(stage, start.elapsed());
    }
    Ok(stopwatch.stop(to_u64(to_usize(bench.size_bytes) / WINDOW * WINDOW), latencies))
}

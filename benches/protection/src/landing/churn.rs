//! Landing changes, with a point every so often.

use std::time::Instant;

use failback_datapath::delta::{Filling, Opened, Packed, Place, Shape};
use failback_datapath::journal::PointKind;
use failback_datapath::landing::replica::Cut;
use failback_datapath::ring;
use failback_datapath::unit::Chain;

use super::field::{Field, Real};
use crate::error::Error;
use crate::ground::fio::Pattern;

/// A point every so many deltas of 4 MiB.
const DELTAS_PER_POINT: u64 = 64;

/// A number without common factors with powers of two: every chunk comes once.
const STRIDE: u64 = 40_503;

/// What a run took.
pub struct Churn {
    /// From the first delta to the last point.
    pub seconds: f64,
}

/// Changes every chunk of the disk once.
///
/// # Errors
/// Those of the replica.
pub fn run(field: &Field<'_>, pattern: Pattern) -> Result<Churn, Error> {
    ring::run(async {
        let mut replica = field.enter().await?;
        // The first point ends the first synchronization, which keeps nothing.
        point(&mut replica).await?;
        let begun = Instant::now();
        pass(&mut replica, pattern, Some(DELTAS_PER_POINT)).await?;
        point(&mut replica).await?;
        Ok(Churn { seconds: begun.elapsed().as_secs_f64() })
    })?
}

/// Changes every chunk once, and leaves all of it in an epoch that is open.
///
/// # Errors
/// Those of the replica.
pub fn leave_open(field: &Field<'_>, pattern: Pattern) -> Result<(), Error> {
    ring::run(async {
        let mut replica = field.enter().await?;
        point(&mut replica).await?;
        pass(&mut replica, pattern, None).await
    })?
}

async fn pass(replica: &mut Real, pattern: Pattern, deltas_per_point: Option<u64>) -> Result<(), Error> {
    let mut content = Content::new();
    let (chunk, count) = (replica.journal().pair().chunk_size, replica.journal().pair().chunks());
    let per_delta = u64::from(failback_datapath::limits::DELTA_BYTES_MAX) / u64::from(chunk.bytes());
    for (number, first) in (1_u64..).zip((0..count).step_by(usize::try_from(per_delta).unwrap_or(1))) {
        let chunks = first..(first + per_delta).min(count);
        let delta = delta(replica, chunks.map(|chunk| place_of(pattern, chunk, count)), &mut content)?;
        replica.land(&[delta]).await?;
        if deltas_per_point.is_some_and(|deltas| number.is_multiple_of(deltas)) {
            point(replica).await?;
        }
    }
    Ok(())
}

const fn place_of(pattern: Pattern, index: u64, count: u64) -> u64 {
    match pattern {
        Pattern::Sequential => index,
        // Sizes are whole MiB, so that the count of chunks is even.
        Pattern::Random => index.wrapping_mul(STRIDE) % count,
    }
}

/// Bytes that do not repeat soon, and that no codec shrinks.
struct Content {
    noise: Vec<u8>,
    next: usize,
}

impl Content {
    fn new() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut noise = Vec::with_capacity(64 << 20);
        while noise.len() < 64 << 20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            noise.extend_from_slice(&state.to_le_bytes());
        }
        Self { noise, next: 0 }
    }

    fn take(&mut self, length: usize) -> &[u8] {
        // Shifted, so that no two deltas are alike.
        self.next = (self.next + length + 512) % (self.noise.len() - length);
        &self.noise[self.next..self.next + length]
    }
}

fn delta(replica: &Real, chunks: impl Iterator<Item = u64>, content: &mut Content) -> Result<Opened, Error> {
    let (pair, position) = (replica.journal().pair(), replica.position());
    let digester = pair.digester();
    let shape =
        Shape { disk_bytes: pair.size_bytes, chunk: pair.chunk_size, algorithm: pair.digest_algorithm };
    let mut chunks: Vec<u64> = chunks.collect();
    chunks.sort_unstable();
    let mut filling = Filling::new(shape);
    for chunk in chunks {
        let extent = pair.chunk_size.extent(chunk, pair.size_bytes);
        let bytes = content.take(usize::try_from(extent.length()).unwrap_or_default());
        filling.push_data(extent, bytes, digester.digest(bytes)).map_err(|_| Error::NoRoom)?;
    }
    let place =
        Place { generation: position.generation, epoch: position.epoch, number: position.landed.next() };
    let (head, payload) = filling.close(place).ok_or(Error::NoRoom)?.raw().into_parts();
    Packed::open(head, payload, |bytes| digester.digest(bytes))
        .map_err(|error| Error::Delta(error.to_string()))
}

async fn point(replica: &mut Real) -> Result<(), Error> {
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
        chunks: replica.journal().touched_chunks().len(),
        cut_unix_ms: epoch.0,
        freeze_ms: 0,
        machine_cut: None,
    };
    replica.cut(&cut).await?;
    Ok(replica.tend().await?)
}

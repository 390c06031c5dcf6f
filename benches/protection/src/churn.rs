//! Landing changes, with a point every so often.

use std::time::Instant;

use failback_datapath::delta::{Filling, Opened, Packed, Place, Shape};
use failback_datapath::journal::PointKind;
use failback_datapath::landing::replica::Cut;
use failback_datapath::ring;
use failback_datapath::unit::Chain;

use crate::arguments::Pattern;
use crate::error::Error;
use crate::field::{Field, Real};

/// A point every so many deltas of 4 MiB.
const DELTAS_PER_POINT: u64 = 64;

/// A number without common factors with powers of two: every chunk comes once.
const STRIDE: u64 = 40_503;

/// What a run took.
pub struct Churn {
    /// From the first delta to the last point.
    pub seconds: f64,
}

/// Changes every chunk of the disk once, and leaves the last epoch open.
///
/// # Errors
/// Those of the replica.
pub fn run(field: &Field, pattern: Pattern) -> Result<Churn, Error> {
    ring::run(async {
        let mut replica = field.enter().await?;
        // The first point ends the first synchronization, which keeps nothing.
        point(&mut replica).await?;
        let mut content = Content::new();
        let begun = Instant::now();
        let per_delta = u64::from(failback_datapath::limits::DELTA_BYTES_MAX)
            / u64::from(replica.journal().pair().chunk_size.bytes());
        let count = replica.journal().pair().chunks();
        for (number, first) in (0..count).step_by(usize::try_from(per_delta).unwrap_or(1)).enumerate() {
            let chunks = first..(first + per_delta).min(count);
            let delta = delta(&replica, chunks.map(|chunk| place_of(pattern, chunk, count)), &mut content)?;
            replica.land(&[delta]).await?;
            if (number as u64 + 1).is_multiple_of(DELTAS_PER_POINT) {
                point(&mut replica).await?;
            }
        }
        point(&mut replica).await?;
        let seconds = begun.elapsed().as_secs_f64();
        // For whoever opens it again: an epoch in its middle.
        for _ in 0..8 {
            let delta = delta(&replica, 0..per_delta.min(count), &mut content)?;
            replica.land(&[delta]).await?;
        }
        Ok(Churn { seconds })
    })?
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
    };
    replica.cut(&cut).await?;
    Ok(replica.tend().await?)
}

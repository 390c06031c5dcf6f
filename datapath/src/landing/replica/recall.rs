//! Recalling what chunks held: their before-images, as a stroke that puts them back.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use super::Error;
use super::stroke::{Bytes, Content, Piece, Stroke};
use crate::journal::{self, Before, BeforeImage, PackedImages, VolumeFile};
use crate::limits;
use crate::pipeline::{Pool, PooledBuffer};
use crate::ring::{self, Task};
use crate::unit::{ChunkSize, DeltaNumber, to_usize};

/// Before-images to be read, ascending by chunk. It borrows nothing, so that they are
/// read for one stroke while another falls.
pub(super) struct Recall<F> {
    pub delta: DeltaNumber,
    pub images: Vec<BeforeImage>,
    pub reads: Vec<PackedImages<F>>,
    /// Of [`PackedImages::BYTES_MAX`] each.
    pub windows: Pool,
    pub chunk: ChunkSize,
    pub disk_bytes: u64,
}

/// A read in flight: `None` where its buffer was lost with the ring.
struct Read<F> {
    images: Rc<PackedImages<F>>,
    task: Task<(Option<Result<(), journal::Error>>, PooledBuffer)>,
}

impl<F: VolumeFile + 'static> Recall<F> {
    /// Reads them.
    pub async fn run(self) -> Result<Stroke, Error> {
        let Self { delta, images, reads, windows, chunk, disk_bytes } = self;
        let places = places(&images, chunk, disk_bytes);
        let mut plain = vec![0; places.last().map_or(0, |last| last.end)];
        let mut left = reads.into_iter().map(Rc::new).peekable();
        let mut ahead = VecDeque::with_capacity(limits::QUEUE_DEPTH);
        loop {
            while ahead.len() < limits::QUEUE_DEPTH && left.peek().is_some() {
                // The first must wait for a buffer, the others only take what is left.
                let buffer = match windows.try_take() {
                    Some(buffer) => buffer,
                    None if ahead.is_empty() => windows.take().await,
                    None => break,
                };
                ahead.extend(left.next().map(|images| Read::begin(images, buffer)));
            }
            let Some(read) = ahead.pop_front() else { break };
            let (read, buffer) = read.end().await?;
            for image in read.images() {
                let index = images.binary_search_by_key(&image.chunk, |image| image.chunk);
                let place = index.ok().and_then(|index| places.get(index).cloned()).unwrap_or_default();
                read.unpack(image, buffer.bytes(), &mut plain[place])?;
            }
        }
        let memory = Arc::new(plain);
        let pieces = images.iter().zip(places).map(|(image, range)| Piece {
            extent: chunk.extent(image.chunk, disk_bytes),
            content: match image.before {
                Before::Zero => Content::Zero,
                _ => Content::Data {
                    digest: image.digest,
                    bytes: Bytes { memory: Arc::clone(&memory), range },
                },
            },
        });
        Ok(Stroke { delta, pieces: pieces.collect() })
    }
}

impl<F: VolumeFile + 'static> Read<F> {
    fn begin(images: Rc<PackedImages<F>>, mut buffer: PooledBuffer) -> Self {
        let read = Rc::clone(&images);
        let task = ring::spawn(async move {
            let result = buffer.lend(async |memory| read.read(memory).await).await;
            (result, buffer)
        });
        Self { images, task }
    }

    async fn end(mut self) -> Result<(Rc<PackedImages<F>>, PooledBuffer), Error> {
        let ended = self.task.join().await;
        let (result, buffer) = ended.map_err(|source| Error::Memory { source })?;
        result.ok_or_else(|| Error::Memory { source: io::ErrorKind::OutOfMemory.into() })??;
        Ok((self.images, buffer))
    }
}

/// Where each image goes in one memory; zeroes need no room there.
fn places(images: &[BeforeImage], chunk: ChunkSize, disk_bytes: u64) -> Vec<Range<usize>> {
    let mut end = 0;
    let mut place = |image: &BeforeImage| {
        let start = end;
        if image.before != Before::Zero {
            end += to_usize(chunk.extent(image.chunk, disk_bytes).length());
        }
        start..end
    };
    images.iter().map(&mut place).collect()
}

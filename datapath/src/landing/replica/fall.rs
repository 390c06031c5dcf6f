//! A stroke that falls: into the journal, and then onto the target.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::sync::watch;

use super::Error;
use super::overwrites::Overwrites;
use super::stroke::{Content, Piece, Stroke};
use crate::disk::Blocks;
use crate::journal::{Appending, Batch, VolumeFile};
use crate::limits;
use crate::pipeline::Pool;
use crate::unit::Extent;

/// Batches to be filled again.
pub(super) type Batches = Rc<RefCell<Vec<Batch>>>;

/// A stroke whose before-images have their place in the log, if they are kept.
pub(super) struct Fall<B, F> {
    pub stroke: Stroke,
    pub appending: Option<Appending<F>>,
    /// Earlier strokes on some of the same chunks.
    pub after: Vec<watch::Receiver<()>>,
    /// Gone when it has fallen.
    pub falling: watch::Sender<()>,
    pub disk: Rc<B>,
    pub windows: Pool,
    pub batches: Batches,
}

impl<B: Blocks + 'static, F: VolumeFile> Fall<B, F> {
    /// Makes what was there durable in the journal, then overwrites it.
    pub async fn run(self) -> Result<(), Error> {
        let Self { stroke, appending, after, falling, disk, windows, batches } = self;
        if let Some(appending) = appending {
            let (durable, batch) = appending.finish().await;
            let mut batches = batches.borrow_mut();
            if batches.len() < limits::STROKES_AHEAD + limits::STROKES_IN_HAND {
                batches.push(batch);
            }
            durable?;
        }
        for mut earlier in after {
            while earlier.changed().await.is_ok() {}
        }
        let mut overwrites = Overwrites::new(disk, windows);
        let begun = overwrite(&mut overwrites, &stroke.pieces).await;
        let ended = overwrites.settle().await;
        drop(falling);
        begun.and(ended)
    }
}

/// Puts pieces onto the target, neighbours together.
async fn overwrite<B: Blocks + 'static>(
    overwrites: &mut Overwrites<B>,
    mut pieces: &[Piece],
) -> Result<(), Error> {
    while let Some((first, rest)) = pieces.split_first() {
        let Content::Data { .. } = first.content else {
            overwrites.zero(first.extent).await?;
            pieces = rest;
            continue;
        };
        let (together, rest) = pieces.split_at(neighbours(pieces));
        let end = together.last().map_or(first.extent.end(), |last| last.extent.end());
        let whole = Extent::between(first.extent.offset(), end);
        overwrites.write(whole, |buffer| gather(together, buffer)).await?;
        pieces = rest;
    }
    Ok(())
}

/// How many of the first pieces are data, side by side, and no more than a window.
fn neighbours(pieces: &[Piece]) -> usize {
    let mut end = None;
    let mut bytes = 0;
    let mut follows = |piece: &&Piece| {
        let beside = end.is_none_or(|end| end == piece.extent.offset());
        bytes += piece.extent.length();
        end = Some(piece.extent.end());
        matches!(piece.content, Content::Data { .. }) && beside && bytes <= u64::from(limits::WINDOW_BYTES)
    };
    pieces.iter().take_while(|piece| follows(piece)).count().max(1)
}

fn gather(pieces: &[Piece], buffer: &mut [u8]) {
    let mut from = 0;
    for piece in pieces {
        if let Content::Data { bytes, .. } = &piece.content {
            let bytes = bytes.get();
            buffer[from..from + bytes.len()].copy_from_slice(bytes);
            from += bytes.len();
        }
    }
}

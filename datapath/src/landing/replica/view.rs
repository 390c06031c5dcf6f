//! The disk as it was at a point.

use std::rc::Rc;

use super::{Error, Replica};
use crate::disk::Blocks;
use crate::journal::{PairState, Volume};
use crate::limits;
use crate::sys::Buffer;
use crate::unit::{Epoch, Extent, to_usize};

impl<B: Blocks + 'static, V: Volume> Replica<B, V> {
    /// Reads what `extent`, whole chunks, held at the point `at` into the start
    /// of `buffer`, which comes back whatever happens.
    ///
    /// The disk is read first and the journal asked then: what is overwritten in
    /// between is in the journal before.
    ///
    /// # Errors
    /// No such point, [`Error::Unaligned`], those of reading.
    pub async fn read_at(
        &self,
        at: Epoch,
        extent: Extent,
        mut buffer: Buffer,
    ) -> (Result<(), Error>, Buffer) {
        if let Err(error) = self.check_view(at, extent, buffer.bytes().len()) {
            return (Err(error), buffer);
        }
        let (result, back) = Rc::clone(&self.disk).read(extent, buffer).await;
        buffer = back;
        if let Err(error) = result {
            return (Err(error.into()), buffer);
        }
        let bytes = &mut buffer.bytes_mut()[..to_usize(extent.length())];
        // What a lookup finds may still be on its way into the log.
        let result = match self.journal.settle().await {
            Ok(()) => self.journal.overlay(at, extent, bytes).await,
            Err(error) => Err(error),
        };
        (result.map_err(Error::from), buffer)
    }

    fn check_view(&self, at: Epoch, extent: Extent, room: usize) -> Result<(), Error> {
        if matches!(self.state(), PairState::Initial | PairState::Corrupted) {
            let remedy = "a target without a point is no disk: wait for the end of its first synchronization";
            return Err(Error::OutOfTurn { what: "reading a point", state: self.state(), remedy });
        }
        self.journal.point(at)?;
        let pair = self.journal.pair();
        let fits = pair.chunk_size.fits(extent, pair.size_bytes) && to_usize(extent.length()) <= room;
        if !fits || pair.chunk_size.count(extent.length()) > limits::LOOKUP_CHUNKS_MAX {
            return Err(Error::Unaligned { extent });
        }
        Ok(())
    }
}

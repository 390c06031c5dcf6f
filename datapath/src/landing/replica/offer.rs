//! Offers: which chunks of a window differ from what the source holds.

use std::rc::Rc;

use roaring::RoaringBitmap;

use super::keep::runs;
use super::land::narrow;
use super::reading::Reading;
use super::{Error, Replica};
use crate::disk::Blocks;
use crate::journal::Volume;
use crate::limits;
use crate::unit::{Digest, Epoch, Extent, Generation, to_u64, to_usize};

impl<B: Blocks + 'static, V: Volume> Replica<B, V> {
    /// Says which chunks of `window` do not have the `digests` that the source
    /// offers, by their numbers on the disk: by the journal's digests, or by
    /// reading the target where there are none.
    ///
    /// What is not wanted counts as landed at the source, so it is durable here
    /// before this answers.
    ///
    /// # Errors
    /// [`Error::Unaligned`] where `window` and `digests` do not fit together, and
    /// those of reading.
    pub async fn want(
        &mut self,
        generation: Generation,
        window: Extent,
        digests: &[Digest],
    ) -> Result<RoaringBitmap, Error> {
        self.step(async |replica| {
            replica.check_landing("an offer")?;
            replica.check_generation(generation)?;
            let pair = replica.journal.pair();
            let count = pair.chunk_size.count(window.length());
            let fits = pair.chunk_size.fits(window, pair.size_bytes);
            if !fits || count > limits::LOOKUP_CHUNKS_MAX || to_u64(digests.len()) != count {
                return Err(Error::Unaligned { extent: window });
            }
            let first = pair.chunk_size.index(window.offset());
            if replica.undurable.range_cardinality(narrow(first)..narrow(first + count)) > 0 {
                replica.make_durable().await?;
            }
            replica.compare(first, digests).await
        })
        .await
    }

    async fn compare(&self, first: u64, offered: &[Digest]) -> Result<RoaringBitmap, Error> {
        let pair = self.journal.pair();
        let held = self.journal.digests(first..first + to_u64(offered.len())).await?;
        let (mut wanted, mut equal) = (RoaringBitmap::new(), Vec::new());
        let mut unknown = Vec::new();
        for ((chunk, offered), held) in (first..).zip(offered).zip(&held) {
            match held {
                Some(held) if held == offered => {}
                Some(_) => drop(wanted.insert(narrow(chunk))),
                None => unknown.push(chunk),
            }
        }
        let plan = runs(unknown, pair.chunk_size, pair.size_bytes).into_iter();
        let mut reading = Reading::new(Rc::clone(&self.disk), self.windows.clone(), plan);
        let digester = pair.digester();
        while let Some((extent, buffer)) = reading.next().await? {
            let bytes = &buffer.bytes()[..to_usize(extent.length())];
            let start = pair.chunk_size.index(extent.offset());
            let size = to_usize(u64::from(pair.chunk_size.bytes()));
            for (chunk, bytes) in (start..).zip(bytes.chunks(size)) {
                let digest = digester.digest(bytes);
                if offered.get(to_usize(chunk - first)) == Some(&digest) {
                    equal.push((chunk, digest));
                } else {
                    wanted.insert(narrow(chunk));
                }
            }
        }
        self.journal.learn_digests(equal).await?;
        Ok(wanted)
    }

    pub(super) fn check_generation(&self, given: Generation) -> Result<(), Error> {
        let held = self.journal.pair().generation;
        if given == held { Ok(()) } else { Err(Error::Generation { given, held }) }
    }

    pub(super) fn check_epoch(&self, generation: Generation, given: Epoch) -> Result<(), Error> {
        self.check_generation(generation)?;
        let open = self.journal.open_epoch();
        if given == open { Ok(()) } else { Err(Error::Epoch { given, open }) }
    }
}

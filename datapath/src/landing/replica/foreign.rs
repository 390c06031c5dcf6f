//! What others wrote to a target that was left to itself.
//!
//! Between a fence and a commit people mount, boot and look at a target, and an
//! agent that is away leaves one alone too. What is written to it then is in no
//! journal, so every point that shares those chunks would read back wrong. The
//! target's own count of writes says at once that nobody wrote it; where it says
//! anything else, or nothing (after a reboot), the target is read and held
//! against the digests of what it should hold.

use std::rc::Rc;

use super::reading::Reading;
use super::{Error, Replica};
use crate::disk::{Blocks, WriteMark, Written};
use crate::journal::Volume;
use crate::limits;
use crate::unit::{Epoch, Extent, to_usize};

/// Chunks that do not hold what they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignWrites {
    /// How many.
    pub chunks: u64,
    /// The first of them.
    pub first: Extent,
}

/// What a rewind, a copy and a commit do about writes of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnForeignWrites {
    /// They are refused.
    Refuse,
    /// They are kept: the machine was run on the target already, or there is nothing better.
    Accept,
}

impl<B: Blocks + 'static, V: Volume> Replica<B, V> {
    /// What others wrote to a target that is fenced or at a point; `None` where
    /// nobody did, and in every state in which nobody may.
    ///
    /// # Errors
    /// Those of reading target and digests.
    ///
    /// Chunks without a digest (what a crash left open) count where the target was
    /// written for certain.
    pub async fn foreign_writes(&self) -> Result<Option<ForeignWrites>, Error> {
        if !self.state().can_rewind() || self.written_since_left() == Written::No {
            return Ok(None);
        }
        self.differing_from_digests().await
    }

    /// Whether others wrote the target since [`Self::leave`].
    pub fn written_since_left(&self) -> Written {
        self.disk.write_mark().written_since(&self.journal.pair().target_writes)
    }

    /// Notes what the target shows of its writes: it is left to itself now.
    ///
    /// # Errors
    /// Those of the journal.
    pub async fn leave(&mut self) -> Result<(), Error> {
        self.step(async |replica| {
            let mark = replica.disk.write_mark();
            Ok(replica.journal.update_pair(|pair| pair.target_writes = mark).await?)
        })
        .await
    }

    /// Forgets that: from now on the writes are ours.
    ///
    /// # Errors
    /// Those of the journal.
    pub async fn take_up(&mut self) -> Result<(), Error> {
        self.step(async |replica| match replica.journal.pair().target_writes.is_empty() {
            true => Ok(()),
            false => {
                Ok(replica.journal.update_pair(|pair| pair.target_writes = WriteMark::default()).await?)
            }
        })
        .await
    }

    /// What rewinds and copies do about writes of others from now on.
    pub const fn set_on_foreign_writes(&mut self, on_foreign_writes: OnForeignWrites) {
        self.on_foreign_writes = on_foreign_writes;
    }

    /// Refuses a point that may hold what others wrote, unless that is accepted.
    ///
    /// # Errors
    /// No such point, [`Error::Inexact`].
    pub fn check_exact(&self, point: Epoch) -> Result<(), Error> {
        let is_exact = self.journal.is_exact(point)?;
        // Whoever opens it to go on notes it; whoever only looks sees it all the same.
        let is_written = self.state().lands() && self.written_since_left() == Written::Yes;
        match self.on_foreign_writes {
            OnForeignWrites::Refuse if is_written || !is_exact => Err(Error::Inexact { point }),
            _ => Ok(()),
        }
    }

    /// Refuses a target that others wrote to, unless that is accepted.
    ///
    /// # Errors
    /// [`Error::ForeignWrites`], and those of [`Self::foreign_writes`].
    pub async fn check_untouched(&self) -> Result<(), Error> {
        if self.on_foreign_writes == OnForeignWrites::Accept {
            return Ok(());
        }
        match self.foreign_writes().await? {
            None => Ok(()),
            Some(ForeignWrites { chunks, first }) => Err(Error::ForeignWrites { chunks, first }),
        }
    }

    async fn differing_from_digests(&self) -> Result<Option<ForeignWrites>, Error> {
        let pair = self.journal.pair();
        let (digester, size) = (pair.digester(), to_usize(u64::from(pair.chunk_size.bytes())));
        let plan = Extent::between(0, pair.size_bytes).split_at_multiples(u64::from(limits::WINDOW_BYTES));
        let mut reading = Reading::new(Rc::clone(&self.disk), self.windows.clone(), plan);
        let [mut found, mut unknown]: [Option<ForeignWrites>; 2] = [None; 2];
        while let Some((window, buffer)) = reading.next().await? {
            let first = pair.chunk_size.index(window.offset());
            let known = self.journal.digests(first..first + pair.chunk_size.count(window.length())).await?;
            let chunks = buffer.bytes()[..to_usize(window.length())].chunks(size);
            for ((chunk, bytes), known) in (first..).zip(chunks).zip(known) {
                let of = match known {
                    None => &mut unknown,
                    Some(known) if known != digester.digest(bytes) => &mut found,
                    Some(_) => continue,
                };
                let first = pair.chunk_size.extent(chunk, pair.size_bytes);
                of.get_or_insert(ForeignWrites { chunks: 0, first }).chunks += 1;
            }
        }
        // Where something was written, it may be what nothing is known of.
        let suspect = unknown.filter(|_| self.written_since_left() == Written::Yes);
        Ok(found.or(suspect))
    }
}

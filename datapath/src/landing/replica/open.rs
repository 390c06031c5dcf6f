//! Making a replica, and finding it again after whatever happened.

use std::rc::Rc;

use roaring::RoaringBitmap;

use super::fall::Batches;
use super::in_hand::InHand;
use super::stroke::ZeroDigests;
use super::windows::Windows;
use super::{Course, Error, OnForeignWrites, Replica};
use crate::delta::Manifest;
use crate::disk::Blocks;
use crate::journal::{Journal, PackedImages, Pair, PairState, PointKind, Recovery, Volume};
use crate::limits;
use crate::unit::{DeltaNumber, to_usize};

impl<B: Blocks + 'static, V: Volume> Replica<B, V> {
    /// Makes a replica on `disk` with its journal on the empty `volume`. It
    /// begins with its first synchronization.
    ///
    /// # Errors
    /// [`Error::Size`], and then nothing was written; those of the journal.
    pub async fn create(disk: B, volume: V, pair: Pair) -> Result<Self, Error> {
        check_size(&disk, &pair)?;
        let journal = Journal::create(volume, Pair { state: PairState::Initial, ..pair }).await?;
        Self::of(disk, journal, Course::default())
    }

    /// Opens a replica: the epoch that was open goes on from what is durable of
    /// it. A rewind that a crash interrupted waits for [`Self::resume`].
    ///
    /// # Errors
    /// [`Error::Size`], those of the journal, and of the target's flush.
    pub async fn open(disk: B, volume: V) -> Result<(Self, Recovery), Error> {
        let (journal, recovery) = Journal::open(volume).await?;
        check_size(&disk, journal.pair())?;
        // What a comparison reads from here on must not be lost by a power cut:
        // the process that wrote it may have ended before its flush.
        disk.flush().await?;
        let course = Course { landed: recovery.landed, manifest: recovery.manifest };
        let mut replica = Self::of(disk, journal, course)?;
        replica.finish_change_of_state().await?;
        Ok((replica, recovery))
    }

    fn of(disk: B, journal: Journal<V>, course: Course) -> Result<Self, Error> {
        let memory = |source| Error::Memory { source };
        let disk = Rc::new(disk);
        let window = to_usize(u64::from(limits::WINDOW_BYTES));
        Ok(Self {
            in_hand: InHand::default(),
            windows: Windows::new(window).map_err(memory)?,
            writes: Windows::new(window).map_err(memory)?,
            recalls: Windows::new(PackedImages::<V::File>::BYTES_MAX).map_err(memory)?,
            zeroes: ZeroDigests::new(journal.pair()),
            disk,
            batches: Batches::default(),
            journal,
            course,
            undurable: RoaringBitmap::new(),
            leaves_free_bytes: 0,
            on_foreign_writes: OnForeignWrites::Refuse,
            stopped: None,
            restored: None,
        })
    }

    /// A point is one record and the state after it another: does what a crash
    /// between the two left undone.
    async fn finish_change_of_state(&mut self) -> Result<(), Error> {
        let newest = self.journal.points().next_back().map(|point| point.kind);
        let is_fresh = self.is_fresh();
        let after = match (self.state(), newest) {
            (PairState::Initial, Some(_)) => PairState::Protected,
            (PairState::Rewinding { to }, Some(PointKind::Rewind { to: reached }))
                if to == reached && is_fresh =>
            {
                PairState::Rewound { at: to }
            }
            _ => return Ok(()),
        };
        Ok(self.journal.update_pair(|pair| pair.state = after).await?)
    }

    /// Whether nothing has happened in the open epoch.
    pub(super) fn is_fresh(&self) -> bool {
        self.course.landed == DeltaNumber::default()
            && self.course.manifest == Manifest::EMPTY
            && self.journal.touched_chunks().is_empty()
    }
}

fn check_size(disk: &impl Blocks, pair: &Pair) -> Result<(), Error> {
    let (found_bytes, expected_bytes) = (disk.size_bytes(), pair.size_bytes);
    if found_bytes != expected_bytes {
        return Err(Error::Size { found_bytes, expected_bytes });
    }
    Ok(())
}

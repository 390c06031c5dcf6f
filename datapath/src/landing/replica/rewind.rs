//! What is done with a pair besides landing: fence, rewind, commit, begin and
//! give up a synchronization.
//!
//! ```text
//! Protected ──fence──> Fenced ──rewind──> Rewinding ──> Rewound ──commit──> Committed
//!     ▲                  │                    ▲            │                    │
//!     ├─────unfence──────┘                    └──rewind────┘                    │
//!     ├──cut── Resyncing <──begin_synchronization───────────────────────────────┘
//!     └─────── RollingBack <──cancel_synchronization── Resyncing
//! Initial ──cut──> Protected; Initial ──cancel──> Corrupted ──begin──> Initial
//! ```

use roaring::RoaringBitmap;

use super::restore::Keeping;
use super::{Course, Cut, Error, OnForeignWrites, Replica};
use crate::disk::{Blocks, WriteMark, Written};
use crate::journal::{Clock, Pair, PairState, PointKind, Volume};
use crate::unit::{Epoch, Generation};

impl<B: Blocks + 'static, V: Volume> Replica<B, V> {
    /// The source has stopped for good: from now on nothing lands. What had
    /// landed after the last point stays in the open epoch.
    ///
    /// # Errors
    /// [`Error::OutOfTurn`] before there is a point, and while it rolls back.
    pub async fn fence(&mut self) -> Result<(), Error> {
        self.step(async |replica| match replica.state() {
            state if state.can_rewind() => Ok(()),
            state @ (PairState::Protected | PairState::Resyncing) => {
                replica.make_durable().await?;
                let awaits_comparison = state == PairState::Resyncing;
                replica.enter_with(PairState::Fenced, |pair| pair.awaits_comparison = awaits_comparison).await
            }
            _ => Err(replica.refuse("a fence", "a pair is fenced once it has a point")),
        })
        .await
    }

    /// Lifts a fence: the source goes on after all, where it was; or with a
    /// comparison of the two disks where one was not finished, or where others wrote
    /// to the target meanwhile.
    ///
    /// # Errors
    /// [`Error::OutOfTurn`] once a rewind has begun.
    pub async fn unfence(&mut self) -> Result<(), Error> {
        self.step(async |replica| match replica.state() {
            PairState::Protected => Ok(()),
            // What it holds is for reading to find out.
            PairState::Fenced if replica.foreign_writes().await?.is_some() => {
                replica.doubt(PairState::Resyncing).await
            }
            PairState::Fenced if replica.journal.pair().awaits_comparison => {
                replica.enter(PairState::Resyncing).await
            }
            PairState::Fenced => replica.enter(PairState::Protected).await,
            _ => Err(replica.refuse("lifting the fence", "commit a point, then compare the two disks")),
        })
        .await
    }

    /// Takes a fenced target to the point `to`, earlier or later than where it
    /// is. Every other point stays within reach until [`Self::commit`].
    ///
    /// The rewind is an epoch of its own, closed by a point of its kind.
    ///
    /// # Errors
    /// [`Error::OutOfTurn`]; no such point; [`Error::Inexact`] and
    /// [`Error::ForeignWrites`] unless they are accepted; no space for what it would
    /// journal. All of it is found out before anything is changed.
    pub async fn rewind(&mut self, to: Epoch) -> Result<(), Error> {
        self.step(async |replica| {
            replica.check_can_rewind()?;
            replica.rewind_to(to).await
        })
        .await
    }

    /// How many bytes a rewind to `to` would look at, and that there is room to
    /// journal what it overwrites. Changes nothing.
    ///
    /// # Errors
    /// As [`Self::rewind`].
    pub async fn rehearse_rewind(&self, to: Epoch) -> Result<u64, Error> {
        self.check_can_rewind()?;
        let (changed, first_touches) = self.plan_rewind(to).await?;
        self.journal.ensure_room(first_touches, self.leaves_free_bytes)?;
        Ok(changed.len().saturating_mul(u64::from(self.journal.pair().chunk_size.bytes())))
    }

    /// Has `hear` told how many bytes of how many a rewind has looked at.
    pub fn watch_restoration(&mut self, hear: impl Fn(u64, u64) + 'static) {
        self.restored = Some(Box::new(hear));
    }

    fn check_can_rewind(&self) -> Result<(), Error> {
        if self.state().can_rewind() { Ok(()) } else { Err(self.refuse("a rewind", "fence the pair first")) }
    }

    /// The chunks that a rewind to `to` looks at, and how many of them it touches
    /// for the first time.
    async fn plan_rewind(&self, to: Epoch) -> Result<(RoaringBitmap, u64), Error> {
        // What is on its way there was accepted when it began.
        if self.state() != (PairState::Rewinding { to }) {
            self.check_exact(to)?;
        }
        self.check_untouched().await?;
        let changed = self.journal.chunks_since(to).await?;
        let first_touches = changed.len() - changed.intersection_len(self.journal.touched_chunks());
        Ok((changed, first_touches))
    }

    async fn rewind_to(&mut self, to: Epoch) -> Result<(), Error> {
        self.in_hand.settle().await?;
        let (changed, first_touches) = self.plan_rewind(to).await?;
        self.note_accepted().await?;
        self.journal.reserve_room(first_touches, self.leaves_free_bytes)?;
        if self.state() != (PairState::Rewinding { to }) {
            self.enter(PairState::Rewinding { to }).await?;
        }
        let manifest = self.restore(&changed, to, Keeping::Journaled).await?;
        self.flush_target().await?;
        let cut = Cut {
            generation: self.journal.pair().generation,
            epoch: self.journal.open_epoch(),
            deltas: self.course.landed,
            manifest,
            chain: self.chain_with(manifest),
            kind: PointKind::Rewind { to },
            name: String::new(),
            machine_cut: None,
            chunks: changed.len(),
            cut_unix_ms: Clock::now().wall_unix_ms,
            freeze_ms: 0,
        };
        self.close(&cut).await?;
        self.journal.release_room()?;
        self.enter(PairState::Rewound { at: to }).await
    }

    /// Settles on what the target holds, a point: what comes now is of a new
    /// generation, which this gives.
    ///
    /// # Errors
    /// [`Error::OutOfTurn`] where the target holds no point: not fenced, not at
    /// the end of a rewind, or with deltas after its last point;
    /// [`Error::Inexact`] and [`Error::ForeignWrites`] unless they are accepted.
    pub async fn commit(&mut self, foreign: OnForeignWrites) -> Result<Generation, Error> {
        self.step(async |replica| {
            match replica.state() {
                PairState::Committed => return Ok(replica.journal.pair().generation),
                PairState::Rewound { .. } => {}
                PairState::Fenced if replica.is_fresh() => {}
                PairState::Fenced => {
                    return Err(
                        replica.refuse("a commit", "deltas landed after the last point: rewind to one")
                    );
                }
                _ => return Err(replica.refuse("a commit", "fence the pair and choose a point first")),
            }
            replica.set_on_foreign_writes(foreign);
            replica.check_untouched().await?;
            if let Some(newest) = replica.journal.newest_point().map(|point| point.epoch) {
                replica.check_exact(newest)?;
            }
            replica.note_accepted().await?;
            replica.fork(PairState::Committed).await
        })
        .await
    }

    /// Source and target are to be brought together by digests. A target with
    /// points keeps them: what is overwritten is journaled as ever.
    ///
    /// # Errors
    /// [`Error::OutOfTurn`] while it is fenced or rewound.
    pub async fn begin_synchronization(&mut self) -> Result<(), Error> {
        self.step(async |replica| match replica.state() {
            PairState::Initial | PairState::Resyncing => Ok(()),
            PairState::Corrupted => replica.enter(PairState::Initial).await,
            PairState::Protected => replica.enter(PairState::Resyncing).await,
            // It was free to be run: what is on it now is for reading to find out.
            PairState::Committed if replica.written_since_left() == Written::No => {
                replica.journal.forget_digests().await?;
                replica.enter(PairState::Resyncing).await
            }
            PairState::Committed => replica.doubt(PairState::Resyncing).await,
            _ => Err(replica.refuse("a synchronization", "commit a point first, or lift the fence")),
        })
        .await
    }

    /// Somebody else may have written the target: no digest of it counts any more,
    /// and a target with points is compared as a whole before it has another.
    ///
    /// # Errors
    /// Those of the journal.
    pub async fn distrust(&mut self) -> Result<(), Error> {
        self.step(async |replica| match replica.state() {
            PairState::Protected | PairState::Resyncing => replica.doubt(PairState::Resyncing).await,
            PairState::Initial => Ok(replica.journal.forget_digests().await?),
            // Whoever wants to do something with it reads it first.
            PairState::Fenced | PairState::Rewound { .. } => {
                Ok(replica.journal.update_pair(|pair| pair.target_writes = WriteMark::default()).await?)
            }
            _ => Ok(()),
        })
        .await
    }

    /// Gives a synchronization up. A target with points goes back to the last of
    /// them, as a new generation; one without is [`PairState::Corrupted`].
    ///
    /// # Errors
    /// [`Error::OutOfTurn`] where none is running, and those of reading back.
    pub async fn cancel_synchronization(&mut self) -> Result<(), Error> {
        self.step(async |replica| match replica.state() {
            PairState::Corrupted => Ok(()),
            PairState::Initial => {
                replica.make_durable().await?;
                replica.enter(PairState::Corrupted).await
            }
            PairState::Resyncing => replica.roll_back().await,
            _ => Err(replica.refuse("giving up a synchronization", "none is running")),
        })
        .await
    }

    /// Goes on with what a crash interrupted: a rewind, a way back to the last
    /// point. Nothing to do in every other state.
    ///
    /// # Errors
    /// As those steps.
    pub async fn resume(&mut self) -> Result<(), Error> {
        self.step(async |replica| match replica.state() {
            PairState::Rewinding { to } => replica.rewind_to(to).await,
            PairState::RollingBack => replica.roll_back().await,
            _ => Ok(()),
        })
        .await
    }

    /// Undoes the open epoch. Nothing of it is kept, so that a full journal does
    /// not stand in the way.
    async fn roll_back(&mut self) -> Result<(), Error> {
        let newest = self.journal.points().next_back().map(|point| point.epoch);
        let Some(newest) = newest else {
            return Err(self.refuse("going back", "there is no point to go back to"));
        };
        self.in_hand.settle().await?;
        if self.is_fresh() && self.state() == PairState::Resyncing {
            return self.enter(PairState::Protected).await;
        }
        if self.state() != PairState::RollingBack {
            self.enter(PairState::RollingBack).await?;
        }
        if !self.is_fresh() {
            let touched = self.journal.touched_chunks().clone();
            self.restore(&touched, newest, Keeping::Dropped).await?;
            self.flush_target().await?;
            self.journal.roll_back().await?;
            self.course = Course::default();
        }
        self.fork(PairState::Protected).await.map(drop)
    }

    /// Notes which machine the source belongs to, and the key that it is known by,
    /// from its first visit on.
    ///
    /// # Errors
    /// Those of the journal.
    pub async fn remember_machine(&mut self, identity: &str, key: &str) -> Result<(), Error> {
        self.step(async |replica| {
            let name = |pair: &mut Pair| {
                (pair.machine_identity, pair.machine_key) = (identity.to_owned(), key.to_owned());
            };
            Ok(replica.journal.update_pair(name).await?)
        })
        .await
    }

    /// Work on the journal that can wait: after a point was answered.
    ///
    /// # Errors
    /// Those of the journal.
    pub async fn tend(&mut self) -> Result<(), Error> {
        self.step(async |replica| {
            while replica.journal.merge().await? {}
            Ok(())
        })
        .await
    }

    /// In a fenced or rewound state the target is left to itself.
    async fn enter(&mut self, state: PairState) -> Result<(), Error> {
        self.enter_with(state, |_| {}).await
    }

    async fn enter_with(&mut self, state: PairState, change: impl FnOnce(&mut Pair)) -> Result<(), Error> {
        let target_writes = match state {
            PairState::Fenced | PairState::Rewound { .. } => self.disk.write_mark(),
            _ => WriteMark::default(),
        };
        let enter = |pair: &mut Pair| {
            (pair.state, pair.target_writes) = (state, target_writes);
            change(pair);
        };
        Ok(self.journal.update_pair(enter).await?)
    }

    /// Notes writes of others that are accepted, before the target is written again: its
    /// count would not show them any more.
    async fn note_accepted(&mut self) -> Result<(), Error> {
        let is_accepted = self.on_foreign_writes == OnForeignWrites::Accept;
        if is_accepted && self.foreign_writes().await?.is_some() {
            self.doubt(self.state()).await
        } else {
            Ok(())
        }
    }

    /// Somebody else wrote to the target: no digest of it counts any more, and no
    /// point that was made before.
    async fn doubt(&mut self, state: PairState) -> Result<(), Error> {
        self.journal.forget_digests().await?;
        let exact_from = Some(self.journal.open_epoch());
        self.enter_with(state, |pair| pair.exact_from = exact_from).await
    }

    /// History forks here.
    async fn fork(&mut self, state: PairState) -> Result<Generation, Error> {
        // One that is committed is left to whoever runs it.
        let target_writes = match state {
            PairState::Committed => self.disk.write_mark(),
            _ => WriteMark::default(),
        };
        let fork = |pair: &mut Pair| {
            (pair.generation, pair.state) = (pair.generation.next(), state);
            pair.target_writes = target_writes;
        };
        self.journal.update_pair(fork).await?;
        Ok(self.journal.pair().generation)
    }

    fn refuse(&self, what: &'static str, remedy: &'static str) -> Error {
        Error::OutOfTurn { what, state: self.state(), remedy }
    }
}

//! A disk whose changes nobody knows: passed as a whole in the background, a slice
//! at a time, and once more within a freeze where it is small.
//!
//! A cut of it holds only if nobody has written it since the whole of it was last
//! read. Until then it holds up no other disk: it is left out of their cuts.

use std::time::{Duration, Instant};

use super::Lane;
use super::work::Work;
use crate::disk::WriteMark;
use crate::limits;
use crate::role::agent::order::Report;
use crate::role::agent::status::Passes;
use crate::role::agent::target_digests::TargetDigests;
use crate::role::{Disk, Error};
use crate::track::ChunkSet;

/// Passes over a whole disk.
pub(super) struct Whole {
    /// What its target holds, where the disk is small enough for that.
    pub(super) known: Option<TargetDigests>,
    under_way: Option<Pass>,
    last: Option<Pass>,
    /// The next one begins no sooner.
    again_at: Instant,
}

/// One pass, as far as it has come.
struct Pass {
    /// What the disk had shown of its writes before; `None` once something was
    /// read that was not sent.
    before: Option<WriteMark>,
    began: Instant,
    /// Without what limits held it up.
    took: Duration,
}

impl Whole {
    pub(super) fn new(known: Option<TargetDigests>) -> Self {
        Self { known, under_way: None, last: None, again_at: Instant::now() }
    }

    /// What was sent may be lost.
    pub(super) fn forget(&mut self) {
        (self.under_way, self.last) = (None, None);
        self.again_at = Instant::now();
        if let Some(known) = &mut self.known {
            known.forget();
        }
    }

    /// What was read last was not sent.
    pub(super) fn is_void(&mut self) {
        if let Some(last) = &mut self.last {
            last.before = None;
        }
    }
}

impl Lane {
    /// Whether what was read last is what the disk holds, or what has changed
    /// since is marked.
    pub(super) fn is_exact(&self) -> bool {
        let before = self.whole.last.as_ref().and_then(|last| last.before.as_ref());
        self.changes.knows_changes() || before.is_some_and(|before| self.disk.is_unwritten_since(before))
    }

    /// Does what is due of a pass; gives when more is.
    pub(super) async fn pass_on(&mut self, work: &mut Work) -> Result<Instant, Error> {
        let now = Instant::now();
        let is_compared = self.state.reason().is_some();
        if self.whole.under_way.is_none() && !is_compared {
            let is_exact = self.is_exact();
            self.note_passes(is_exact);
            if is_exact || now < self.whole.again_at {
                return Ok(now + self.settings.cycle);
            }
        }
        self.pass_slice(work).await?;
        Ok(Instant::now())
    }

    /// Whether the pass that was begun has come to its end.
    pub(super) const fn is_passed(&self) -> bool {
        self.whole.under_way.is_none()
    }

    /// Reads a slice, and sends what differs. The first one begins a pass.
    async fn pass_slice(&mut self, work: &mut Work) -> Result<(), Error> {
        let begun = Instant::now();
        let mut pass = match self.whole.under_way.take() {
            Some(pass) => pass,
            None => {
                // Whatever is written from here on shows.
                let before = Some(self.disk.write_mark());
                self.changed = self.changes.mark_all().err();
                Pass { before, began: begun, took: Duration::ZERO }
            }
        };
        let mut chunks = ChunkSet::empty(self.doubtful.universe());
        let slice = limits::PASS_SLICE_BYTES / u64::from(self.settings.protect.chunk.bytes());
        let drained = self.changes.drain(work.outbox.epoch().into(), slice.max(1), &mut chunks);
        let is_complete = drained.map_err(|doubt| self.doubted(doubt))?.is_complete;
        let known = self.whole.known.as_mut();
        work.source.send(&chunks, &chunks, known, &mut work.outbox, &mut work.session).await?;
        pass.took += begun.elapsed().saturating_sub(work.source.held_up());
        if is_complete {
            let pause = (pass.began.elapsed() * 4)
                .clamp(self.settings.cycle, limits::PASS_AGAIN_AFTER_MAX.max(self.settings.cycle));
            self.whole.again_at = Instant::now() + pause;
            self.whole.last = Some(pass);
            self.note_passes(self.is_exact());
        } else {
            self.whole.under_way = Some(pass);
        }
        self.measure();
        Ok(())
    }

    fn note_passes(&self, is_current: bool) {
        let milliseconds = |took: Duration| u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let took_ms = self.whole.last.as_ref().map(|last| milliseconds(last.took));
        self.end.note(|status| status.passes = Some(Passes { took_ms, is_current }));
    }

    /// What keeps this disk out of a cut now; nothing where it was not written
    /// since it was passed, or can be passed again in the freeze.
    pub(super) fn unfit_for_cut(&mut self, last: bool, budget: Duration) -> Option<String> {
        if self.changes.knows_changes() || self.is_exact() {
            return None;
        }
        let Some(took) = self.whole.last.as_ref().map(|last| last.took) else {
            return Some("is not tracked, and is still being compared as a whole".to_owned());
        };
        let is_short = self.whole.known.is_some() && took * 5 <= budget * 2;
        if !last && !is_short {
            return Some(format!(
                "is not tracked, and was written since it was compared as a whole; that takes {took:.1?}, too long for \
                 a freeze of {budget:.1?}: it has points where nobody writes it for so long, or where it is tracked"
            ));
        }
        // What of it is done is kept, and done again.
        self.whole.under_way = None;
        None
    }

    /// Nobody knows what changed, so all of a frozen disk is passed once more. In
    /// a final cut what differs is sent as it is found; in any other one it is
    /// read into memory, and nothing waits for the network.
    pub(super) async fn pass_frozen(&mut self, until: Instant, work: &mut Work) -> Result<Report, Error> {
        if self.is_exact() {
            return Ok(Report::Read { bytes: self.remainder.bytes() });
        }
        work.source.hurries = true;
        let passed = if self.state == Disk::CuttingForGood {
            self.pass_whole(until, work).await
        } else {
            self.keep_differing(until, work).await
        };
        work.source.hurries = false;
        passed
    }

    async fn pass_whole(&mut self, until: Instant, work: &mut Work) -> Result<Report, Error> {
        self.whole.under_way = None;
        loop {
            self.pass_slice(work).await?;
            if self.is_passed() {
                return Ok(Report::Read { bytes: self.remainder.bytes() });
            }
            if Instant::now() >= until {
                return Ok(Report::TooMuch {
                    why: "is not tracked, and takes longer to compare than a machine is held frozen",
                });
            }
        }
    }

    async fn keep_differing(&mut self, until: Instant, work: &mut Work) -> Result<Report, Error> {
        let Some(known) = &self.whole.known else { return Ok(Report::TooMuch { why: LARGE }) };
        let (begun, before) = (Instant::now(), self.disk.write_mark());
        // A chunk that was read before is read anew, also where it is as it was.
        let outbox = &work.outbox;
        let kept = work
            .source
            .keep(&work.all, until, &mut self.remainder, |chunk, bytes, remainder| {
                remainder.holds(chunk) || !known.holds(chunk, &[outbox.digest(bytes)])
            })
            .await?;
        if kept.is_err() {
            return Ok(Report::TooMuch { why: LARGE });
        }
        self.whole.last = Some(Pass { before: Some(before), began: begun, took: begun.elapsed() });
        Ok(Report::Read { bytes: self.remainder.bytes() })
    }
}

const LARGE: &str =
    "is not tracked, and takes longer to compare, or differs by more, than fits into a freeze";

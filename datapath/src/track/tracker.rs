//! The tracker of one disk: two programs at work, and the marks they set.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Instant;

use nix::fcntl::Flock;

use super::attached::Attached;
use super::chunk_set::{ChunkSet, touched};
use super::count::{Counts, KernelCounts, Lead, StillWatch};
use super::device::Device;
use super::doubt::Doubt;
use super::header::{Header, Phase, accepted_misses};
use super::layout::{Bitmap, Geometry, HeaderWord};
use super::marks::{Marks, Parity};
use super::pins::Place;
use super::source::{ChangeSource, Drained, Statistics};
use crate::disk::storage::read_bounded;
use crate::limits;
use crate::sys::bpf::SharedWords;
use crate::unit::Extent;

/// Tracks one disk by eBPF. Dropping it ends nothing: the programs go on, and
/// [`Tracker::adopt`] takes them over; [`Tracker::uninstall`] ends them.
pub struct Tracker {
    pub(super) device: Device,
    pub(super) place: Place,
    pub(super) geometry: Geometry,
    pub(super) map: OwnedFd,
    pub(super) memory: SharedWords,
    pub(super) programs: [Attached; 2],
    pub(super) still: StillWatch,
    /// The word of the bitmap where the next drain goes on.
    pub(super) cursor: usize,
    /// Held, so that this agent is the only one on the disk.
    pub(super) lock: Flock<File>,
}

impl Tracker {
    /// The disk.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What is marked at this moment, without taking it.
    #[must_use]
    pub fn dirty(&self) -> ChunkSet {
        self.marks().copy(Bitmap::Dirty)
    }

    /// What is in transit in the bitmap of `parity`.
    #[must_use]
    pub fn in_transit(&self, parity: Parity) -> ChunkSet {
        self.marks().copy(parity.into())
    }

    pub(super) fn header(&self) -> Header<'_> {
        Header::new(self.memory.words())
    }

    fn marks(&self) -> Marks<'_> {
        #[expect(
            clippy::expect_used,
            reason = "the map was made, or adopted, with the pages of this geometry"
        )]
        Marks::new(self.memory.words(), self.geometry).expect("a map has all the pages of its geometry")
    }

    /// Whether it is still the disk that it was, and of that size.
    fn check_disk(&self) -> Result<(), Doubt> {
        let device = || self.device.node.clone();
        let (size_bytes, sequence) = self.device.now().ok_or_else(|| Doubt::Gone { device: device() })?;
        if sequence != self.header().get(HeaderWord::DiskSequence) {
            return Err(Doubt::Replaced { device: device() });
        }
        let known_bytes = self.geometry.size_bytes;
        if size_bytes != known_bytes {
            return Err(Doubt::Resized { known_bytes, now_bytes: size_bytes });
        }
        Ok(())
    }

    /// Whether the programs are at work and have missed nothing.
    fn check_programs(&self) -> Result<(), Doubt> {
        let header = self.header();
        for attached in &self.programs {
            let event = attached.event();
            let misses = attached.misses()?;
            let accepted = header.get(accepted_misses(event));
            let events = misses.saturating_sub(accepted) + header.get(HeaderWord::CarriedMisses);
            if events > 0 {
                return Err(Doubt::Missed { event, events });
            }
        }
        Ok(())
    }

    /// Whether the programs have seen what they could not place.
    fn check_flags(&self) -> Result<(), Doubt> {
        let flag = |word| Some(self.header().get(word)).filter(|count| *count > 0);
        if let Some(writes) = flag(HeaderWord::UnknownWrites) {
            return Err(Doubt::UnknownWrite { writes });
        }
        if let Some(writes) = flag(HeaderWord::OutOfRange) {
            return Err(Doubt::OutOfRange { writes });
        }
        flag(HeaderWord::Overruns).map_or(Ok(()), |requests| Err(Doubt::Overrun { requests }))
    }

    fn check_counts(&mut self) -> Result<(), Doubt> {
        // The kernel's count first: see `count`.
        let kernel = self.kernel_counts()?;
        let (seen, greatest) = (self.seen_counts(), self.lead());
        let lead = self.still.compare(kernel, seen, greatest, Instant::now())?;
        if lead != greatest {
            self.set_lead(lead);
        }
        Ok(())
    }

    fn kernel_counts(&self) -> Result<KernelCounts, Doubt> {
        let path = self.device.folder.join("stat");
        let text = match read_bounded(&path) {
            Ok(text) => text,
            Err(error) => return Err(Doubt::Unreadable { path, reason: error.to_string() }),
        };
        KernelCounts::parse(&text)
            .ok_or_else(|| Doubt::Unreadable { path, reason: "not as the kernel documents it".to_owned() })
    }

    fn seen_counts(&self) -> Counts {
        let header = self.header();
        let (written, discarded) = (HeaderWord::WrittenSectors, HeaderWord::DiscardedSectors);
        Counts { written: header.get(written), discarded: header.get(discarded) }
    }

    fn lead(&self) -> Lead {
        let header = self.header();
        let lead = |word| header.get(word).cast_signed();
        Lead { written: lead(HeaderWord::WriteLead), discarded: lead(HeaderWord::DiscardLead) }
    }

    fn set_lead(&self, lead: Lead) {
        self.header().set(HeaderWord::WriteLead, lead.written.cast_unsigned());
        self.header().set(HeaderWord::DiscardLead, lead.discarded.cast_unsigned());
    }
}

impl ChangeSource for Tracker {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn knows_changes(&self) -> bool {
        true
    }

    fn drain(&mut self, parity: Parity, budget: u64, into: &mut ChunkSet) -> Result<Drained, Doubt> {
        let before = into.len();
        self.cursor = self.marks().drain(parity, self.cursor, budget, into);
        self.check()?;
        Ok(Drained { chunks: into.len() - before, is_complete: self.cursor == 0 })
    }

    fn give_back(&mut self, extents: &[Extent]) {
        for extent in extents {
            self.marks().mark(touched(*extent, self.geometry.chunk_size));
        }
    }

    fn confirmed(&mut self, parity: Parity) {
        self.marks().forget(parity);
    }

    fn restart(&mut self) -> ChunkSet {
        self.marks().restart()
    }

    /// Accepts what was missed before it marks, so that what is missed meanwhile
    /// is a doubt again; the phase tells the next agent when this one dies here.
    fn mark_all(&mut self) -> Result<(), Doubt> {
        self.check_disk()?;
        let header = self.header();
        header.set_phase(Phase::Remarking);
        for attached in &self.programs {
            header.set(accepted_misses(attached.event()), attached.misses()?);
        }
        let flags = [HeaderWord::UnknownWrites, HeaderWord::OutOfRange, HeaderWord::Overruns];
        flags.into_iter().chain([HeaderWord::CarriedMisses]).for_each(|flag| header.set(flag, 0));
        // What we have seen by now, the kernel has counted when it has settled.
        let seen = self.seen_counts();
        std::thread::sleep(limits::COUNT_SETTLES);
        let kernel = self.kernel_counts()?;
        self.set_lead(Lead::between(kernel.sectors, seen));
        self.marks().mark(0..self.geometry.chunks());
        Parity::ALL.into_iter().for_each(|parity| self.marks().forget(parity));
        self.header().set_phase(Phase::Tracking);
        self.still.reset();
        self.cursor = 0;
        Ok(())
    }

    fn check(&mut self) -> Result<(), Doubt> {
        if self.header().phase() != Some(Phase::Tracking) {
            return Err(Doubt::Interrupted);
        }
        self.check_disk()?;
        self.check_programs()?;
        self.check_flags()?;
        self.check_counts()
    }

    fn keep(&mut self) -> Result<(), String> {
        self.keep_pinned().map_err(|error| error.to_string())
    }

    fn dirty_chunks(&self) -> u64 {
        self.marks().count(Bitmap::Dirty)
    }

    fn statistics(&self) -> Statistics {
        let (header, marks) = (self.header(), self.marks());
        let mut statistics = Statistics {
            dirty_chunks: marks.count(Bitmap::Dirty),
            in_transit_chunks: [marks.count(Bitmap::Even), marks.count(Bitmap::Odd)],
            issued: header.get(HeaderWord::Issued),
            completed: header.get(HeaderWord::Completed),
            written_sectors: header.get(HeaderWord::WrittenSectors),
            discarded_sectors: header.get(HeaderWord::DiscardedSectors),
            ..Statistics::default()
        };
        for facts in self.programs.iter().filter_map(|attached| attached.facts().ok()) {
            statistics.misses += facts.misses;
            statistics.measured_runs += facts.runs;
            statistics.measured_ns += facts.run_time_ns;
        }
        statistics
    }
}

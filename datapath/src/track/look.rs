//! A tracker's map, looked at whoever holds it: nothing in it is changed.
//!
//! It is copied page by page while marks go on moving, in the order in which they
//! move: coarse marks, dirty ones, those in transit. So a mark on its way is seen
//! where it was or where it goes, but for those that a restart marks again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use super::chunk_set::ChunkSet;
use super::error::Error;
use super::header::{Binding, Header, Phase};
use super::install::MAP;
use super::layout::{Bitmap, Geometry, HeaderWord, PAGE_WORDS};
use super::marks::Marks;
use super::program::Event;
use super::source::Statistics;
use crate::sys::bpf::{self, PinnedPages};
use crate::unit::to_usize;

/// What the map of a disk holds at a moment.
#[derive(Clone, Debug)]
pub struct Look {
    /// How far its tracker has come: `installing`, `tracking`, `remarking`.
    pub phase: &'static str,
    /// The disk and its chunks.
    pub geometry: Geometry,
    /// Which of the disks of its number since boot.
    pub disk_sequence: u64,
    /// Marked chunks.
    pub dirty: ChunkSet,
    /// Chunks in transit, even and odd epochs.
    pub in_transit: [ChunkSet; 2],
    /// Figures; misses are those of the programs that are pinned.
    pub statistics: Statistics,
    /// Names and counts of what is a doubt unless it is zero.
    pub doubtful: [(&'static str, u64); 4],
    /// Programs that are pinned.
    pub programs: Vec<Event>,
}

impl Look {
    /// Looks at what is pinned in the folder of one disk.
    ///
    /// # Errors
    /// [`Error::Pin`] where no map of a tracker is pinned there.
    pub fn at(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(MAP);
        let (words, binding) = copy(&path).map_err(|source| Error::Pin { path: path.clone(), source })?;
        let header = Header::new(&words);
        let phase = header.phase().ok_or_else(|| foreign(path.clone()))?;
        let marks = Marks::new(&words, binding.geometry).ok_or_else(|| foreign(path))?;
        let sets = [Bitmap::Dirty, Bitmap::Even, Bitmap::Odd].map(|bitmap| marks.copy(bitmap));
        let mut statistics = Statistics {
            dirty_chunks: sets[0].len(),
            in_transit_chunks: [sets[1].len(), sets[2].len()],
            issued: header.get(HeaderWord::Issued),
            completed: header.get(HeaderWord::Completed),
            written_sectors: header.get(HeaderWord::WrittenSectors),
            discarded_sectors: header.get(HeaderWord::DiscardedSectors),
            ..Statistics::default()
        };
        let programs = programs(folder, &mut statistics);
        let [dirty, even, odd] = sets;
        Ok(Self {
            phase: name(phase),
            geometry: binding.geometry,
            disk_sequence: binding.sequence,
            dirty,
            in_transit: [even, odd],
            statistics,
            doubtful: doubtful(&header),
            programs,
        })
    }
}

/// Copies a map whose first page says how large it is.
fn copy(path: &Path) -> io::Result<(Vec<AtomicU64>, Binding)> {
    let other = || io::Error::new(io::ErrorKind::InvalidData, "it is no map of a tracker of this version");
    let pages = PinnedPages::open(path)?.ok_or_else(other)?;
    let mut page = [0; PAGE_WORDS];
    pages.read(0, &mut page)?;
    let first = page.map(AtomicU64::new);
    let binding = Header::new(&first).binding().ok_or_else(other)?;
    if binding.geometry.pages() != Some(pages.pages()) {
        return Err(other());
    }
    let words = to_usize(u64::from(pages.pages())) * PAGE_WORDS;
    let mut copied: Vec<AtomicU64> = std::iter::repeat_with(AtomicU64::default).take(words).collect();
    let coarse = binding.geometry.first_page(1);
    let coarse = u32::try_from(coarse).unwrap_or(u32::MAX).min(pages.pages());
    for number in (coarse..pages.pages()).rev().chain(0..coarse) {
        pages.read(number, &mut page)?;
        let start = to_usize(u64::from(number)) * PAGE_WORDS;
        for (into, word) in copied[start..].iter_mut().zip(page) {
            *into.get_mut() = word;
        }
    }
    Ok((copied, binding))
}

/// Which programs are pinned, and what they missed.
fn programs(folder: &Path, statistics: &mut Statistics) -> Vec<Event> {
    use std::os::fd::AsFd;
    let mut pinned = Vec::new();
    for event in Event::ALL {
        let program = bpf::pinned(&folder.join(super::attached::program_name(event)));
        let facts = program.and_then(|program| bpf::program_facts(program.as_fd()));
        if let Ok(facts) = facts {
            pinned.push(event);
            statistics.misses += facts.misses;
            statistics.measured_runs += facts.runs;
            statistics.measured_ns += facts.run_time_ns;
        }
    }
    pinned
}

fn doubtful(header: &Header<'_>) -> [(&'static str, u64); 4] {
    [
        ("unknown-writes", HeaderWord::UnknownWrites),
        ("out-of-range", HeaderWord::OutOfRange),
        ("overruns", HeaderWord::Overruns),
        ("carried-misses", HeaderWord::CarriedMisses),
    ]
    .map(|(name, word)| (name, header.get(word)))
}

const fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Installing => "installing",
        Phase::Tracking => "tracking",
        Phase::Remarking => "remarking",
    }
}

fn foreign(path: PathBuf) -> Error {
    Error::Pin { path, source: io::Error::new(io::ErrorKind::InvalidData, "its header makes no sense") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_map_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let missing = Look::at(folder.path()).expect_err("nothing is there");
        assert!(matches!(&missing, Error::Pin { source, .. } if source.kind() == io::ErrorKind::NotFound));
        std::fs::write(folder.path().join(MAP), [0; 4096]).expect("a file");
        assert!(Look::at(folder.path()).is_err());
    }
}

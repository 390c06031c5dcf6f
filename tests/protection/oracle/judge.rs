//! Whether one moment explains all sectors of an image.

use std::fmt;
use std::io::{ErrorKind, Read};

use super::history::{History, Leaves, Version, Write};
use super::sector::{Content, SECTOR_BYTES};

/// Faults that are named; further ones are counted.
const NAMED: usize = 6;

/// When a cut was: not before `from_ns`, not after `to_ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub from_ns: u64,
    pub to_ns: u64,
}

impl Window {
    /// The moments at which a sector that holds `version` is as the disk was.
    fn of(version: &Version) -> Self {
        Self { from_ns: version.write.submitted_ns, to_ns: version.overwritten_ns }
    }

    fn meet(self, other: Self) -> Option<Self> {
        let both = Self { from_ns: self.from_ns.max(other.from_ns), to_ns: self.to_ns.min(other.to_ns) };
        (both.from_ns <= both.to_ns).then_some(both)
    }
}

/// The moments that explain two images, each explained by those of its own.
pub fn common(one: &[Window], other: &[Window]) -> Vec<Window> {
    one.iter().flat_map(|one| other.iter().filter_map(|other| one.meet(*other))).collect()
}

/// The same moments in windows that lie apart, in order: or their number would
/// double with each sector that was zeroed twice.
fn merged(mut windows: Vec<Window>) -> Vec<Window> {
    windows.sort_by_key(|window| window.from_ns);
    let mut apart: Vec<Window> = Vec::new();
    for window in windows {
        match apart.last_mut() {
            Some(last) if window.from_ns <= last.to_ns => last.to_ns = last.to_ns.max(window.to_ns),
            _ => apart.push(window),
        }
    }
    apart
}

/// What is wrong with a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not whole.
    Torn,
    /// It belongs elsewhere: to another place, another disk or another time.
    Foreign,
    /// Zeroes, where something had been written before the cut.
    Lost,
    /// An older version than the one completed before the cut.
    Stale,
    /// It was submitted after the cut.
    TooNew,
    /// No moment explains it together with the sectors before it.
    Apart,
}

impl Version {
    /// Whether it may have been in flight at the cut.
    fn is_in_flight(&self, window: Window) -> bool {
        let Write { submitted_ns, completed_ns, .. } = self.write;
        self.number > 0 && submitted_ns <= window.to_ns && window.from_ns <= completed_ns
    }
}

/// What became of the judgement.
#[derive(Debug, Default)]
pub struct Verdict {
    /// The first faults, with their sectors.
    pub named: Vec<(usize, Fault)>,
    pub faults: usize,
    /// Sectors that hold a write.
    pub written: usize,
    /// Sectors of which a write was in flight at the cut.
    pub in_flight: usize,
    /// The moments that explain all that is right.
    pub moments: Vec<Window>,
}

/// Judges an image as long as the history's disk, made by a cut within `window`.
pub fn judge(history: &History, image: impl Read, window: Window) -> Verdict {
    let mut image = std::io::BufReader::with_capacity(1 << 20, image);
    let mut verdict = Verdict { moments: vec![window], ..Verdict::default() };
    let mut sector = [0; SECTOR_BYTES];
    for place in 0..history.sector_count() {
        if let Err(error) = image.read_exact(&mut sector) {
            let is_short = error.kind() == ErrorKind::UnexpectedEof;
            panic!("sector {place} of {}: {error} (too short: {is_short})", history.sector_count());
        }
        let fitting = match fitting(history, place, Content::of(&sector)) {
            Ok(fitting) => fitting,
            Err(fault) => {
                verdict.note(place, fault);
                continue;
            }
        };
        verdict.written += usize::from(fitting.iter().any(|version| version.number > 0));
        verdict.in_flight += usize::from(history.versions(place).any(|version| version.is_in_flight(window)));
        if let Err(fault) = verdict.narrow(&fitting, window) {
            verdict.note(place, fault);
        }
    }
    verdict
}

/// The versions of a sector that look like `content`.
fn fitting(history: &History, place: usize, content: Content) -> Result<Vec<Version>, Fault> {
    let mut versions = history.versions(place);
    match content {
        Content::Torn => Err(Fault::Torn),
        Content::Zero => Ok(versions.filter(|version| version.write.leaves == Leaves::Zeroes).collect()),
        Content::Label(label) => {
            let is_ours = label.run == history.run && label.place == place as u64;
            let same =
                |version: &Version| version.number == label.write && version.write.leaves == Leaves::Labels;
            let found = versions.find(same).filter(|_| is_ours);
            found.map(|version| vec![version]).ok_or(Fault::Foreign)
        }
    }
}

impl Verdict {
    fn note(&mut self, place: usize, fault: Fault) {
        self.faults += 1;
        if self.named.len() < NAMED {
            self.named.push((place, fault));
        }
    }

    /// Leaves those moments that explain a sector too, which holds one of `fitting`.
    fn narrow(&mut self, fitting: &[Version], window: Window) -> Result<(), Fault> {
        let within = fitting.iter().filter_map(|version| Window::of(version).meet(window));
        let within = merged(within.collect());
        if within.is_empty() {
            return Err(blame(fitting, window));
        }
        if within.contains(&window) {
            return Ok(());
        }
        let left = common(&self.moments, &within);
        if left.is_empty() {
            return Err(Fault::Apart);
        }
        self.moments = left;
        Ok(())
    }

    /// # Panics
    /// Where there is a fault.
    pub fn expect_exact(&self, what: &str) -> &Self {
        assert!(self.faults == 0, "{what}: {self}");
        self
    }
}

/// Why none of `fitting` is right.
fn blame(fitting: &[Version], window: Window) -> Fault {
    let in_time = fitting.iter().rfind(|version| version.write.submitted_ns <= window.to_ns);
    match in_time {
        None => Fault::TooNew,
        Some(version) if version.write.leaves == Leaves::Zeroes => Fault::Lost,
        Some(_) => Fault::Stale,
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { named, faults, written, in_flight, .. } = self;
        write!(f, "{faults} wrong sectors, {written} written, {in_flight} with a write in flight; {named:?}")
    }
}

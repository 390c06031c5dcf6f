//! How a tracker begins, is taken over, and ends.
//!
//! | an agent dies | the next one finds |
//! | --- | --- |
//! | while it installs | a map in the phase `Installing`, or pins that are not whole: takes them away |
//! | at work | everything: takes it over, with its marks |
//! | while it replaces the programs | the old ones or the new ones pinned, each at work since before |
//! | while it uninstalls | pins that are not whole: takes them away |

use std::os::fd::{AsFd, OwnedFd};

use super::attached::{Attached, programs_digest, purpose};
use super::count::StillWatch;
use super::device::Device;
use super::error::Error;
use super::header::{Binding, Header, Phase, accepted_misses};
use super::kernel::KernelLayout;
use super::layout::{Geometry, HeaderWord};
use super::pins::Place;
use super::program::Event;
use super::source::ChangeSource;
use super::tracker::Tracker;
use crate::sys::bpf::{self, SharedWords};
use crate::unit::ChunkSize;

pub(super) const MAP: &str = "map";

/// What is pinned of a tracker, if it is whole.
struct Found {
    map: OwnedFd,
    memory: SharedWords,
    binding: Binding,
    programs: [Attached; 2],
}

impl Tracker {
    /// Begins to track a disk, all of it marked. What was pinned for it before,
    /// whole or half made, is taken away first.
    ///
    /// # Errors
    /// [`Error`]; nothing is left behind then.
    pub fn install(device: Device, chunk_size: ChunkSize, place: Place) -> Result<Self, Error> {
        let lock = place.lock()?;
        place.prepare()?;
        place.clear()?;
        let geometry = Geometry { size_bytes: device.size_bytes, chunk_size };
        let installed = Self::install_in(&device, geometry, &place).and_then(|(map, memory, programs)| {
            let (still, place) = (StillWatch::default(), place.clone());
            let mut tracker = Self { device, place, geometry, map, memory, programs, still, cursor: 0, lock };
            let marked = tracker.mark_all();
            marked
                .map_err(|doubt| Error::Facts { what: "the disk", source: std::io::Error::other(doubt) })?;
            Ok(tracker)
        });
        if installed.is_err() {
            // The error that is returned matters more than what is left of it.
            let _left = place.clear();
        }
        installed
    }

    fn install_in(
        device: &Device,
        geometry: Geometry,
        place: &Place,
    ) -> Result<(OwnedFd, SharedWords, [Attached; 2]), Error> {
        let kernel = KernelLayout::running()?;
        let too_many = || Error::TooManyChunks { device: device.node.clone(), chunks: geometry.chunks() };
        let pages = geometry.pages().ok_or_else(too_many)?;
        let map = bpf::map("failback", pages).map_err(|source| Error::Map { pages, source })?;
        let memory = SharedWords::new(map.as_fd(), pages).map_err(|source| Error::Map { pages, source })?;
        let programs = programs_digest(&kernel, device, geometry)?;
        let (sequence, boot) = (device.sequence, boot(device)?);
        Header::new(memory.words()).bind(&Binding { geometry, sequence, boot, programs });
        place.make()?;
        place.pin(MAP, map.as_fd())?;
        let programs = attach(&kernel, device, geometry, &map)?;
        programs.iter().try_for_each(|attached| attached.pin(place))?;
        Ok((map, memory, programs))
    }

    /// Takes over what an earlier agent left at work. Its programs are replaced
    /// where this agent makes others: the new ones are at work before the old
    /// ones end. `None` where nothing, or nothing whole, is there: then what was
    /// written since is unknown. To be followed by
    /// [`restart`](ChangeSource::restart) and [`check`](ChangeSource::check).
    ///
    /// # Errors
    /// [`Error`]; what is pinned stays.
    pub fn adopt(device: Device, place: Place) -> Result<Option<Self>, Error> {
        let lock = place.lock()?;
        place.prepare()?;
        let Some(Found { map, memory, binding, programs }) = find(&device, &place)? else {
            place.clear()?;
            return Ok(None);
        };
        let geometry = binding.geometry;
        let programs = replace(&device, &place, &map, &memory, &binding, programs)?;
        let still = StillWatch::default();
        Ok(Some(Self { device, place, geometry, map, memory, programs, still, cursor: 0, lock }))
    }

    /// Ends tracking: programs, map, pins and lock are gone.
    ///
    /// # Errors
    /// [`Error::Pin`], [`Error::Lock`].
    pub fn uninstall(self) -> Result<(), Error> {
        let Self { place, lock, .. } = self;
        remove(&place)?;
        drop(lock);
        Ok(())
    }

    /// The same without taking the tracker over: for a disk that may be gone.
    ///
    /// # Errors
    /// [`Error::Locked`] while an agent has it, [`Error::Pin`], [`Error::Lock`].
    pub fn uninstall_at(place: &Place) -> Result<(), Error> {
        let _lock = place.lock()?;
        remove(place)
    }

    /// Pins everything again that somebody took away while this agent was at work.
    ///
    /// # Errors
    /// [`Error::Pin`], [`Error::Filesystem`].
    pub fn keep_pinned(&self) -> Result<(), Error> {
        self.place.prepare()?;
        self.place.make()?;
        self.programs.iter().try_for_each(|attached| attached.keep_pinned(&self.place))?;
        if self.place.has(MAP) { Ok(()) } else { self.place.pin(MAP, self.map.as_fd()) }
    }
}

fn remove(place: &Place) -> Result<(), Error> {
    place.clear()?;
    place.remove_lock()
}

fn boot(device: &Device) -> Result<u128, Error> {
    device.boot().map_err(|error| Error::Facts {
        what: "the identity of this boot",
        source: std::io::Error::other(error),
    })
}

/// What is pinned, if it is whole, of this boot and laid out as here.
fn find(device: &Device, place: &Place) -> Result<Option<Found>, Error> {
    let Some(map) = place.get(MAP)? else { return Ok(None) };
    let Ok(Some(pages)) = bpf::map_pages(map.as_fd()) else { return Ok(None) };
    let memory = SharedWords::new(map.as_fd(), pages).map_err(|source| Error::Map { pages, source })?;
    let header = Header::new(memory.words());
    let Some(binding) = header.binding().filter(|binding| binding.geometry.pages() == Some(pages)) else {
        return Ok(None);
    };
    let is_whole = matches!(header.phase(), Some(Phase::Tracking | Phase::Remarking));
    if !is_whole || binding.boot != boot(device)? {
        return Ok(None);
    }
    let [issue, completion] = Event::ALL;
    let programs = (Attached::pinned(place, issue)?, Attached::pinned(place, completion)?);
    let (Some(issue), Some(completion)) = programs else { return Ok(None) };
    Ok(Some(Found { map, memory, binding, programs: [issue, completion] }))
}

/// Both programs, at work but not pinned.
fn attach(
    kernel: &KernelLayout,
    device: &Device,
    geometry: Geometry,
    map: &OwnedFd,
) -> Result<[Attached; 2], Error> {
    let [issue, completion] =
        Event::ALL.map(|event| Attached::new(kernel, purpose(device, geometry, event), map.as_fd()));
    Ok([issue?, completion?])
}

/// Puts this agent's programs in the place of others. From the moment both are
/// attached nothing depends on the old ones, and what those had missed until
/// then is carried over. Sectors that both count make the kernel's lead smaller,
/// which alarms nobody.
fn replace(
    device: &Device,
    place: &Place,
    map: &OwnedFd,
    memory: &SharedWords,
    binding: &Binding,
    old: [Attached; 2],
) -> Result<[Attached; 2], Error> {
    let kernel = KernelLayout::running()?;
    let geometry = binding.geometry;
    let digest = programs_digest(&kernel, device, geometry)?;
    if digest == binding.programs {
        return Ok(old);
    }
    let header = Header::new(memory.words());
    let new = attach(&kernel, device, geometry, map)?;
    for attached in &old {
        let facts = attached.facts().map_err(|source| Error::Facts { what: "what was missed", source })?;
        let accepted = accepted_misses(attached.event());
        header.add(HeaderWord::CarriedMisses, facts.misses.saturating_sub(header.get(accepted)));
        header.set(accepted, 0);
    }
    new.iter().try_for_each(|attached| attached.pin(place))?;
    header.set(HeaderWord::Programs, digest);
    Ok(new)
}

//! One program at work: loaded, attached, pinned.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use xxhash_rust::xxh3::xxh3_64;

use super::device::Device;
use super::doubt::Doubt;
use super::error::Error;
use super::kernel::{KernelLayout, LayoutError};
use super::layout::Geometry;
use super::pins::Place;
use super::program::{Event, Purpose, program};
use crate::sys::bpf;

/// A program that marks, for as long as it is held or pinned.
pub(super) struct Attached {
    event: Event,
    program: OwnedFd,
    link: OwnedFd,
}

impl Attached {
    /// Loads a program over `map` and attaches it.
    pub(super) fn new(kernel: &KernelLayout, purpose: Purpose, map: BorrowedFd<'_>) -> Result<Self, Error> {
        let event = purpose.event;
        let code = instructions(kernel, purpose, map.as_raw_fd())?;
        let program = bpf::load(event.name(), &code)
            .map_err(|bpf::Rejected { source, log }| Error::Program { event, source, log })?;
        let link = bpf::attach(event.tracepoint(), program.as_fd())
            .map_err(|source| Error::Attach { event, source })?;
        Ok(Self { event, program, link })
    }

    /// Takes over what is pinned; `None` where it is not whole.
    pub(super) fn pinned(place: &Place, event: Event) -> Result<Option<Self>, Error> {
        let (program, link) = (place.get(&program_name(event))?, place.get(event.name())?);
        let (Some(program), Some(link)) = (program, link) else { return Ok(None) };
        let attached = Self { event, program, link };
        Ok(attached.is_attached().then_some(attached))
    }

    /// Pins it in place of the one that is pinned, which ends with that. The link
    /// goes first: with it the marks are safe.
    pub(super) fn pin(&self, place: &Place) -> Result<(), Error> {
        place.pin(self.event.name(), self.link.as_fd())?;
        place.pin(&program_name(self.event), self.program.as_fd())
    }

    /// Pins it again where somebody took the pins away.
    pub(super) fn keep_pinned(&self, place: &Place) -> Result<(), Error> {
        if place.has(self.event.name()) && place.has(&program_name(self.event)) {
            return Ok(());
        }
        self.pin(place)
    }

    pub(super) fn event(&self) -> Event {
        self.event
    }

    pub(super) fn facts(&self) -> io::Result<bpf::ProgramFacts> {
        bpf::program_facts(self.program.as_fd())
    }

    /// The misses of the program, if it is attached.
    pub(super) fn misses(&self) -> Result<u64, Doubt> {
        let facts = self.facts().map_err(|_| Doubt::Detached { event: self.event })?;
        if self.is_attached() { Ok(facts.misses) } else { Err(Doubt::Detached { event: self.event }) }
    }

    fn is_attached(&self) -> bool {
        let linked = bpf::linked_program(self.link.as_fd()).ok();
        linked.is_some() && linked == self.facts().ok().map(|facts| facts.number)
    }
}

pub(super) fn program_name(event: Event) -> String {
    format!("{}-program", event.name())
}

fn instructions(kernel: &KernelLayout, purpose: Purpose, map: i32) -> Result<Vec<u64>, Error> {
    let unusual = LayoutError::Unusual { what: "struct request" };
    program(kernel, purpose, map).ok_or(Error::Kernel(unusual))
}

/// What the program of an event is made for, on a disk.
pub(super) fn purpose(device: &Device, geometry: Geometry, event: Event) -> Purpose {
    let scattered_discards = device.scattered_discards;
    Purpose { event, device: device.number, geometry, scattered_discards }
}

/// A digest of both programs: the same agent on the same kernel makes the same.
pub(super) fn programs_digest(
    kernel: &KernelLayout,
    device: &Device,
    geometry: Geometry,
) -> Result<u64, Error> {
    let mut all = Vec::new();
    for event in Event::ALL {
        for instruction in instructions(kernel, purpose(device, geometry, event), 0)? {
            all.extend(instruction.to_le_bytes());
        }
    }
    Ok(xxh3_64(&all))
}

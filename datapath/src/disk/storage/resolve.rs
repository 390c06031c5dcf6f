//! From an opened file down to the bytes that it stands for at the bottom.
//!
//! ```text
//! partition ─> its disk ┐
//! loop ─> backing file  ├─> again, until nothing lies below
//! dm, md ─> slaves      ┘
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use super::host::{Backing, BackingGround, BlockDevice, DeviceNumber, Host};
use super::mapping::{self, Part};
use super::{FOOTPRINTS_MAX, Footprint, Ground, StorageError};
use crate::unit::Extent;

/// Block devices stacked on each other. The kernel's own stacking limits are
/// far lower for each kind; this one only ends the descent on odd answers.
const DEPTH_MAX: usize = 24;

/// Everything from which nothing is known but that it goes on.
pub(super) const ALL: Extent = Extent::between(0, u64::MAX);

/// A descent through the stack of devices below one file.
pub(super) struct Descent<'a> {
    host: &'a Host,
    /// What was found at the bottom, and the mapped devices on the way.
    pub(super) footprints: Vec<Footprint>,
    /// All devices on the way.
    pub(super) stack: BTreeSet<DeviceNumber>,
}

/// One step: these bytes of this device.
struct Step<'a> {
    device: DeviceNumber,
    range: Extent,
    allocators: &'a [DeviceNumber],
    depth: usize,
    /// The device itself, where it is already open.
    open: Option<&'a File>,
}

impl<'a> Descent<'a> {
    pub(super) fn new(host: &'a Host) -> Self {
        Self { host, footprints: Vec::new(), stack: BTreeSet::new() }
    }

    /// Adds a regular file, all of it: it may grow.
    pub(super) fn file(&mut self, path: &Path, filesystem: u64, inode: u64) -> Result<(), StorageError> {
        let ground = Ground::File { filesystem, inode };
        self.add(ground, ALL, &[], path.display().to_string())
    }

    /// Adds a block device, all of it. `open` is the device itself, if open.
    pub(super) fn device(&mut self, device: DeviceNumber, open: Option<&File>) -> Result<(), StorageError> {
        self.step(&Step { device, range: ALL, allocators: &[], depth: 0, open })
    }

    fn step(&mut self, step: &Step<'_>) -> Result<(), StorageError> {
        if step.depth > DEPTH_MAX {
            return Err(StorageError::TooDeep { number: step.device });
        }
        let device = self.host.device(step.device)?;
        self.stack.insert(step.device);
        let own = Extent::between(0, device.length);
        let range = step.range.intersection(own).unwrap_or(Extent::between(0, 0));
        let below = |device, range| Step { device, range, depth: step.depth + 1, open: None, ..*step };
        if let Some((disk, place)) = device.partition_of {
            return self.step(&below(disk, shifted(range, place.offset())));
        }
        if let Some(backing) = self.host.backing(&device, step.open) {
            return match backing {
                Backing { ground: Some(BackingGround::Device(lower)), offset, .. } => {
                    self.step(&below(lower, shifted(range, offset)))
                }
                Backing { ground: Some(BackingGround::File { filesystem, inode }), offset, path } => {
                    let ground = Ground::File { filesystem, inode };
                    self.add(ground, shifted(range, offset), step.allocators, path.display().to_string())
                }
                Backing { ground: None, .. } => self.add_device(&device, range, step.allocators),
            };
        }
        self.add_device(&device, range, step.allocators)?;
        let slaves = self.host.slaves(&device);
        if slaves.is_empty() { Ok(()) } else { self.mapped(step, range, &slaves) }
    }

    /// Goes on below a device that is composed of others.
    fn mapped(
        &mut self,
        step: &Step<'_>,
        range: Extent,
        slaves: &[DeviceNumber],
    ) -> Result<(), StorageError> {
        let mut parts = Vec::new();
        let table = self.host.mapped_lines(step.device, |line| {
            if parts.len() < FOOTPRINTS_MAX {
                parts.extend(mapping::parts(&line));
            } else {
                parts.push(Part::Whole);
            }
        });
        if !table || parts.contains(&Part::Whole) {
            parts = slaves.iter().map(|device| Part::All { device: *device }).collect();
        }
        for part in parts {
            let below = |device, range| Step { device, range, depth: step.depth + 1, open: None, ..*step };
            match part {
                Part::Straight { piece, device, offset } => {
                    let Some(shared) = piece.intersection(range) else { continue };
                    let begin = offset.saturating_add(shared.offset() - piece.offset());
                    self.step(&below(device, shifted(Extent::between(0, shared.length()), begin)))?;
                }
                Part::Spread { device, range } => self.step(&below(device, range))?,
                Part::Allocated { device } => {
                    let allocators = [step.allocators, &[device]].concat();
                    self.step(&Step { allocators: &allocators, ..below(device, ALL) })?;
                }
                Part::All { device } => self.step(&below(device, ALL))?,
                Part::Whole => {}
            }
        }
        Ok(())
    }

    fn add_device(
        &mut self,
        device: &BlockDevice,
        range: Extent,
        allocators: &[DeviceNumber],
    ) -> Result<(), StorageError> {
        self.add(Ground::Device(device.number), range, allocators, device.node.display().to_string())?;
        if let Some(last) = self.footprints.last_mut() {
            last.world_wide_name = device.world_wide_name();
        }
        Ok(())
    }

    fn add(
        &mut self,
        ground: Ground,
        range: Extent,
        allocators: &[DeviceNumber],
        label: String,
    ) -> Result<(), StorageError> {
        if self.footprints.len() >= FOOTPRINTS_MAX {
            return Err(StorageError::TooMany { limit: FOOTPRINTS_MAX });
        }
        let allocators = allocators.to_vec();
        self.footprints.push(Footprint { allocators, label, ..Footprint::new(ground, range) });
        Ok(())
    }
}

/// The range that begins `by` bytes further on.
fn shifted(range: Extent, by: u64) -> Extent {
    Extent::between(range.offset().saturating_add(by), range.end().saturating_add(by))
}

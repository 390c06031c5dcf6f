//! How the changes of a disk are found: by a tracker, an earlier agent's or a new
//! one, or by digests.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::MachineError;
use super::settings::Tracking;
use crate::disk::storage::{DeviceNumber, Host};
use crate::telemetry::Notice;
use crate::track::{ChangeSource, Device, DigestOnly, Error, Geometry, Place, Tracker};

/// How the changes of a disk are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// As they are made.
    Ebpf,
    /// By comparing digests of the whole disk.
    Digest,
}

/// The disk whose changes are to be found.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) device: &'a Path,
    pub(super) number: DeviceNumber,
    pub(super) geometry: Geometry,
    pub(super) tracking: Tracking,
    pub(super) place: &'a Place,
}

/// What finds them.
pub(super) struct Found {
    pub(super) changes: Box<dyn ChangeSource + Send>,
    pub(super) how: How,
    /// Why marks of an earlier agent are not there, or not to be trusted.
    pub(super) doubt: Option<String>,
    pub(super) notice: Option<Notice>,
}

/// No marks, where an earlier agent had some.
const NO_MARKS: &str = "no marks of an earlier agent are there: \
    the machine was started anew, or they were taken away";

impl Wanted<'_> {
    pub(super) fn find(&self) -> Result<Found, MachineError> {
        let is_counted = count(self.number);
        if self.tracking == Tracking::Digest {
            return self.by_digests(None);
        }
        let tracked = if is_counted {
            self.tracked().map_err(|source| MachineError::Track { disk: self.name.to_owned(), source })
        } else {
            Err(MachineError::Uncounted { disk: self.name.to_owned() })
        };
        match tracked {
            // Another agent has it: nobody may read it twice.
            Err(MachineError::Track { source: Error::Locked { .. }, .. }) => tracked,
            Err(error) if self.tracking == Tracking::Auto => self.by_digests(Some(&error)),
            tracked => tracked,
        }
    }

    fn by_digests(&self, reason: Option<&MachineError>) -> Result<Found, MachineError> {
        // What an earlier agent left at work would mark for nobody.
        Tracker::uninstall_at(self.place)
            .map_err(|source| MachineError::Track { disk: self.name.to_owned(), source })?;
        let notice = reason.map(|reason| {
            let text = format!("{reason}; its changes are found by digests: each point reads the whole disk");
            Notice::new("digest-tracking", text)
        });
        let changes = Box::new(DigestOnly::new(self.geometry));
        Ok(Found { changes, how: How::Digest, doubt: None, notice })
    }

    fn tracked(&self) -> Result<Found, Error> {
        let device = Device::find(self.device)?;
        let doubt = match Tracker::adopt(device.clone(), self.place.clone())? {
            Some(mut tracker) => match self.misfit(&mut tracker) {
                None => {
                    let changes = Box::new(tracker);
                    return Ok(Found { changes, how: How::Ebpf, doubt: None, notice: None });
                }
                Some(doubt) => doubt,
            },
            None => NO_MARKS.to_owned(),
        };
        let changes = Box::new(Tracker::install(device, self.geometry.chunk_size, self.place.clone())?);
        Ok(Found { changes, how: How::Ebpf, doubt: Some(doubt), notice: None })
    }

    /// Why the tracker of an earlier agent is for another disk than this one.
    /// Other doubts are those of its lane.
    fn misfit(&self, tracker: &mut Tracker) -> Option<String> {
        if tracker.geometry().chunk_size != self.geometry.chunk_size {
            return Some("it was tracked by chunks of another size".to_owned());
        }
        match tracker.check() {
            Err(doubt) if doubt.is_of_another_disk() => Some(doubt.to_string()),
            _ => None,
        }
    }
}

/// Has the kernel count the requests of a disk; whether it does. What has no such
/// switch counts.
fn count(number: DeviceNumber) -> bool {
    let counts = || Host::here().device(number).ok().and_then(|disk| disk.attribute("queue/iostats"));
    let is_off = |text: String| text.trim() == "0";
    if !counts().is_some_and(is_off) {
        return true;
    }
    if let Ok(disk) = Host::here().device(number) {
        // Whether it did is looked at.
        let _written = fs::write(disk.folder.join("queue/iostats"), "1");
    }
    !counts().is_some_and(is_off)
}

//! One protected disk of a machine: opened, bound, tracked, and its lane at work.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::error::MachineError;
use super::event::Event;
use super::settings::{DiskSettings, MachineSettings, Tracking};
use super::source::{Found, How, Wanted};
use super::status::Nature;
use super::stored::{Stands, StateFolder, Stored};
use crate::disk::storage::{DeviceNumber, Host};
use crate::disk::{Disk as OpenDisk, Purpose, open};
use crate::pipeline::{Cancel, Load};
use crate::role::agent::{Lane, LaneEnding, LaneHandle, LaneSettings, LaneStatus, News, Reserve};
use crate::role::{Disk, Error, Reason};
use crate::track::Geometry;
use crate::unit::ChunkSize;
use crate::wire::{Intent, Protect};

/// What all lanes of a machine share.
pub(super) struct Common {
    pub(super) settings: MachineSettings,
    pub(super) folder: StateFolder,
    pub(super) machine_identity: String,
    pub(super) reserve: Reserve,
    pub(super) load: Load,
    pub(super) cancel: Cancel,
    pub(super) observe: Arc<dyn Fn(Event) + Send + Sync>,
}

/// A protected disk.
pub(super) struct Protected {
    pub(super) settings: DiskSettings,
    pub(super) number: DeviceNumber,
    pub(super) nature: Nature,
    /// Nothing of a disk that is not this machine's.
    stored: Option<Stored>,
    /// As it was when its lane ended, or why it has none.
    last: LaneStatus,
    running: Option<Running>,
    /// When a lane that ended is started anew.
    pub(super) again_at: Option<Instant>,
}

struct Running {
    handle: Arc<LaneHandle>,
    stop: Cancel,
    thread: JoinHandle<Result<LaneEnding, Error>>,
}

/// A disk as a path names it.
pub(super) struct Located {
    pub(super) number: DeviceNumber,
    pub(super) node: PathBuf,
}

impl Located {
    /// The whole disk at the settings' device.
    pub(super) fn find(settings: &DiskSettings) -> Result<Self, MachineError> {
        let host = Host::here();
        let not_whole = |what| MachineError::NotWhole {
            disk: settings.name.clone(),
            device: settings.device.clone(),
            what,
        };
        let number = host.number_of(&settings.device).ok_or_else(|| not_whole("no block device"))?;
        let block = host.device(number)?;
        match block.partition_of {
            Some(_) => Err(not_whole("a partition of one")),
            None => Ok(Self { number, node: block.node }),
        }
    }
}

impl Protected {
    /// Starts the lane of a disk where it left off; `compare`: why every chunk must
    /// be compared, whatever is known.
    pub(super) fn start(
        common: &Common,
        settings: &DiskSettings,
        bound: Option<&str>,
        compare: Option<Stands>,
    ) -> Result<Self, MachineError> {
        let located = Located::find(settings)?;
        let disk = Arc::new(open(&settings.device, Purpose::Source { live: true })?);
        check_identity(settings, &disk, bound)?;
        let known = common.folder.read(&settings.name)?;
        let usual = || ChunkSize::for_disk(disk.size_bytes());
        let chunk = settings.chunk.or(known.as_ref().map(|known| known.chunk)).unwrap_or_else(usual);
        let pins = known.as_ref().map_or_else(|| settings.name.clone(), |known| known.pins.clone());
        // Kept before anything is pinned: what is pinned can then be found again.
        let initial = || Stands::Comparing { reason: Reason::Initial, why: None };
        let before = known.clone().unwrap_or_else(|| Stored::new(pins.clone(), chunk, How::Ebpf, initial()));
        common.folder.write(&settings.name, &before)?;
        let place = common.folder.place(&common.settings.pins, &pins, &settings.name);
        let geometry = Geometry { size_bytes: disk.size_bytes(), chunk_size: chunk };
        let wanted = Wanted {
            name: &settings.name,
            device: &located.node,
            number: located.number,
            geometry,
            tracking: settings.tracking,
            place: &place,
        };
        let found = wanted.find()?;
        for notice in found.notice.iter().chain(disk.notices()) {
            (common.observe)(Event::Notice(notice.clone()));
        }
        let stands = compare.unwrap_or_else(|| stands(&before, &found, known.is_some()));
        let stored = Stored { chunk, tracking: found.how, stands, ..before };
        common.folder.write(&settings.name, &stored)?;
        let nature = Nature {
            disk: settings.name.clone(),
            device: settings.device.clone(),
            size_bytes: disk.size_bytes(),
            chunk_bytes: chunk.bytes(),
            tracking: found.how,
        };
        let last = stored.status();
        let running = run(common, settings, disk, found, chunk, last.clone())?;
        Ok(Self {
            settings: settings.clone(),
            number: located.number,
            nature,
            stored: Some(stored),
            last,
            running: Some(running),
            again_at: None,
        })
    }

    /// A disk without a lane, as it stands on a machine that is not its own.
    pub(super) fn idle(settings: &DiskSettings, number: DeviceNumber, status: LaneStatus) -> Self {
        let nature = Nature {
            disk: settings.name.clone(),
            device: settings.device.clone(),
            size_bytes: 0,
            chunk_bytes: settings.chunk.unwrap_or(ChunkSize::MIN).bytes(),
            tracking: if settings.tracking == Tracking::Digest { How::Digest } else { How::Ebpf },
        };
        let settings = settings.clone();
        Self { settings, number, nature, stored: None, last: status, running: None, again_at: None }
    }

    pub(super) fn handle(&self) -> Option<&Arc<LaneHandle>> {
        self.running.as_ref().map(|running| &running.handle)
    }

    pub(super) fn lane_status(&self) -> LaneStatus {
        self.handle().map_or_else(|| self.last.clone(), |handle| handle.status())
    }

    pub(super) fn state(&self) -> Disk {
        self.handle().map_or(self.last.state, |handle| handle.state())
    }

    /// Writes what changed of what is kept.
    pub(super) fn keep(&mut self, folder: &StateFolder) -> Result<(), MachineError> {
        let Some(stored) = &self.stored else { return Ok(()) };
        let now = stored.with(&self.lane_status());
        if !stored.says_like(&now) {
            folder.write(&self.settings.name, &now)?;
            self.stored = Some(now);
        }
        Ok(())
    }

    /// How the lane ended, if it has.
    pub(super) fn ended(&mut self) -> Option<Result<LaneEnding, Error>> {
        self.running.take_if(|running| running.thread.is_finished()).map(|running| {
            self.last = running.handle.status();
            // A lane that panicked has said so; it is started anew.
            running.thread.join().unwrap_or(Err(Error::Stopped))
        })
    }

    /// Why it has no lane for now.
    pub(super) fn waits(&mut self, until: Instant, trouble: String) {
        self.again_at = Some(until);
        self.last.trouble = Some(trouble);
    }

    /// Tells the lane to end.
    pub(super) fn stop(&self) {
        if let Some(running) = &self.running {
            running.stop.cancel();
        }
    }

    /// Ends the lane, and waits for that.
    pub(super) fn end(&mut self, folder: &StateFolder) -> Result<(), MachineError> {
        self.stop();
        let kept = self.keep(folder);
        if let Some(running) = self.running.take() {
            // How it ended is of no use any more.
            let _ended = running.thread.join();
            self.last = running.handle.status();
        }
        kept
    }
}

/// Where a disk stands, by what was kept and by what was found.
fn stands(before: &Stored, found: &Found, is_known: bool) -> Stands {
    match (&before.stands, &found.doubt) {
        (Stands::Continuing, Some(doubt)) if is_known => {
            Stands::Comparing { reason: Reason::Doubt, why: Some(doubt.clone()) }
        }
        (stands, _) => stands.clone(),
    }
}

fn check_identity(settings: &DiskSettings, disk: &OpenDisk, bound: Option<&str>) -> Result<(), MachineError> {
    let found = disk.identity().to_string();
    match bound.filter(|bound| disk.identity().lasts_over_reboot() && **bound != *found) {
        None => Ok(()),
        Some(bound) => Err(MachineError::OtherDisk {
            disk: settings.name.clone(),
            device: settings.device.clone(),
            bound: bound.to_owned(),
            found,
        }),
    }
}

fn run(
    common: &Common,
    settings: &DiskSettings,
    disk: Arc<OpenDisk>,
    found: Found,
    chunk: ChunkSize,
    status: LaneStatus,
) -> Result<Running, MachineError> {
    let machine = &common.settings;
    let protect = Protect {
        machine: machine.name.clone(),
        machine_identity: common.machine_identity.clone(),
        disk: settings.name.clone(),
        disk_identity: disk.identity().to_string(),
        size_bytes: disk.size_bytes(),
        sector: disk.sector(),
        chunk,
        digest: machine.digest,
        position: None,
        intent: Intent::Continue,
        is_fenced: false,
    };
    let lane = LaneSettings {
        remote: machine.remote.clone(),
        protect,
        compression: machine.compression,
        load: common.load.clone(),
        cycle: machine.points.cycle,
        reserve: common.reserve.clone(),
        on_doubt: machine.on_doubt,
    };
    let (observe, name) = (Arc::clone(&common.observe), settings.name.clone());
    let (lane, handle) =
        Lane::new(lane, disk, found.changes, status, move |news| observe(event(&name, news)));
    let stop = common.cancel.below();
    let stopped = stop.clone();
    let thread = thread::Builder::new()
        .name(format!("lane-{}", settings.name))
        .spawn(move || lane.run(&stopped))
        .map_err(|source| MachineError::Thread { disk: settings.name.clone(), source })?;
    Ok(Running { handle: Arc::new(handle), stop, thread })
}

fn event(disk: &str, news: News<'_>) -> Event {
    let disk = disk.to_owned();
    match news {
        News::Became(state, reason) => Event::Disk { disk, state, reason: reason.map(str::to_owned) },
        News::Trouble(Error::Doubt { doubt, .. }) => Event::Doubt { disk, doubt: doubt.to_string() },
        News::Trouble(error) => Event::Trouble { disk, text: error.to_string() },
        News::Notice(notice) => Event::Notice(notice),
        News::Alarm(text) => Event::Alarm { text: format!("disk {disk}: {text}") },
    }
}

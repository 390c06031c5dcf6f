//! What the agent keeps of its disks between two lives.
//!
//! ```text
//! STATE/lock                 held by the agent that runs
//! STATE/binding.json         {"version":1,"firmware":"…","machine":"…","disks":{…}}
//! STATE/disks/NAME.json      {"version":1,"pins":"root","chunk":16384,"tracking":"ebpf",
//!                             "stands":{"is":"continuing"},"position":{…},"newest":{…}}
//! STATE/disks/NAME.lock      held with the disk's tracker
//! ```
//! Each file changes at one stroke. What is marked is not here but in the kernel;
//! what is here only says whether those marks can be trusted.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::MachineError;
use super::mounted;
use super::settings::is_name;
use super::source::How;
use crate::landing::{make_folder, remove, replace};
use crate::limits;
use crate::quiesce::Binding;
use crate::role::agent::{LaneStatus, NewestPoint};
use crate::role::{Disk, Reason};
use crate::track::{Place, Tracker};
use crate::unit::ChunkSize;
use crate::wire::Position;

pub(super) const VERSION: u32 = 1;

/// What is kept of one disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    pub(super) version: u32,
    /// The folder of its pins.
    pub(super) pins: String,
    pub(super) chunk: ChunkSize,
    pub(super) tracking: How,
    pub(super) stands: Stands,
    pub(super) position: Option<Position>,
    pub(super) newest: Option<NewestPoint>,
}

/// Where a disk stands, as far as that outlives an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub(super) enum Stands {
    /// Every change since the target's position is marked.
    Continuing,
    /// Every chunk must be compared.
    Comparing {
        reason: Reason,
        /// In words, where there is more to say.
        why: Option<String>,
    },
    /// The target takes nothing more.
    Fenced,
}

impl Stored {
    pub(super) const fn new(pins: String, chunk: ChunkSize, tracking: How, stands: Stands) -> Self {
        Self { version: VERSION, pins, chunk, tracking, stands, position: None, newest: None }
    }

    /// The same disk, some time later.
    pub(super) fn with(&self, status: &LaneStatus) -> Self {
        let stands = Stands::of(status).unwrap_or_else(|| self.stands.clone());
        Self { stands, position: status.position, newest: status.newest, ..self.clone() }
    }

    /// Whether `other` says the same; how far an epoch is, is of no use later.
    pub(super) fn says_like(&self, other: &Self) -> bool {
        let generation = |stored: &Self| stored.position.map(|position| position.generation);
        generation(self) == generation(other) && *self == Self { position: self.position, ..other.clone() }
    }

    /// What a lane begins with.
    pub(super) fn status(&self) -> LaneStatus {
        let (state, reason) = match &self.stands {
            Stands::Continuing => (Disk::Disconnected, None),
            Stands::Comparing { reason, why } => (Disk::ResyncRequired(*reason), why.clone()),
            Stands::Fenced => (Disk::Fenced, None),
        };
        LaneStatus { reason, position: self.position, newest: self.newest, ..LaneStatus::at(state) }
    }
}

impl Stands {
    /// `None` where the state says nothing that outlives an agent: what an
    /// operator has to look at is tried again by the next one.
    fn of(status: &LaneStatus) -> Option<Self> {
        match status.state {
            Disk::ResyncRequired(reason) | Disk::Synchronizing(reason) => {
                Some(Self::Comparing { reason, why: status.reason.clone() })
            }
            Disk::Fenced => Some(Self::Fenced),
            Disk::Relocated | Disk::Refused => None,
            _ => Some(Self::Continuing),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct StoredBinding {
    version: u32,
    #[serde(flatten)]
    binding: Binding,
}

/// The folder of an agent's state.
#[derive(Clone, Debug)]
pub(super) struct StateFolder {
    root: PathBuf,
}

impl StateFolder {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn disks(&self) -> PathBuf {
        self.root.join("disks")
    }

    fn disk(&self, name: &str) -> PathBuf {
        self.disks().join(format!("{name}.json"))
    }

    /// Where the tracker of a disk is pinned.
    pub(super) fn place(&self, pins: &Path, key: &str, name: &str) -> Place {
        Place::on(pins, key, self.disks().join(format!("{name}.lock")))
    }

    /// Makes the folders, and keeps every other agent out.
    pub(super) fn take(&self) -> Result<Flock<File>, MachineError> {
        let path = self.root.join("lock");
        let failed = |source| MachineError::State { path: path.clone(), source };
        make_folder(&self.disks()).map_err(failed)?;
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => MachineError::Running { path: path.clone() },
            errno => failed(errno.into()),
        })
    }

    pub(super) fn read(&self, name: &str) -> Result<Option<Stored>, MachineError> {
        let stored: Option<Stored> = read(&self.disk(name))?;
        stored.map(|stored| check_version(&self.disk(name), stored.version).map(|()| stored)).transpose()
    }

    pub(super) fn write(&self, name: &str, stored: &Stored) -> Result<(), MachineError> {
        write(&self.disk(name), stored)
    }

    pub(super) fn binding_path(&self) -> PathBuf {
        self.root.join("binding.json")
    }

    pub(super) fn binding(&self) -> Result<Option<Binding>, MachineError> {
        let path = self.binding_path();
        let Some(stored) = read::<StoredBinding>(&path)? else { return Ok(None) };
        check_version(&path, stored.version).map(|()| Some(stored.binding))
    }

    pub(super) fn write_binding(&self, binding: &Binding) -> Result<(), MachineError> {
        let stored = StoredBinding { version: VERSION, binding: binding.clone() };
        write(&self.binding_path(), &stored)
    }

    /// Notes whether the filesystem of the pins is the agent's own.
    pub(super) fn note_pins(&self, pins: &Path) -> Result<(), MachineError> {
        mounted::note(&self.root.join("mounted.json"), pins)
    }

    /// The disks of which something is kept.
    pub(super) fn names(&self) -> Result<Vec<String>, MachineError> {
        let path = self.disks();
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| MachineError::State { path, source })?,
        };
        let name = |entry: fs::DirEntry| {
            let file = entry.file_name().into_string().ok()?;
            file.strip_suffix(".json").filter(|name| is_name(name)).map(str::to_owned)
        };
        let mut names: Vec<_> = entries.flatten().filter_map(name).collect();
        names.sort();
        Ok(names)
    }

    /// Takes away what is kept of a disk, its tracker first: without its state
    /// nobody would find that.
    pub(super) fn forget(&self, pins: &Path, name: &str) -> Result<bool, MachineError> {
        let Some(stored) = self.read(name)? else { return Ok(false) };
        let place = self.place(pins, &stored.pins, name);
        Tracker::uninstall_at(&place)
            .map_err(|source| MachineError::Track { disk: name.to_owned(), source })?;
        let path = self.disk(name);
        remove(&path).map_err(|source| MachineError::State { path, source })?;
        Ok(true)
    }

    /// Takes away everything that is not a disk's, and the folders that are empty
    /// then.
    pub(super) fn clear(&self, lock: Flock<File>) -> Result<(), MachineError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| MachineError::State { path, source }
        };
        mounted::unmount(&self.root.join("mounted.json"))?;
        for name in ["binding.json", "lock"] {
            let path = self.root.join(name);
            absent_is_fine(fs::remove_file(&path)).map_err(failed(&path))?;
        }
        let keys = self.root.join("identity");
        absent_is_fine(fs::remove_dir_all(&keys)).map_err(failed(&keys))?;
        drop(lock);
        for folder in [self.disks(), self.root.clone()] {
            // Somebody may keep something of his own there.
            let _in_use = fs::remove_dir(folder);
        }
        Ok(())
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

pub(super) fn check_version(path: &Path, version: u32) -> Result<(), MachineError> {
    if version == VERSION {
        return Ok(());
    }
    Err(MachineError::Damaged { path: path.to_owned(), reason: format!("its version is {version}") })
}

pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, MachineError> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limits::PAIR_BYTES_MAX).read_to_end(&mut text));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|source| MachineError::State { path: path.to_owned(), source })?,
    };
    let damaged =
        |error: serde_json::Error| MachineError::Damaged { path: path.to_owned(), reason: error.to_string() };
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}

pub(super) fn write(path: &Path, value: &impl Serialize) -> Result<(), MachineError> {
    replace(path, value).map_err(|source| MachineError::State { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::{DeltaNumber, Epoch, Generation};

    fn stored() -> Stored {
        let stands =
            Stands::Comparing { reason: Reason::Doubt, why: Some("the machine was started anew".into()) };
        let mut stored = Stored::new("root".into(), ChunkSize::MIN, How::Ebpf, stands);
        let generation = Generation { incarnation: 7, number: 1 };
        stored.position = Some(Position { generation, epoch: Epoch(3), landed: DeltaNumber(4) });
        stored.newest = Some(NewestPoint { epoch: Epoch(2), cut_unix_ms: Some(1_790_000_000_000) });
        stored
    }

    #[test]
    fn the_file_of_a_disk_is_what_it_was() {
        let text = concat!(
            r#"{"version":1,"pins":"root","chunk":4096,"tracking":"ebpf","#,
            r#""stands":{"is":"comparing","reason":"doubt","why":"the machine was started anew"},"#,
            r#""position":{"generation":{"incarnation":7,"number":1},"epoch":3,"landed":4},"#,
            r#""newest":{"epoch":2,"cut_unix_ms":1790000000000}}"#
        );
        assert_eq!(serde_json::to_string(&stored()).expect("it has a text"), text);
        assert_eq!(serde_json::from_str::<Stored>(text).expect("it is read"), stored());
    }

    #[test]
    fn what_was_kept_comes_back_and_what_is_damaged_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateFolder::new(&folder.path().join("agent"));
        let held = state.take().expect("nobody has it");
        assert!(matches!(state.take(), Err(MachineError::Running { .. })));
        assert_eq!(state.read("root").expect("nothing is there"), None);
        state.write("root", &stored()).expect("it can be written");
        assert_eq!(state.read("root").expect("it can be read"), Some(stored()));
        assert_eq!(state.names().expect("it can be listed"), ["root"]);
        fs::write(state.disk("root"), "{\"version\":2}").expect("it can be written");
        assert!(matches!(state.read("root"), Err(MachineError::Damaged { .. })));
        fs::remove_file(state.disk("root")).expect("it is there");
        state.clear(held).expect("it can be cleared");
        assert!(!folder.path().join("agent").exists());
    }

    #[test]
    fn a_state_that_outlives_an_agent_is_kept() {
        let kept = stored();
        let after =
            |state| kept.with(&LaneStatus { position: kept.position, ..LaneStatus::at(state) }).stands;
        assert_eq!(after(Disk::AwaitingPoint), Stands::Continuing);
        assert_eq!(after(Disk::Refused), kept.stands, "tried again as it was");
        assert_eq!(after(Disk::Fenced), Stands::Fenced);
        let compares = Stands::Comparing { reason: Reason::Initial, why: None };
        assert_eq!(after(Disk::Synchronizing(Reason::Initial)), compares);
        let mut further = kept.clone();
        further.position.as_mut().expect("it has one").landed = DeltaNumber(9);
        assert!(kept.says_like(&further));
        further.position.as_mut().expect("it has one").generation.number = 2;
        assert!(!kept.says_like(&further));
    }
}

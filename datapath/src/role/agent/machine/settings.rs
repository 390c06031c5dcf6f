//! What a machine is told about its protection.

use std::path::PathBuf;
use std::time::Duration;

use crate::pipeline::{Compression, DigestAlgorithm, LoadLimits};
use crate::quiesce::Hooks;
use crate::role::agent::OnDoubt;
use crate::unit::ChunkSize;
use crate::wire::Remote;

/// Bytes of a name: it becomes part of file names at both ends.
const NAME_BYTES_MAX: usize = 64;

/// A machine and its protected disks.
#[derive(Clone)]
pub struct MachineSettings {
    /// Its name at the master target.
    pub name: String,
    /// The master target.
    pub remote: Remote,
    /// The folder of the agent's state.
    pub state: PathBuf,
    /// The folder of the freeze record, in memory.
    pub run: PathBuf,
    /// The BPF filesystem in which trackers are pinned.
    pub pins: PathBuf,
    /// The disks.
    pub disks: Vec<DiskSettings>,
    /// When points are made.
    pub points: PointSettings,
    /// How long a cut may stop writers.
    pub freeze_budget: Duration,
    /// What all disks together may still have to read while writers wait.
    pub remainder_bytes: u64,
    /// What makes applications settle.
    pub hooks: Hooks,
    /// What the agent may take from the machine.
    pub limits: LoadLimits,
    /// How deltas are packed.
    pub compression: Compression,
    /// How chunks are digested from the first comparison of a new pair on; one that
    /// exists keeps what it began with.
    pub digest: DigestAlgorithm,
    /// What follows a doubt.
    pub on_doubt: OnDoubt,
    /// Do everything but power the machine off.
    pub rehearse: bool,
    /// Accept the machine that the agent finds itself on.
    pub bind_anew: bool,
}

/// When changes are sent, and points made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointSettings {
    /// Changes are sent no more often than this.
    pub cycle: Duration,
    /// Between two crash-consistent points; `None` for none by policy.
    pub crash_every: Option<Duration>,
    /// Between two app-consistent points, where a hook is set.
    pub app_every: Option<Duration>,
}

/// One protected disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSettings {
    /// Its name; the pair is `MACHINE/DISK`.
    pub name: String,
    /// Where it is.
    pub device: PathBuf,
    /// How its changes are found.
    pub tracking: Tracking,
    /// Its chunk, where the usual one is not wanted.
    pub chunk: Option<ChunkSize>,
}

/// How the changes of a disk are to be found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracking {
    /// As they are made, where the machine can do that; else by digests.
    #[default]
    Auto,
    /// As they are made, or not at all.
    Ebpf,
    /// By comparing digests of the whole disk.
    Digest,
}

impl MachineSettings {
    /// Whether a lane that runs by `other` need not be started anew for these.
    pub(super) fn runs_like(&self, other: &Self) -> bool {
        self.limits == other.limits
            && self.compression == other.compression
            && self.on_doubt == other.on_doubt
            && self.points.cycle == other.points.cycle
    }
}

/// Whether `text` may name a machine or a disk: letters, digits, `-`, `_` and `.`,
/// not first a dot, at most 64.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.starts_with('.') && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn a_name_is_a_file_name_anywhere() {
        assert!(["web-1", "root", "sda1.old", "A_b"].into_iter().all(is_name));
        let long = "x".repeat(65);
        assert!(!["", ".", "..", ".x", "a/b", "a b", "é", long.as_str()].into_iter().any(is_name));
    }
}

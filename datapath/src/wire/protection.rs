//! What an agent and a master target tell each other about a protected disk:
//! JSON bodies of control frames, each bounded and each able to grow fields.

use serde::{Deserialize, Serialize};

use crate::delta::{DigestAlgorithm, Manifest};
use crate::unit::{Chain, ChunkSize, DeltaNumber, Epoch, Generation, MachineCut, SectorSize};

/// Where a disk stands in its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The state that deltas apply to.
    pub generation: Generation,
    /// The open epoch.
    pub epoch: Epoch,
    /// Its last delta that is durable.
    pub landed: DeltaNumber,
}

/// What the agent means to do first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Intent {
    /// Every chunk is offered: nothing is known of what the target holds.
    Synchronize {
        /// Why, for people.
        reason: String,
    },
    /// The agent knows every chunk that changed since the target's position.
    Continue,
}

/// This connection protects a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protect {
    /// The machine's name.
    pub machine: String,
    /// What the agent is bound to; another machine with its key has another.
    pub machine_identity: String,
    /// The disk's name on its machine.
    pub disk: String,
    /// The disk's identity (serial, world-wide name), which outlives its name.
    pub disk_identity: String,
    /// Its size.
    pub size_bytes: u64,
    /// Its logical sector.
    pub sector: SectorSize,
    /// The chunk by which it is tracked; a pair that exists keeps its own.
    pub chunk: ChunkSize,
    /// How chunks of a new pair are digested; one that exists keeps its own.
    pub digest: DigestAlgorithm,
    /// Where the agent believes the target to stand; `None` where it knows of none.
    pub position: Option<Position>,
    /// What it means to do.
    pub intent: Intent,
    /// Whether it knows the target to be fenced, and asks whether it is still.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_fenced: bool,
}

/// The target stands ready.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protecting {
    /// Where it stands. The next delta is the one after `landed`.
    pub position: Position,
    /// The manifest of the open epoch up to there.
    #[serde(with = "hexadecimal")]
    pub manifest: Manifest,
    /// The head of the chain at the newest point.
    #[serde(with = "hexadecimal")]
    pub chain: Chain,
    /// The newest point.
    pub newest: Option<Epoch>,
    /// The pair's chunk.
    pub chunk: ChunkSize,
    /// How its chunks are digested.
    pub digest: DigestAlgorithm,
    /// With which key.
    pub key: [u8; 32],
    /// Deltas that may be under way and not yet `Received`.
    pub credit: u32,
    /// Whether every chunk must be offered, whatever the agent means to do:
    /// there is no point yet, or a synchronization was not finished.
    pub synchronize: bool,
}

/// What a cut promises of the applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CutKind {
    /// As after a power cut.
    Crash,
    /// They were asked to settle, and had.
    App,
    /// The last one: the source stays frozen.
    Final,
}

/// Ends an epoch: it consists of its deltas up to this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Which epoch.
    pub epoch: Epoch,
    /// Its last delta; 0 for an epoch in which nothing changed.
    pub deltas: DeltaNumber,
    /// Its manifest.
    #[serde(with = "hexadecimal")]
    pub manifest: Manifest,
    /// The head of the chain with it.
    #[serde(with = "hexadecimal")]
    pub chain: Chain,
    /// What it promises.
    pub kind: CutKind,
    /// Given by whoever asked for it; empty for cuts by policy.
    pub name: String,
    /// What the cuts of all disks of the machine at this moment have in common.
    pub machine_cut: MachineCut,
    /// When it was, in milliseconds of Unix time by the source's clock.
    pub cut_unix_ms: u64,
    /// For how long the source was frozen.
    pub freeze_ms: u32,
}

/// The epoch is a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Which epoch.
    pub epoch: Epoch,
    /// The head of the chain with it.
    #[serde(with = "hexadecimal")]
    pub chain: Chain,
}

/// A delta is damaged. Nothing of it was written, and nothing after it will be:
/// the target hangs up, and the agent goes on from the last durable delta.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// The open epoch.
    pub epoch: Epoch,
    /// The delta.
    pub number: DeltaNumber,
    /// What is wrong with it.
    pub reason: String,
}

/// The source has stopped at this point, and stays stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The point, which must be the newest and of kind final.
    pub epoch: Epoch,
}

/// The target takes no delta of this generation any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fenced {
    /// The point at which it is fenced.
    pub epoch: Epoch,
}

/// The target takes nothing in at present, and goes on by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// For what.
    pub reason: String,
}

/// How far a synchronization is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes compared or sent so far.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// Hashes as text.
mod hexadecimal {
    use data_encoding::HEXLOWER;
    use serde::{Deserialize, Deserializer, Serializer, de};

    use crate::delta::Manifest;
    use crate::unit::Chain;

    /// A hash of 32 bytes.
    pub(super) trait Hash: Copy {
        fn bytes(self) -> [u8; 32];
        fn from_bytes(bytes: [u8; 32]) -> Self;
    }

    impl Hash for Manifest {
        fn bytes(self) -> [u8; 32] {
            self.0
        }

        fn from_bytes(bytes: [u8; 32]) -> Self {
            Self(bytes)
        }
    }

    impl Hash for Chain {
        fn bytes(self) -> [u8; 32] {
            self.0
        }

        fn from_bytes(bytes: [u8; 32]) -> Self {
            Self(bytes)
        }
    }

    pub(super) fn serialize<H: Hash, S: Serializer>(hash: &H, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(&hash.bytes()))
    }

    pub(super) fn deserialize<'de, H: Hash, D: Deserializer<'de>>(deserializer: D) -> Result<H, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(H::from_bytes).ok_or_else(|| de::Error::custom("a hash is 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests;

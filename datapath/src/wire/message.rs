//! What the two ends of a run tell each other before and after the data: JSON
//! bodies of control frames, each bounded and each able to grow fields.

use serde::{Deserialize, Serialize};

use crate::disk::Kind;
use crate::disk::storage::Storage;
use crate::pipeline::{Compression, DigestAlgorithm};
use crate::telemetry::{Counts, Notice, StageLatency};

/// The part that the serving end plays in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It reads its export.
    Source,
    /// It writes its export.
    Target,
}

/// Opens an export.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Open {
    /// The export's name; over ssh its path.
    pub export: String,
    /// What the export is to be.
    pub role: Role,
    /// Accept a source that is being written.
    pub live: bool,
    /// Open it only to compare.
    pub dry_run: bool,
    /// Make a new image if there is none.
    pub create: Option<Create>,
    /// The source, when the export is the target.
    pub source: Option<DiskFacts>,
}

/// A new image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Create {
    /// Nothing but the disk's bytes.
    Raw,
    /// A VMDK descriptor with one flat extent.
    VmdkFlat,
}

impl Create {
    /// What kind of disk it makes.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Raw => Kind::RawImage,
            Self::VmdkFlat => Kind::VmdkFlat,
        }
    }
}

/// What one end tells the other about its disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiskFacts {
    /// Its path on its host.
    pub name: String,
    /// What it is made of.
    pub kind: Kind,
    /// Its size.
    pub size_bytes: u64,
    /// Whether it may be written by others meanwhile.
    pub live: bool,
    /// What it rests on, to find two names of one storage.
    pub storage: Storage,
    /// What its user should know.
    pub notices: Vec<Notice>,
}

/// The export is open.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opened {
    /// The disk.
    pub disk: DiskFacts,
    /// The cursor of an interrupted run onto this target, in bytes.
    pub resumed_from: Option<u64>,
}

/// Begins a run; both ends work by the same one.
#[derive(Clone, Serialize, Deserialize)]
pub struct Start {
    /// Size of the source, which is the size of the run.
    pub size_bytes: u64,
    /// Number of lanes.
    pub lanes: u32,
    /// How chunks are digested.
    pub digest: DigestAlgorithm,
    /// The key of this run's digests.
    pub key: [u8; 32],
    /// Chunks before this byte are compared, those after it are copied.
    pub compare_until: u64,
    /// How extents are packed.
    pub compression: Compression,
    /// Bytes a second that the source sends at most.
    pub rate_limit: Option<u64>,
    /// Read the target back at the end.
    pub verify: bool,
    /// Change nothing.
    pub dry_run: bool,
    /// Whether the user asked for no comparison at all.
    pub whole: bool,
    /// What the source is called in the target's mark.
    pub source_name: String,
}

/// The run has begun.
#[derive(Clone, Serialize, Deserialize)]
pub struct Started {
    /// What further connections name to join as lanes; known to nobody else.
    pub session: [u8; 16],
}

/// One more lane of a run.
#[derive(Clone, Serialize, Deserialize)]
pub struct Join {
    /// From [`Started`].
    pub session: [u8; 16],
    /// Which lane this connection is.
    pub lane: u32,
}

/// The end of a lane.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct End {
    /// What this lane counted.
    pub counts: Counts,
    /// Its latencies.
    pub latencies: Vec<StageLatency>,
    /// From a source: somebody else may have written it meanwhile.
    #[serde(default)]
    pub live: bool,
}

/// The target is whole and flushed, and verified where that was asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Finished {
    /// What the target counted after its lanes had ended.
    pub counts: Counts,
    /// The latencies of that.
    pub latencies: Vec<StageLatency>,
}

/// Why an end refuses to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What kind of reason.
    pub code: Code,
    /// The reason, for people.
    pub message: String,
    /// The durable cursor of a target left unfinished; `None` where the target
    /// was not changed, or the sender has none.
    pub unfinished_cursor: Option<u64>,
}

/// Kinds of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The request cannot be granted; nothing was changed.
    Refused,
    /// A disk failed.
    Failed,
    /// The verification found differences.
    Differs,
    /// Somebody stopped it.
    Interrupted,
    /// The other end broke the protocol.
    Protocol,
    /// A reason of a newer version.
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests;

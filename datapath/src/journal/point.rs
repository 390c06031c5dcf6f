//! The record of a recovery point.
//!
//! ```text
//!   0  1  kind: 1 crash-consistent, 2 app-consistent, 3 final, 4 rewind
//!   1  1  zero
//!   2  2  length of the name
//!   4  4  milliseconds that the source was frozen
//!   8  8  incarnation     16  8  number of the generation
//!  24  8  epoch           32  8  epoch that a rewind went back to, else zero
//!  40  8  cut, milliseconds of Unix time on the source
//!  48  8  closed, milliseconds of Unix time on the target
//!  56  8  deltas of the epoch
//!  64  8  chunks that the epoch changed
//!  72 32  manifest
//! 104 32  head of the chain, this point's manifest included
//! 136  …  name, UTF-8, at most 256 bytes
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use super::field::{Fields, Room};
use crate::limits;
use crate::unit::{Chain, DeltaNumber, Epoch, Generation};

/// What a point promises of the applications that wrote the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PointKind {
    /// The disk as after a power cut at that moment.
    Crash,
    /// The applications had been asked to settle first, and had.
    App,
    /// The last one of a machine that was stopped for good.
    Final,
    /// The target was taken back to an earlier or later point.
    Rewind {
        /// That point.
        to: Epoch,
    },
}

impl fmt::Display for PointKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash => f.write_str("crash-consistent"),
            Self::App => f.write_str("app-consistent"),
            Self::Final => f.write_str("final"),
            Self::Rewind { to } => write!(f, "rewind to {to}"),
        }
    }
}

/// A recovery point: an epoch that is whole and durable on the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PointRecord {
    /// The state that it belongs to.
    pub generation: Generation,
    /// The epoch that it closes.
    pub epoch: Epoch,
    /// What it promises.
    pub kind: PointKind,
    /// Given by whoever asked for it; empty for points by policy.
    pub name: String,
    /// When it was cut, by the source's clock.
    pub cut_unix_ms: u64,
    /// When it was closed, by the target's clock: what expiry by age goes by.
    pub closed_unix_ms: u64,
    /// For how long the source was frozen.
    pub freeze_ms: u32,
    /// Deltas of its epoch.
    pub deltas: DeltaNumber,
    /// Chunks that its epoch changed, as the source counted them.
    pub chunks: u64,
    /// Hash over all headers and entries of its epoch.
    pub manifest: [u8; 32],
    /// Head of the chain, its own manifest included.
    #[serde(serialize_with = "chain_as_text")]
    pub chain: Chain,
}

fn chain_as_text<S: serde::Serializer>(chain: &Chain, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(chain)
}

impl PointRecord {
    const FIXED_BYTES: usize = 136;

    /// Its bytes; `None` where its name is too long.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let name_length = u16::try_from(self.name.len()).ok()?;
        if self.name.len() > limits::POINT_NAME_MAX {
            return None;
        }
        let mut bytes = vec![0; Self::FIXED_BYTES + self.name.len()];
        let mut room = Room::new(&mut bytes);
        let (kind, to) = match self.kind {
            PointKind::Crash => (1, 0),
            PointKind::App => (2, 0),
            PointKind::Final => (3, 0),
            PointKind::Rewind { to } => (4, to.0),
        };
        room.u8(kind);
        room.u8(0);
        room.u16(name_length);
        room.u32(self.freeze_ms);
        room.u64(self.generation.incarnation);
        room.u64(self.generation.number);
        room.u64(self.epoch.0);
        room.u64(to);
        room.u64(self.cut_unix_ms);
        room.u64(self.closed_unix_ms);
        room.u64(self.deltas.0);
        room.u64(self.chunks);
        room.put(&self.manifest);
        room.put(&self.chain.0);
        room.put(self.name.as_bytes());
        Some(bytes)
    }

    /// Reads what [`Self::encode`] wrote, all of it; `None` for anything else.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let kind = fields.u8()?;
        if fields.u8()? != 0 {
            return None;
        }
        let name_length = usize::from(fields.u16()?);
        let freeze_ms = fields.u32()?;
        let generation = Generation { incarnation: fields.u64()?, number: fields.u64()? };
        let epoch = Epoch(fields.u64()?);
        let kind = match (kind, fields.u64()?) {
            (1, 0) => PointKind::Crash,
            (2, 0) => PointKind::App,
            (3, 0) => PointKind::Final,
            (4, to) => PointKind::Rewind { to: Epoch(to) },
            _ => return None,
        };
        let record = Self {
            generation,
            epoch,
            kind,
            cut_unix_ms: fields.u64()?,
            closed_unix_ms: fields.u64()?,
            freeze_ms,
            deltas: DeltaNumber(fields.u64()?),
            chunks: fields.u64()?,
            manifest: fields.array()?,
            chain: Chain(fields.array()?),
            name: std::str::from_utf8(fields.bytes(name_length)?).ok()?.to_owned(),
        };
        let fits = name_length <= limits::POINT_NAME_MAX && fields.is_empty();
        fits.then_some(record)
    }
}

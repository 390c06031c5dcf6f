//! The record of a recovery point.
//!
//! ```text
//!   0  1  kind: 1 crash-consistent, 2 app-consistent, 3 final, 4 rewind
//!   1  1  form: 0 without a cut of the machine, 1 with one
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
//! 136  8  number of the machine's cut     144  4  its disks     148  4  zero: in form 1 alone
//!   …  …  name, UTF-8, at most 256 bytes
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use super::field::{Fields, Room};
use crate::limits;
use crate::unit::{Chain, DeltaNumber, Epoch, Generation, MachineCut};

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
    /// What it has in common with the points of the machine's other disks.
    #[serde(serialize_with = "machine_cut_as_text")]
    pub machine_cut: Option<MachineCut>,
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
    #[serde(serialize_with = "manifest_as_text")]
    pub manifest: [u8; 32],
    /// Head of the chain, its own manifest included.
    #[serde(serialize_with = "chain_as_text")]
    pub chain: Chain,
}

fn manifest_as_text<S: serde::Serializer>(manifest: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&data_encoding::HEXLOWER.encode(manifest))
}

fn chain_as_text<S: serde::Serializer>(chain: &Chain, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(chain)
}

/// Its number in hexadecimal digits: as a number in JSON it would lose some.
fn machine_cut_as_text<S: serde::Serializer>(
    cut: &Option<MachineCut>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Text {
        number: String,
        disks: u32,
    }
    cut.map(|cut| Text { number: cut.name(), disks: cut.disks }).serialize(serializer)
}

impl PointRecord {
    const FIXED_BYTES: usize = 136;
    const MACHINE_CUT_BYTES: usize = 16;

    /// Its bytes; `None` where its name is too long.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let name_length = u16::try_from(self.name.len()).ok()?;
        if self.name.len() > limits::POINT_NAME_MAX {
            return None;
        }
        let machine_cut_bytes = if self.machine_cut.is_some() { Self::MACHINE_CUT_BYTES } else { 0 };
        let mut bytes = vec![0; Self::FIXED_BYTES + machine_cut_bytes + self.name.len()];
        let mut room = Room::new(&mut bytes);
        let (kind, to) = match self.kind {
            PointKind::Crash => (1, 0),
            PointKind::App => (2, 0),
            PointKind::Final => (3, 0),
            PointKind::Rewind { to } => (4, to.0),
        };
        room.u8(kind);
        room.u8(u8::from(self.machine_cut.is_some()));
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
        if let Some(cut) = self.machine_cut {
            room.u64(cut.number);
            room.u32(cut.disks);
            room.u32(0);
        }
        room.put(self.name.as_bytes());
        Some(bytes)
    }

    /// Reads what [`Self::encode`] wrote, all of it; `None` for anything else.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let kind = fields.u8()?;
        let has_machine_cut = match fields.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        };
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
        let mut record = Self {
            generation,
            epoch,
            kind,
            name: String::new(),
            machine_cut: None,
            cut_unix_ms: fields.u64()?,
            closed_unix_ms: fields.u64()?,
            freeze_ms,
            deltas: DeltaNumber(fields.u64()?),
            chunks: fields.u64()?,
            manifest: fields.array()?,
            chain: Chain(fields.array()?),
        };
        if has_machine_cut {
            record.machine_cut = Some(MachineCut { number: fields.u64()?, disks: fields.u32()? });
            if fields.u32()? != 0 {
                return None;
            }
        }
        record.name = std::str::from_utf8(fields.bytes(name_length)?).ok()?.to_owned();
        let fits = name_length <= limits::POINT_NAME_MAX && fields.is_empty();
        fits.then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> PointRecord {
        PointRecord {
            generation: Generation { incarnation: 1, number: 2 },
            epoch: Epoch(3),
            kind: PointKind::App,
            name: "n".to_owned(),
            machine_cut: Some(MachineCut { number: 0x0102_0304_0506_0708, disks: 2 }),
            cut_unix_ms: 4,
            closed_unix_ms: 5,
            freeze_ms: 6,
            deltas: DeltaNumber(7),
            chunks: 8,
            manifest: [9; 32],
            chain: Chain([10; 32]),
        }
    }

    #[test]
    fn golden_bytes_with_a_cut_of_the_machine() {
        let bytes = record().encode().expect("a short name");
        assert_eq!(bytes[..8], [2, 1, 1, 0, 6, 0, 0, 0]);
        assert_eq!(bytes[136..], [8, 7, 6, 5, 4, 3, 2, 1, 2, 0, 0, 0, 0, 0, 0, 0, b'n']);
        assert_eq!(PointRecord::decode(&bytes), Some(record()));
        for (at, wrong) in [(1, 2), (1, 0), (148, 1)] {
            let mut bytes = bytes.clone();
            bytes[at] = wrong;
            assert_eq!(PointRecord::decode(&bytes), None, "byte {at}");
        }
        assert_eq!(PointRecord::decode(&bytes[..140]), None);
    }

    #[test]
    fn without_one_it_is_as_it_always_was() {
        let record = PointRecord { machine_cut: None, ..record() };
        let bytes = record.encode().expect("a short name");
        assert_eq!((bytes.len(), bytes[1]), (137, 0));
        assert_eq!(PointRecord::decode(&bytes), Some(record));
    }

    #[test]
    fn the_number_of_a_cut_has_a_name() {
        let cut = MachineCut { number: 0xab, disks: 1 };
        assert_eq!(cut.name(), "00000000000000ab");
        assert_eq!(MachineCut::number_of(&cut.name()), Some(0xab));
        assert!(
            ["ab", "+0000000000000ab", "g0000000000000ab"]
                .iter()
                .all(|name| MachineCut::number_of(name).is_none())
        );
    }
}

//! A [`Storage`] on its way to another process, and the bounds of what comes back.
//!
//! Whole files, of which a split VMDK has thousands, travel as differences
//! between their inodes, a few bytes each:
//!
//! ```text
//! {"boot_id":"4f3c…","files":[[65024,[843780,1,1,2]]],
//!  "traces":[{"ground":{"Device":{"major":8,"minor":0}},"offset":0,"length":107374182400,
//!             "allocators":[],"world_wide_name":"naa.5000c500a1b2c3d4"}]}
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::host::{DeviceNumber, WORLD_WIDE_NAME_BYTES_MAX};
use super::resolve::ALL;
use super::{FOOTPRINTS_MAX, Footprint, Ground, Storage};
use crate::unit::Extent;

/// Allocators on the way down, see [`Footprint`].
const ALLOCATORS_MAX: usize = 32;

/// What travels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Parcel {
    boot_id: String,
    /// For each filesystem the inodes of whole files: the smallest, then by how
    /// much each is larger than the one before.
    #[serde(default, deserialize_with = "at_most::<FOOTPRINTS_MAX, _, _>")]
    files: Vec<(u64, Inodes)>,
    /// Everything else.
    #[serde(default, deserialize_with = "at_most::<FOOTPRINTS_MAX, _, _>")]
    traces: Vec<Trace>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Inodes(#[serde(deserialize_with = "at_most::<FOOTPRINTS_MAX, _, _>")] Vec<u64>);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Trace {
    ground: Ground,
    offset: u64,
    length: u64,
    #[serde(deserialize_with = "at_most::<ALLOCATORS_MAX, _, _>")]
    allocators: Vec<DeviceNumber>,
    world_wide_name: Option<String>,
}

/// A storage from a peer that breaks the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidStorage {
    #[error(
        "a name in the peer's storage is longer than {WORLD_WIDE_NAME_BYTES_MAX} bytes or not plain ASCII"
    )]
    Name,
    #[error("a number in the peer's storage ends past the last number")]
    Range,
    #[error("the peer's storage has more than {FOOTPRINTS_MAX} pieces")]
    Count,
}

impl From<Storage> for Parcel {
    fn from(storage: Storage) -> Self {
        let mut whole: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        let mut traces = Vec::new();
        for footprint in storage.footprints {
            match footprint.ground {
                Ground::File { filesystem, inode }
                    if footprint.range == ALL && footprint.allocators.is_empty() =>
                {
                    whole.entry(filesystem).or_default().insert(inode);
                }
                ground => traces.push(Trace {
                    ground,
                    offset: footprint.range.offset(),
                    length: footprint.range.length(),
                    allocators: footprint.allocators,
                    world_wide_name: footprint.world_wide_name,
                }),
            }
        }
        let differences = |inodes: BTreeSet<u64>| {
            let mut last = 0;
            Inodes(inodes.into_iter().map(|inode| inode - std::mem::replace(&mut last, inode)).collect())
        };
        let files = whole.into_iter().map(|(filesystem, inodes)| (filesystem, differences(inodes))).collect();
        Self { boot_id: storage.boot_id, files, traces }
    }
}

impl TryFrom<Parcel> for Storage {
    type Error = InvalidStorage;

    fn try_from(parcel: Parcel) -> Result<Self, InvalidStorage> {
        if !is_plain(&parcel.boot_id) {
            return Err(InvalidStorage::Name);
        }
        let mut footprints = Vec::new();
        for (filesystem, Inodes(differences)) in parcel.files {
            let mut inode = 0_u64;
            for difference in differences {
                inode = inode.checked_add(difference).ok_or(InvalidStorage::Range)?;
                if footprints.len() >= FOOTPRINTS_MAX {
                    return Err(InvalidStorage::Count);
                }
                footprints.push(Footprint::new(Ground::File { filesystem, inode }, ALL));
            }
        }
        for trace in parcel.traces {
            if !trace.world_wide_name.as_deref().is_none_or(is_plain) {
                return Err(InvalidStorage::Name);
            }
            if footprints.len() >= FOOTPRINTS_MAX {
                return Err(InvalidStorage::Count);
            }
            let range = Extent::new(trace.offset, trace.length).ok_or(InvalidStorage::Range)?;
            footprints.push(Footprint {
                allocators: trace.allocators,
                world_wide_name: trace.world_wide_name,
                ..Footprint::new(trace.ground, range)
            });
        }
        Ok(Self { boot_id: parcel.boot_id, footprints, stack: BTreeSet::new() })
    }
}

fn is_plain(name: &str) -> bool {
    name.len() <= WORLD_WIDE_NAME_BYTES_MAX
        && name.chars().all(|letter| letter == ' ' || letter.is_ascii_graphic())
}

/// A list of at most `LIMIT` values; nothing is allocated ahead of them.
fn at_most<'de, const LIMIT: usize, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct Bounded<T, const LIMIT: usize>(std::marker::PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const LIMIT: usize> Visitor<'de> for Bounded<T, LIMIT> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {LIMIT} values")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
            let mut values = Vec::new();
            while let Some(value) = sequence.next_element()? {
                if values.len() == LIMIT {
                    return Err(serde::de::Error::custom(format_args!("more than {LIMIT} values")));
                }
                values.push(value);
            }
            Ok(values)
        }
    }

    deserializer.deserialize_seq(Bounded::<T, LIMIT>(std::marker::PhantomData))
}

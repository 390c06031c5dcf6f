//! What a disk is made of.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a disk is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A block device, loop devices included.
    BlockDevice,
    /// A regular file with nothing but the disk's bytes.
    RawImage,
    /// A VMDK descriptor with flat or zero extents.
    VmdkFlat,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BlockDevice => "block device",
            Self::RawImage => "raw image",
            Self::VmdkFlat => "VMDK, flat",
        })
    }
}

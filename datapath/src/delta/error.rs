//! Why bytes are no delta, or not the delta they say they are.

use super::Place;
use crate::error::{Remediable, Remedy};
use crate::unit::Extent;

/// An error of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A header that breaks a rule of its layout.
    #[error("a delta's header is not sound: {what}")]
    Header {
        /// Which rule.
        what: &'static str,
    },
    /// Header or entries do not have their checksum.
    #[error("delta {place}: its list of chunks is damaged; it is sent again")]
    Checksum {
        /// Which delta.
        place: Place,
    },
    /// An entry that breaks a rule.
    #[error("delta {place}, entry {index}: {what}")]
    Entry {
        /// Which delta.
        place: Place,
        /// The number of the entry, from 0 on.
        index: usize,
        /// Which rule.
        what: &'static str,
    },
    /// Lengths that do not fit together.
    #[error("delta {place}: {found_bytes} bytes where {expected_bytes} belong")]
    Length {
        /// Which delta.
        place: Place,
        /// Bytes that there are.
        found_bytes: usize,
        /// Bytes that the header announces.
        expected_bytes: usize,
    },
    /// A chunk without its digest. Nothing was written.
    #[error(
        "delta {place}: the bytes for {extent} do not have the digest made at the source; it is sent again"
    )]
    Damaged {
        /// Which delta.
        place: Place,
        /// Which bytes.
        extent: Extent,
    },
}

impl Remediable for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Checksum { .. } | Self::Length { .. } | Self::Damaged { .. } => Remedy::Reconnect,
            Self::Header { .. } | Self::Entry { .. } => Remedy::Stop,
        }
    }
}

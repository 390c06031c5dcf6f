//! What can go wrong between two ends.

use super::frame::{FrameError, Kind};
use super::message::{Code, Refused};
use super::tls;
use crate::delta;
use crate::error::{Remediable, Remedy};
use crate::unit::Extent;

/// An error of the wire.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection itself.
    #[error(transparent)]
    Channel(#[from] tls::Error),
    /// A frame that breaks a rule.
    #[error("{peer} broke the protocol: {source}")]
    Frame {
        /// Who.
        peer: String,
        /// Which rule.
        source: FrameError,
    },
    /// A frame that has no place here.
    #[error("{peer} broke the protocol: a {kind:?} frame for {extent} where {expected} was due")]
    Unexpected {
        /// Who.
        peer: String,
        /// What came.
        kind: Kind,
        /// What it was about.
        extent: Extent,
        /// What was due.
        expected: &'static str,
    },
    /// A message that cannot be read.
    #[error("{peer} sent a {kind:?} message that cannot be read: {source}")]
    Message {
        /// Who.
        peer: String,
        /// Its kind.
        kind: Kind,
        /// Why.
        source: serde_json::Error,
    },
    /// Not failback at all, or of no common version.
    #[error(
        "{peer} speaks versions {lowest} to {highest} of the protocol, this failback {} to {}: use releases that share one",
        super::VERSION_LOWEST,
        super::VERSION_HIGHEST
    )]
    Version {
        /// Who.
        peer: String,
        /// Its lowest version.
        lowest: u16,
        /// Its highest version.
        highest: u16,
    },
    /// The other end does not begin as failback does.
    #[error("{peer} does not speak the protocol of failback")]
    NotFailback {
        /// Who.
        peer: String,
    },
    /// Bytes that do not have the digest that came with them.
    #[error(
        "{peer} sent bytes for {extent} that do not have their digest: damaged on the way, or in a memory"
    )]
    Damaged {
        /// Who.
        peer: String,
        /// Which bytes.
        extent: Extent,
    },
    /// A frame that begins and does not end.
    #[error(
        "{peer} sent a part of a frame and not the rest of it within {seconds} s: the link is too slow, or held up"
    )]
    Slow {
        /// Who.
        peer: String,
        /// What the frame was given.
        seconds: u64,
    },
    /// A lane that says that it lives, and does nothing.
    #[error(
        "{peer} says that it lives, but nothing of its lane has moved for {seconds} s: look at its disk and its log"
    )]
    Idle {
        /// Who.
        peer: String,
        /// For how long.
        seconds: u64,
    },
    /// A delta that is damaged or breaks a rule.
    #[error("{peer} sent a delta that cannot be used: {source}")]
    Delta {
        /// Who.
        peer: String,
        /// Why.
        source: delta::Error,
    },
    /// The other end gave a reason.
    #[error("{peer}: {}", refused.message)]
    Refused {
        /// Who.
        peer: String,
        /// Its reason.
        refused: Refused,
    },
    /// The ssh client could not be started.
    #[error("cannot run {program}: {source}")]
    Ssh {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
}

impl Remediable for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Channel(error) => error.remedy(),
            Self::Frame { .. } | Self::Unexpected { .. } | Self::Message { .. } => Remedy::Stop,
            Self::Damaged { .. } | Self::Slow { .. } | Self::Idle { .. } => Remedy::Reconnect,
            Self::Delta { source, .. } => source.remedy(),
            Self::Version { .. } | Self::NotFailback { .. } | Self::Ssh { .. } => Remedy::Refused,
            Self::Refused { refused, .. } => match refused.code {
                Code::Refused => Remedy::Refused,
                // It was stopped, not we: gone as far as this run goes.
                Code::Interrupted => Remedy::Reconnect,
                Code::Differs => Remedy::Resync,
                Code::Failed | Code::Protocol | Code::Other => Remedy::Stop,
            },
        }
    }
}

//! What goes wrong on the secure channel, with the peer's address and what to do.
//!
//! In: errors of the socket, of rustls, of identities and pairing. Out: one
//! [`Error`]. Invariants: each names its peer; none holds a key, a secret or a
//! byte of payload.

use std::io;

use rustls::AlertDescription;

use crate::error::{Remediable, Remedy};
use crate::wire::identity::{self, Fingerprint};
use crate::wire::{pairing, peers};

/// Why a channel could not be opened, or carries nothing more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error(
        "cannot reach {peer}: {source}; check that `failback serve --listen` runs there and that no firewall is between"
    )]
    Unreachable {
        /// The server's address.
        peer: String,
        /// What the system said.
        source: io::Error,
    },
    /// The peer ended the conversation properly, between two messages.
    #[error("{peer} closed the connection")]
    Closed {
        /// The peer's address.
        peer: String,
    },
    /// The conversation ended in the middle of a message, or without a farewell.
    #[error("the connection to {peer} ended early: look at that side's log, then run the same command again")]
    Truncated {
        /// The peer's address.
        peer: String,
    },
    /// The system reports the connection as broken.
    #[error("the connection to {peer} broke: {source}; run the same command again")]
    Broken {
        /// The peer's address.
        peer: String,
        /// What the system said.
        source: io::Error,
    },
    /// Not one byte came.
    #[error("{peer} said nothing for {seconds} seconds: it is taken for gone; run the same command again")]
    Silent {
        /// The peer's address.
        peer: String,
        /// The limit.
        seconds: u64,
    },
    /// Not one byte could be sent.
    #[error("{peer} took nothing for {seconds} seconds: it is taken for gone; run the same command again")]
    Stalled {
        /// The peer's address.
        peer: String,
        /// The limit.
        seconds: u64,
    },
    /// A call was cancelled half-way, so the stream of bytes has a gap.
    #[error("the connection to {peer} was given up in the middle of a message; connect anew")]
    Abandoned {
        /// The peer's address.
        peer: String,
    },
    /// This side has already said farewell.
    #[error("the connection to {peer} was already closed by this side")]
    Finished {
        /// The peer's address.
        peer: String,
    },
    /// Received bytes that are no valid TLS, or an alert.
    #[error("the encrypted connection to {peer} failed: {source}; run the same command again")]
    Record {
        /// The peer's address.
        peer: String,
        /// What the TLS library said.
        source: rustls::Error,
    },
    /// The handshake did not end in time.
    #[error("{peer} did not finish the handshake within {seconds} seconds")]
    HandshakeTimeout {
        /// The peer's address.
        peer: String,
        /// The limit.
        seconds: u64,
    },
    /// The peer went away during the handshake.
    #[error(
        "{peer} closed the connection during the handshake: it may be no failback server, or be too busy; try again"
    )]
    HandshakeInterrupted {
        /// The peer's address.
        peer: String,
    },
    /// The peer speaks no TLS 1.3, or not as this program does.
    #[error("no secure connection with {peer}: {source}; both sides need a failback of the same protocol")]
    Handshake {
        /// The peer's address.
        peer: String,
        /// What the TLS library said.
        source: rustls::Error,
    },
    /// TLS works, but the other program is none of ours.
    #[error("{peer} speaks TLS but not failback's protocol: check the address and the port")]
    WrongProtocol {
        /// The peer's address.
        peer: String,
    },
    /// The server is another than the one that was paired.
    #[error(
        "{peer} shows certificate {seen}, paired was {expected}: another machine answers there or its key was renewed; run `failback pair` there and pair again"
    )]
    WrongServer {
        /// The server's address.
        peer: String,
        /// The fingerprint that was paired.
        expected: Fingerprint,
        /// The fingerprint that was shown.
        seen: Fingerprint,
    },
    /// The server does not know this machine.
    #[error(
        "{peer} does not accept this machine's certificate {own}: not paired; run `failback pair` there and give its token to `--token-file` here"
    )]
    CertificateRefused {
        /// The server's address.
        peer: String,
        /// The fingerprint of this machine's certificate.
        own: Fingerprint,
    },
    /// A client that is not paired tried to open a session (on the server's side).
    #[error(
        "{peer} with certificate {seen} is not paired: run `failback pair` here and give the token to that machine"
    )]
    UnknownPeer {
        /// Where it came from.
        peer: String,
        /// The certificate it showed.
        seen: Fingerprint,
    },
    /// Too many attempts to pair.
    #[error("too many attempts to pair, this one from {peer}: try again in a minute")]
    TooManyPairings {
        /// Where it came from.
        peer: String,
    },
    /// Pairing failed.
    #[error(transparent)]
    Pairing(#[from] pairing::Error),
    /// This machine's own identity cannot be used.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The known peers cannot be read.
    #[error(transparent)]
    Peers(#[from] peers::Error),
}

impl Remediable for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Unreachable { .. }
            | Self::HandshakeTimeout { .. }
            | Self::HandshakeInterrupted { .. }
            | Self::TooManyPairings { .. }
            | Self::Closed { .. }
            | Self::Truncated { .. }
            | Self::Broken { .. }
            | Self::Silent { .. }
            | Self::Stalled { .. }
            | Self::Abandoned { .. }
            | Self::Finished { .. }
            | Self::Record { .. } => Remedy::Reconnect,
            Self::Handshake { .. }
            | Self::WrongProtocol { .. }
            | Self::WrongServer { .. }
            | Self::CertificateRefused { .. }
            | Self::UnknownPeer { .. } => Remedy::Refused,
            Self::Pairing(error) => error.remedy(),
            Self::Identity(error) => error.remedy(),
            Self::Peers(error) => error.remedy(),
        }
    }
}

/// Whether an alert says that the other side does not accept our certificate.
pub(super) const fn refuses_certificate(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::AlertReceived(
            AlertDescription::AccessDenied
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateRequired
                | AlertDescription::UnknownCA
        )
    )
}

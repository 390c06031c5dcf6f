//! The secure byte channel: TLS 1.3 with certificates on both sides, or a pipe
//! that ssh protects.
//!
//! ```text
//!  lane task 1: Sender ──encrypt──> socket ══ TLS 1.3 ══> socket ──decrypt in place──> Receiver
//!  lane task 2: Receiver <─────────────────────────────────────────────────────────── Sender
//! ```
//!
//! In: pieces of bytes, and buffers to fill. Out: the same bytes, in order,
//! unread and unchanged by anyone between, or an [`Error`] that names the peer.
//! Invariants: both sides hold the key of a certificate that the other knows by
//! its fingerprint; AES-128-GCM where both have it; no early data, no tickets,
//! no resumption; keys are renewed before they wear out (rustls does, at 2^24
//! records). A clean end is told from a cut. Never: frames messages, retries, or
//! leaves a wait without a limit. Limits: `limits::HANDSHAKE_TIMEOUT` for a
//! handshake, `limits::PEER_SILENCE_MAX` for each wait after it; about 0.5 MiB a
//! connection after its handshake and 50 KiB before.
//!
//! A [`Sender`] and a [`Receiver`] belong to one thread, and may be used by two
//! of its tasks at once. Sending waits when the socket takes no more: that is
//! the backpressure.

use std::fmt;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

mod accept;
mod connect;
mod engine;
mod error;
mod handshake;
mod incoming;
mod pipe;
mod sealed;
mod socket;
#[cfg(test)]
mod tests;

pub use accept::{Accepted, ServerSettings, accept};
pub use connect::{connect, connect_within};
pub use error::Error;

/// The protocol (ALPN) of sessions.
pub(crate) const PROTOCOL: &[u8] = b"failback/1";

/// The sending half of a channel.
pub struct Sender(SenderForm);

/// The receiving half of a channel.
pub struct Receiver(ReceiverForm);

enum SenderForm {
    Tls(sealed::SealedSender),
    Pipe(pipe::PipeSender),
}

enum ReceiverForm {
    Tls(sealed::SealedReceiver),
    Pipe(pipe::PipeReceiver),
}

/// A channel over two streams that something else protects, such as the standard
/// streams of an `ssh` child. `peer` names the other side in errors.
#[must_use]
pub fn pipe(
    reader: impl AsyncRead + Unpin + 'static,
    writer: impl AsyncWrite + Unpin + 'static,
    peer: &str,
) -> (Sender, Receiver) {
    let (sender, receiver) = pipe::halves(Box::new(reader), Box::new(writer), peer.to_owned());
    (Sender(SenderForm::Pipe(sender)), Receiver(ReceiverForm::Pipe(receiver)))
}

/// A channel over this process's own standard input and output, when ssh has
/// started it. `peer` names the other side in errors.
///
/// # Errors
/// They are closed or are no pipe or socket.
pub fn standard_streams(peer: &str) -> Result<(Sender, Receiver), Error> {
    let (reader, writer) =
        pipe::standard_streams().map_err(|source| Error::Broken { peer: peer.to_owned(), source })?;
    Ok(pipe(reader, writer, peer))
}

impl Sender {
    const fn sealed(half: sealed::SealedSender) -> Self {
        Self(SenderForm::Tls(half))
    }

    /// Sends all `pieces`, one after the other, and returns when the system has
    /// taken them. Large pieces are best: up to 1 MiB each. If the call is
    /// dropped half-way, the sender fails from then on.
    ///
    /// # Errors
    /// The peer is gone, took nothing for too long, or the channel is closed.
    pub async fn send(&mut self, pieces: &[&[u8]]) -> Result<(), Error> {
        match &mut self.0 {
            SenderForm::Tls(half) => half.send(pieces).await,
            SenderForm::Pipe(half) => half.send(pieces).await,
        }
    }

    /// Says that nothing more will be sent, which the peer can tell from a cut.
    ///
    /// # Errors
    /// As for [`Self::send`].
    pub async fn close(&mut self) -> Result<(), Error> {
        match &mut self.0 {
            SenderForm::Tls(half) => half.close().await,
            SenderForm::Pipe(half) => half.close().await,
        }
    }

    /// Lets a send wait at most `limit` without any progress, instead of
    /// `limits::PEER_SILENCE_MAX`.
    pub const fn limit_silence(&mut self, limit: Duration) {
        match &mut self.0 {
            SenderForm::Tls(half) => half.silence_max = limit,
            SenderForm::Pipe(half) => half.silence_max = limit,
        }
    }

    /// The peer's address, as errors name it.
    #[must_use]
    pub fn peer(&self) -> &str {
        match &self.0 {
            SenderForm::Tls(half) => half.peer(),
            SenderForm::Pipe(half) => half.peer(),
        }
    }
}

impl Receiver {
    const fn sealed(half: sealed::SealedReceiver) -> Self {
        Self(ReceiverForm::Tls(half))
    }

    /// Fills `into` with the next bytes. If the call is dropped after it has
    /// taken some, the receiver fails from then on; dropped before, nothing is lost.
    ///
    /// # Errors
    /// [`Error::Closed`] where the peer closed properly before the first byte;
    /// [`Error::Truncated`] where the bytes end later or without a farewell;
    /// [`Error::Silent`]; [`Error::CertificateRefused`] at a client's first call
    /// where it is not paired; others where the connection broke.
    pub async fn read_exact(&mut self, into: &mut [u8]) -> Result<(), Error> {
        match &mut self.0 {
            ReceiverForm::Tls(half) => half.read_exact(into).await,
            ReceiverForm::Pipe(half) => half.read_exact(into).await,
        }
    }

    /// Lets a receive wait at most `limit` without a byte, instead of
    /// `limits::PEER_SILENCE_MAX`.
    pub const fn limit_silence(&mut self, limit: Duration) {
        match &mut self.0 {
            ReceiverForm::Tls(half) => half.silence_max = limit,
            ReceiverForm::Pipe(half) => half.silence_max = limit,
        }
    }

    /// The peer's address, as errors name it.
    #[must_use]
    pub fn peer(&self) -> &str {
        match &self.0 {
            ReceiverForm::Tls(half) => half.peer(),
            ReceiverForm::Pipe(half) => half.peer(),
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("peer", &self.peer()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("peer", &self.peer()).finish_non_exhaustive()
    }
}

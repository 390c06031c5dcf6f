//! Opening a session as a client.
//!
//! In: an address, this machine's identity, the fingerprint paired for that
//! address. Out: the two halves of a channel. Invariants: not a byte of payload
//! goes to a server with another certificate. Never: retries.
//!
//! With TLS 1.3 this side's handshake is over before the server has looked at
//! its certificate. So the server speaks first, and a refusal shows as
//! [`Error::CertificateRefused`] at the first receive.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::UnbufferedClientConnection;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::engine::{Connection, Engine};
use super::error::refuses_certificate;
use super::handshake::{Failure, perform};
use super::incoming::Incoming;
use super::socket::Socket;
use super::{Error, PROTOCOL, Receiver, Sender, sealed};
use crate::limits;
use crate::wire::identity::{Fingerprint, Identity};
use crate::wire::pairing::server_name;
use crate::wire::peers::{Address, PinnedServer, Shown};

/// Opens a channel to the server at `address`, which must show the certificate
/// `expected` (see `KnownPeers::server_at`).
///
/// # Errors
/// The server is not reachable within `limits::HANDSHAKE_TIMEOUT`, shows another
/// certificate, or is no failback server. That it refuses this machine shows at
/// the first receive.
pub async fn connect(
    address: &Address,
    identity: &Identity,
    expected: &Fingerprint,
) -> Result<(Sender, Receiver), Error> {
    connect_within(limits::HANDSHAKE_TIMEOUT, address, identity, expected).await
}

/// [`connect`] with another limit on the whole.
///
/// # Errors
/// As for [`connect`].
pub async fn connect_within(
    limit: Duration,
    address: &Address,
    identity: &Identity,
    expected: &Fingerprint,
) -> Result<(Sender, Receiver), Error> {
    let peer = address.to_string();
    let seconds = limit.as_secs();
    timeout(limit, open(address, identity, expected))
        .await
        .unwrap_or(Err(Error::HandshakeTimeout { peer, seconds }))
}

async fn open(
    address: &Address,
    identity: &Identity,
    expected: &Fingerprint,
) -> Result<(Sender, Receiver), Error> {
    let peer = address.to_string();
    let stream = TcpStream::connect((address.host(), address.port()))
        .await
        .map_err(|source| Error::Unreachable { peer: peer.clone(), source })?;
    let socket = Socket::new(stream, peer.clone())?;
    let shown = Shown::default();
    let verifier = Arc::new(PinnedServer::new(*expected, shown.clone()));
    let configuration = identity.client_configuration(verifier, PROTOCOL)?;
    let connection = UnbufferedClientConnection::new(configuration, server_name())
        .map_err(|source| Error::Handshake { peer: peer.clone(), source })?;
    let mut engine = Engine::new(Connection::Client(Box::new(connection)), Incoming::with_capacity(0));
    perform(&socket, &mut engine).await.map_err(|failure| match (failure, shown.fingerprint()) {
        (Failure::Connection(error), _) => error,
        (Failure::Tls(_), Some(seen)) if seen != *expected => {
            Error::WrongServer { peer: peer.clone(), expected: *expected, seen }
        }
        (Failure::Tls(source), _) if refuses_certificate(&source) => {
            Error::CertificateRefused { peer: peer.clone(), own: identity.fingerprint() }
        }
        (Failure::Tls(source), _) => Error::Handshake { peer: peer.clone(), source },
    })?;
    if !engine.speaks(PROTOCOL) {
        return Err(Error::WrongProtocol { peer });
    }
    let (sender, receiver) = sealed::halves(socket, engine, Some(identity.fingerprint()));
    Ok((Sender::sealed(sender), Receiver::sealed(receiver)))
}

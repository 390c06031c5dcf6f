//! Letting a client in: a session for one that is paired, or pairing.
//!
//! In: an accepted TCP connection. Out: a channel and the peer behind it, or a
//! newly paired peer. Invariants: known peers are read anew for each connection;
//! a client without a known certificate learns the server's certificate and
//! nothing else; the whole takes no longer than the limit in the settings,
//! however slowly the client speaks. Never: starts pairing for a client that did
//! not ask for it. Limits: [`HELLO_BYTES_MAX`], `limits::HANDSHAKE_TIMEOUT`, and
//! those of pairing. How many connections there are at once is the caller's
//! affair.
//!
//! ```text
//! accepted ─> hello read ─┬─ failback-pair/1 ─> gate ─> TLS ─> token ─> Paired
//!                         └─ all else ─> TLS with a known certificate ─> Session
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::server::{Acceptor, UnbufferedServerConnection};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::engine::{Connection, Engine};
use super::handshake::{Failure, perform, say_farewell};
use super::incoming::Incoming;
use super::socket::Socket;
use super::{Error, PROTOCOL, Receiver, Sender, sealed};
use crate::limits;
use crate::wire::identity::Identity;
use crate::wire::pairing::{self, Gate, Host};
use crate::wire::peers::{Admission, AdmittedClients, KnownPeers, Peer, Shown};

/// The first message of a client; ours has about 300 bytes, the largest of any
/// known client, with post-quantum keys, below 2 KiB.
const HELLO_BYTES_MAX: usize = 16 << 10;

/// What a server needs to let clients in. Clones share the limit on pairing.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    identity: Identity,
    directory: PathBuf,
    handshake_timeout: Duration,
    gate: Arc<Gate>,
}

impl ServerSettings {
    /// A server with `identity` that keeps peers and tokens in `directory`.
    #[must_use]
    pub fn new(directory: &Path, identity: Identity) -> Self {
        Self {
            identity,
            directory: directory.to_owned(),
            handshake_timeout: limits::HANDSHAKE_TIMEOUT,
            gate: Arc::new(Gate::new(Instant::now())),
        }
    }

    /// The same with another limit from TCP accept to the end of the handshake.
    #[must_use]
    pub const fn with_handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake_timeout = limit;
        self
    }
}

/// What became of an accepted connection.
#[derive(Debug)]
pub enum Accepted {
    /// A paired client that waits for the first message of this side.
    Session {
        /// Sends to the client.
        sender: Sender,
        /// Receives from the client.
        receiver: Receiver,
        /// Who it is.
        peer: Peer,
    },
    /// A client spent a token; its connection is closed.
    Paired(Peer),
}

/// Goes through the handshake with a client, and through pairing where it asks
/// for that.
///
/// # Errors
/// The client is too slow, went away, speaks something else, is not paired, or
/// its token is refused; or this server's own files cannot be read.
pub async fn accept(stream: TcpStream, settings: &ServerSettings) -> Result<Accepted, Error> {
    let limit = settings.handshake_timeout;
    let from = stream
        .peer_addr()
        .map_err(|source| Error::Broken { peer: "a client that left at once".to_owned(), source })?;
    timeout(limit, admit(stream, from, settings))
        .await
        .unwrap_or_else(|_| Err(Error::HandshakeTimeout { peer: from.to_string(), seconds: limit.as_secs() }))
}

async fn admit(stream: TcpStream, from: SocketAddr, settings: &ServerSettings) -> Result<Accepted, Error> {
    let socket = Socket::new(stream, from.to_string())?;
    let hello = read_hello(&socket).await?;
    if hello.wants_pairing {
        if !settings.gate.admit(Instant::now()) {
            return Err(Error::TooManyPairings { peer: from.to_string() });
        }
        let host = Host { directory: &settings.directory, identity: &settings.identity };
        let peer = pairing::answer(&host, socket.into_stream(), hello.bytes, from).await?;
        return Ok(Accepted::Paired(peer));
    }
    open_session(socket, &hello.bytes, settings).await
}

async fn open_session(socket: Socket, hello: &[u8], settings: &ServerSettings) -> Result<Accepted, Error> {
    let peer = socket.peer().to_owned();
    let known = KnownPeers::load(&settings.directory)?;
    let shown = Shown::default();
    let verifier = Arc::new(AdmittedClients::new(Admission::Known(known.clone()), shown.clone()));
    let configuration = settings.identity.server_configuration(verifier, PROTOCOL)?;
    let connection = UnbufferedServerConnection::new(configuration)
        .map_err(|source| Error::Handshake { peer: peer.clone(), source })?;
    let mut incoming = Incoming::with_capacity(HELLO_BYTES_MAX);
    incoming.room(hello.len())[..hello.len()].copy_from_slice(hello);
    incoming.filled(hello.len());
    let mut engine = Engine::new(Connection::Server(Box::new(connection)), incoming);
    perform(&socket, &mut engine).await.map_err(|failure| match (failure, shown.fingerprint()) {
        (Failure::Connection(error), _) => error,
        (Failure::Tls(_), Some(seen)) if known.client(&seen).is_none() => {
            Error::UnknownPeer { peer: peer.clone(), seen }
        }
        (Failure::Tls(source), _) => Error::Handshake { peer: peer.clone(), source },
    })?;
    match shown.fingerprint().and_then(|seen| known.client(&seen)) {
        Some(client) if engine.speaks(PROTOCOL) => {
            let (sender, receiver) = sealed::halves(socket, engine, None);
            let (sender, receiver) = (Sender::sealed(sender), Receiver::sealed(receiver));
            Ok(Accepted::Session { sender, receiver, peer: client.clone() })
        }
        _ => Err(Error::WrongProtocol { peer }),
    }
}

/// A client's first message, and all that came with it.
struct Hello {
    bytes: Vec<u8>,
    wants_pairing: bool,
}

/// Reads until the first message is whole, to learn which protocol it offers.
async fn read_hello(socket: &Socket) -> Result<Hello, Error> {
    let peer = || socket.peer().to_owned();
    let mut acceptor = Acceptor::default();
    let mut bytes = vec![0; HELLO_BYTES_MAX];
    let mut length = 0;
    loop {
        if length == bytes.len() {
            return Err(Error::Handshake { peer: peer(), source: rustls::Error::PeerSentOversizedRecord });
        }
        let count = match socket.try_read(&mut bytes[length..]) {
            Ok(Some(0)) | Err(_) => return Err(Error::HandshakeInterrupted { peer: peer() }),
            Ok(Some(count)) => count,
            Ok(None) => {
                socket.readable(limits::PEER_SILENCE_MAX).await?;
                continue;
            }
        };
        let mut news = &bytes[length..length + count];
        length += count;
        while !news.is_empty() {
            // It takes what it can hold and parses that before it takes more.
            acceptor.read_tls(&mut news).map_err(|source| Error::Broken { peer: peer(), source })?;
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    let offers = accepted.client_hello().alpn();
                    let wants_pairing =
                        offers.is_some_and(|mut offers| offers.any(|offer| offer == pairing::PROTOCOL));
                    bytes.truncate(length);
                    return Ok(Hello { bytes, wants_pairing });
                }
                Ok(None) => {}
                Err((source, mut alert)) => {
                    let mut last_word = Vec::new();
                    // Writing to memory does not fail.
                    let _ = alert.write_all(&mut last_word);
                    say_farewell(socket, &last_word).await;
                    return Err(Error::Handshake { peer: peer(), source });
                }
            }
        }
    }
}

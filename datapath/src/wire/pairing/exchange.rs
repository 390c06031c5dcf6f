//! Spending a token: both sides of the conversation on protocol `failback-pair/1`.
//!
//! In: a token on one side, a fresh connection and the ledger on the other. Out:
//! each side a [`Peer`] that it has stored. Invariants: the client speaks only
//! to the server whose fingerprint is in the token; the server spends the token
//! durably, then stores the client durably, then says so with a proof of its
//! own; the client stores the server only after that proof. A break in between
//! leaves a spent token, never a peer that did not prove itself. Never: tells a
//! client why its token was refused (the server's log does). Limits: messages of
//! at most 113 bytes; the caller's deadline over all of it.
//!
//! ```text
//! client: 16 token id | 32 proof | 1 length n of its name | n name
//! server:  1 status: 0 paired, 1 refused, 2 the server failed
//!         and after status 0: 32 proof | 1 length n of its name | n name
//! ```

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::ledger::{Ledger, Refusal};
use super::proof::{Binding, EXPORTER_LABEL, Key, PROOF_BYTES, Proof, Prover};
use super::token::{Token, TokenId};
use super::{Error, PROTOCOL, local_name};
use crate::wire::identity::{Identity, PrivateDirectory};
use crate::wire::peers::{
    Admission, AdmittedClients, KnownPeers, NAME_BYTES_MAX, Peer, PinnedServer, Shown, clean_name,
};

const PAIRED: u8 = 0;
const REFUSED: u8 = 1;
const FAILED: u8 = 2;

/// What spending and answering need besides the connection.
#[derive(Debug)]
pub(crate) struct Host<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) identity: &'a Identity,
}

/// The client's half, without a deadline.
pub(super) async fn ask(host: &Host<'_>, token: &Token) -> Result<Peer, Error> {
    let address = token.address();
    let stream = TcpStream::connect((address.host(), address.port()))
        .await
        .map_err(|source| Error::Unreachable { address: address.clone(), source })?;
    let broken = |source| Error::Broken { peer: address.to_string(), source };
    stream.set_nodelay(true).map_err(broken)?;

    let shown = Shown::default();
    let verifier = Arc::new(PinnedServer::new(token.fingerprint(), shown.clone()));
    let configuration = host.identity.client_configuration(verifier, PROTOCOL)?;
    let connected = TlsConnector::from(configuration).connect(server_name(), stream).await;
    let mut stream = connected.map_err(|source| match shown.fingerprint() {
        Some(seen) if seen != token.fingerprint() => {
            Error::WrongServer { address: address.clone(), expected: token.fingerprint(), seen }
        }
        _ => Error::Broken { peer: address.to_string(), source },
    })?;
    let connection = stream.get_ref().1;
    let binding = Binding {
        exporter: export(connection.export_keying_material([0; 32], EXPORTER_LABEL, None), address)?,
        client: host.identity.fingerprint(),
        server: token.fingerprint(),
    };

    let key = token.key();
    let mut message = token.id.0.to_vec();
    message.extend_from_slice(&binding.prove(&key, Prover::Client));
    push_name(&mut message, &local_name());
    stream.write_all(&message).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;

    match stream.read_u8().await.map_err(broken)? {
        PAIRED => {}
        REFUSED => return Err(Error::Refused { address: address.clone() }),
        _ => return Err(Error::ServerFailed { address: address.clone() }),
    }
    let (proof, name) = read_proof_and_name(&mut stream).await.map_err(broken)?;
    if !binding.holds(&key, Prover::Server, &proof) {
        return Err(Error::ServerUnproven { address: address.clone() });
    }
    let server = Peer::server(&name, token.fingerprint(), address.clone(), SystemTime::now());
    let known = KnownPeers::remember(host.directory, &server)?;
    // The server has nothing more to say; whether it hears the end is its affair.
    let _ = stream.shutdown().await;
    Ok(known)
}

/// The server's half, without a deadline. `received` are the bytes that were
/// read from `stream` already, to find out that it wants to pair.
pub(crate) async fn answer(
    host: &Host<'_>,
    stream: TcpStream,
    received: Vec<u8>,
    from: SocketAddr,
) -> Result<Peer, Error> {
    let broken = |source| Error::Broken { peer: from.to_string(), source };
    let shown = Shown::default();
    let verifier = Arc::new(AdmittedClients::new(Admission::AnyForPairing, shown.clone()));
    let configuration = host.identity.server_configuration(verifier, PROTOCOL)?;
    let stream = Replayed { received, at: 0, stream };
    let mut stream = TlsAcceptor::from(configuration).accept(stream).await.map_err(broken)?;
    let client = shown.fingerprint().ok_or_else(|| broken(io::ErrorKind::InvalidData.into()))?;
    let connection = stream.get_ref().1;
    let binding = Binding {
        exporter: export(connection.export_keying_material([0; 32], EXPORTER_LABEL, None), &from)?,
        client,
        server: host.identity.fingerprint(),
    };

    let mut id = [0; TokenId::BYTES];
    stream.read_exact(&mut id).await.map_err(broken)?;
    let (proof, name) = read_proof_and_name(&mut stream).await.map_err(broken)?;
    let redeemed = redeem(host.directory.to_owned(), TokenId(id), binding, proof, name).await;
    let (message, outcome) = match redeemed {
        Ok(Ok((key, peer))) => {
            let mut message = vec![PAIRED];
            message.extend_from_slice(&binding.prove(&key, Prover::Server));
            push_name(&mut message, &local_name());
            (message, Ok(peer))
        }
        Ok(Err(refusal)) => (vec![REFUSED], Err(Error::Rejected { peer: from, client, refusal })),
        Err(error) => (vec![FAILED], Err(error)),
    };
    // What is on disk counts: a client that does not hear of it asks again.
    if stream.write_all(&message).await.is_ok() {
        let _ = stream.shutdown().await;
    }
    outcome
}

/// Spends the token and stores the client, on a thread that may wait for the disk.
async fn redeem(
    directory: PathBuf,
    id: TokenId,
    binding: Binding,
    proof: Proof,
    name: String,
) -> Result<Result<(Key, Peer), Refusal>, Error> {
    let work = move || {
        let now = SystemTime::now();
        let ledger = Ledger::new(PrivateDirectory::open_or_create(&directory)?);
        let spent = ledger.spend(id, now, |key| binding.holds(key, Prover::Client, &proof))?;
        let key = match spent {
            Ok(key) => key,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let peer = KnownPeers::remember(&directory, &Peer::client(&name, binding.client, now))?;
        Ok(Ok((key, peer)))
    };
    tokio::task::spawn_blocking(work).await.map_err(|source| Error::Worker { source })?
}

async fn read_proof_and_name(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(Proof, String)> {
    let mut proof = [0; PROOF_BYTES];
    stream.read_exact(&mut proof).await?;
    let length = usize::from(stream.read_u8().await?);
    if length > NAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its name is too long"));
    }
    let mut name = vec![0; length];
    stream.read_exact(&mut name).await?;
    Ok((proof, clean_name(&String::from_utf8_lossy(&name))))
}

fn push_name(message: &mut Vec<u8>, name: &str) {
    let bytes = &name.as_bytes()[..name.len().min(NAME_BYTES_MAX)];
    message.push(u8::try_from(bytes.len()).unwrap_or(0));
    message.extend_from_slice(bytes);
}

fn export(
    exported: Result<[u8; 32], rustls::Error>,
    peer: &impl std::fmt::Display,
) -> Result<[u8; 32], Error> {
    exported.map_err(|source| Error::Broken { peer: peer.to_string(), source: io::Error::other(source) })
}

/// rustls wants a name; it is neither sent nor checked.
#[expect(clippy::expect_used, reason = "a constant that is a valid name")]
pub(crate) fn server_name() -> ServerName<'static> {
    ServerName::try_from("failback").expect("\"failback\" is a valid DNS name")
}

/// A stream whose first bytes were read already.
#[derive(Debug)]
struct Replayed {
    received: Vec<u8>,
    at: usize,
    stream: TcpStream,
}

impl AsyncRead for Replayed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let left = &this.received[this.at..];
        if left.is_empty() {
            return Pin::new(&mut this.stream).poll_read(context, into);
        }
        let length = left.len().min(into.remaining());
        into.put_slice(&left[..length]);
        this.at += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replayed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Runs `work` no longer than `limit`.
pub(super) async fn within<T>(
    limit: Duration,
    peer: &impl std::fmt::Display,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(Error::Timeout { peer: peer.to_string(), seconds: limit.as_secs() }))
}

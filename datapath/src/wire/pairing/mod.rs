//! Pairing: how two machines that never met come to know each other's certificates.
//!
//! ```text
//!   receiving host                         other host
//!   failback pair ── token, one line, carried by a person ──> failback sync --token-file
//!        │ ledger (pairing.json)                                  │
//!        v                                                        v
//!   failback serve <── TLS, protocol failback-pair/1: proof ── pairing::spend
//!        │            ── proof of its own ──>                     │
//!        v                                                        v
//!   peers.json: may connect                             peers.json: may serve
//! ```
//!
//! In: the private directory, an identity, a token. Out: a [`Peer`] known on
//! both sides. Invariants: a token works once, for 15 minutes, for at most five
//! wrong proofs, each of which is on disk before it is answered; the secret
//! never travels, and a proof is worth nothing outside its TLS connection and
//! for another certificate. Never: trusts a name, an address or a date. Limits:
//! `limits::PAIRING_LIFETIME`, `limits::PAIRING_ATTEMPTS_MAX`, 64 tokens at
//! once, and for all clients together ten attempts at once, then one each two
//! seconds.

use std::net::SocketAddr;
use std::path::Path;
use std::time::SystemTime;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use crate::error::{Remediable, Remedy};
use crate::limits;
use crate::wire::identity::{self, Fingerprint, Identity, PrivateDirectory, StateError};
use crate::wire::peers::{self, Address, Peer, clean_name, unix_seconds};

mod exchange;
mod gate;
mod ledger;
mod proof;
#[cfg(test)]
mod tests;
mod token;

pub(crate) use exchange::{Host, answer, server_name};
pub(crate) use gate::Gate;
pub use ledger::{LedgerError, Refusal};
pub use token::{InvalidToken, Token};

/// The protocol (ALPN) over which tokens are spent.
pub(crate) const PROTOCOL: &[u8] = b"failback-pair/1";

/// Why two machines are not paired.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The private directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The issued tokens cannot be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The known peers cannot be read or written.
    #[error(transparent)]
    Peers(#[from] peers::Error),
    /// This machine's own identity cannot be used.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The system's random numbers failed.
    #[error("the system gave no random numbers for a pairing token")]
    NoRandomness,
    /// No connection to the server of the token.
    #[error("cannot reach {address} to pair: {source}; check that `failback serve --listen` runs there")]
    Unreachable {
        /// The token's address.
        address: Address,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another server answered.
    #[error(
        "{address} shows certificate {seen}, the token names {expected}: another machine answers there, or its key was renewed; issue a token with `failback pair` on that machine"
    )]
    WrongServer {
        /// The token's address.
        address: Address,
        /// The fingerprint in the token.
        expected: Fingerprint,
        /// The fingerprint that was shown.
        seen: Fingerprint,
    },
    /// The server does not take the token.
    #[error(
        "{address} refused the token: it was already spent, is older than 15 minutes, or void after wrong proofs; issue a new one with `failback pair` there"
    )]
    Refused {
        /// The token's address.
        address: Address,
    },
    /// The server could not write down the pairing.
    #[error(
        "{address} could not store the pairing: see its log, then issue a new token with `failback pair` there"
    )]
    ServerFailed {
        /// The token's address.
        address: Address,
    },
    /// The server holds the certificate's key but does not know the token.
    #[error("{address} did not prove that it issued the token: issue a new one with `failback pair` there")]
    ServerUnproven {
        /// The token's address.
        address: Address,
    },
    /// The conversation broke off.
    #[error(
        "pairing with {peer} broke off: {source}; the token may be spent, then issue a new one with `failback pair`"
    )]
    Broken {
        /// The other side's address.
        peer: String,
        /// What happened.
        source: std::io::Error,
    },
    /// The other side was too slow.
    #[error(
        "pairing with {peer} took longer than {seconds} seconds; the token may be spent, then issue a new one with `failback pair`"
    )]
    Timeout {
        /// The other side's address.
        peer: String,
        /// The limit.
        seconds: u64,
    },
    /// A client was turned away (on the server's side).
    #[error("{peer} with certificate {client} tried to pair in vain: {refusal}")]
    Rejected {
        /// Where it came from.
        peer: SocketAddr,
        /// The certificate it showed.
        client: Fingerprint,
        /// Why.
        refusal: Refusal,
    },
    /// The thread that writes to disk ended early.
    #[error("the pairing could not be written down: {source}")]
    Worker {
        /// How it ended.
        source: tokio::task::JoinError,
    },
}

impl Remediable for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Peers(error) => error.remedy(),
            Self::Identity(error) => error.remedy(),
            Self::State(error) => error.remedy(),
            Self::Ledger(error) => error.remedy(),
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Broken { .. } => Remedy::Reconnect,
            Self::WrongServer { .. }
            | Self::Refused { .. }
            | Self::ServerUnproven { .. }
            | Self::Rejected { .. } => Remedy::Refused,
            Self::NoRandomness | Self::ServerFailed { .. } | Self::Worker { .. } => Remedy::Stop,
        }
    }
}

/// Issues a one-time token for the server that keeps its state in `directory`
/// and is reached at `address`. The serving process finds it on disk.
///
/// # Errors
/// The directory is not usable, or holds too many open tokens.
pub fn issue(directory: &Path, address: &Address, identity: &Identity) -> Result<Token, Error> {
    let directory = PrivateDirectory::open_or_create(directory)?;
    let random = SystemRandom::new();
    let mut id = [0; token::TokenId::BYTES];
    let mut secret = [0; token::Secret::BYTES];
    random.fill(&mut id).and_then(|()| random.fill(&mut secret)).map_err(|_| Error::NoRandomness)?;
    let now = SystemTime::now();
    let token = Token {
        id: token::TokenId(id),
        secret: token::Secret(secret),
        fingerprint: identity.fingerprint(),
        expires_unix_seconds: unix_seconds(now).saturating_add(limits::PAIRING_LIFETIME.as_secs()),
        address: address.clone(),
    };
    ledger::Ledger::new(directory).issue(token.id, &token.key(), token.expires_unix_seconds, now)?;
    Ok(token)
}

/// Spends `token` with its server: on success this machine may connect there,
/// and knows the server by the peer returned.
///
/// # Errors
/// The server is not reachable, is not the one of the token, or refuses it; the
/// conversation broke off or took longer than `limits::HANDSHAKE_TIMEOUT`; the
/// peer cannot be stored in `directory`.
pub async fn spend(directory: &Path, identity: &Identity, token: &Token) -> Result<Peer, Error> {
    let host = Host { directory, identity };
    exchange::within(limits::HANDSHAKE_TIMEOUT, token.address(), exchange::ask(&host, token)).await
}

/// This machine's name, as the other side will list it.
fn local_name() -> String {
    clean_name(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim())
}

//! The one-time token that a person carries from one machine to the other.
//!
//! In: text, or the parts of a new token. Out: a [`Token`]. Invariants: text
//! that was cut or mistyped is told from text that was never a token; the
//! secret is in the text and nowhere else (`Debug` leaves it out). Never: says
//! whether a token is still good; only its server knows.
//!
//! The text is `failback-pair-1:` and, in base64url without padding:
//!
//! ```text
//! offset  bytes  what
//!      0     16  id: random, public, names the token to its server
//!     16     32  secret: random
//!     48     32  fingerprint of the server's certificate
//!     80      8  end of its life, seconds since 1970, little-endian
//!     88      1  length of the address, a
//!     89      a  address, HOST:PORT in ASCII
//!   89+a      4  the first bytes of SHA-256 over everything before
//! ```

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use data_encoding::BASE64URL_NOPAD;

use super::proof::Key;
use crate::error::{Remediable, Remedy};
use crate::wire::identity::Fingerprint;
use crate::wire::peers::Address;

const PREFIX: &str = "failback-pair-1:";
const FIXED_BYTES: usize = TokenId::BYTES + Secret::BYTES + Fingerprint::BYTES + 8 + 1;
const CHECKSUM_BYTES: usize = 4;
const BYTES_MAX: usize = FIXED_BYTES + Address::TEXT_BYTES_MAX + CHECKSUM_BYTES;
/// Longest text: the prefix, and four characters for three bytes.
const TEXT_BYTES_MAX: usize = PREFIX.len() + BYTES_MAX.div_ceil(3) * 4;

/// Names a token to the server that issued it; no secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TokenId(pub(super) [u8; Self::BYTES]);

impl TokenId {
    pub(super) const BYTES: usize = 16;
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

/// What the holder of a token proves to know. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(pub(super) [u8; Self::BYTES]);

impl Secret {
    pub(super) const BYTES: usize = 32;
}

/// A pairing token. Its `Display` form is the secret itself: for the one person
/// who carries it, not for logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub(super) id: TokenId,
    pub(super) secret: Secret,
    pub(super) fingerprint: Fingerprint,
    pub(super) expires_unix_seconds: u64,
    pub(super) address: Address,
}

/// A text that is no token. It never repeats the text, which may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// It does not begin as tokens do.
    #[error("this is no pairing token: it begins with failback-pair-1: (print one with `failback pair`)")]
    NoToken,
    /// It begins well but is not what was issued.
    #[error("the pairing token is damaged: copy the whole line that `failback pair` printed")]
    Damaged,
}

impl Remediable for InvalidToken {
    fn remedy(&self) -> Remedy {
        Remedy::Refused
    }
}

impl Token {
    /// Where the server listens.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// The fingerprint of the server's certificate.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// When its life ends.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(self.expires_unix_seconds))
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }

    pub(super) fn key(&self) -> Key {
        Key::derive(&self.secret)
    }

    fn encode(&self) -> Vec<u8> {
        let address = self.address.to_string();
        let mut bytes = Vec::with_capacity(BYTES_MAX);
        bytes.extend_from_slice(&self.id.0);
        bytes.extend_from_slice(&self.secret.0);
        bytes.extend_from_slice(self.fingerprint.as_bytes());
        bytes.extend_from_slice(&self.expires_unix_seconds.to_le_bytes());
        // An address has at most 255 characters; a longer one would be refused
        // when read, rather than misread.
        bytes.push(u8::try_from(address.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(address.as_bytes());
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, expected) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        if checksum(body) != *expected {
            return None;
        }
        let (id, rest) = body.split_first_chunk::<{ TokenId::BYTES }>()?;
        let (secret, rest) = rest.split_first_chunk::<{ Secret::BYTES }>()?;
        let (fingerprint, rest) = rest.split_first_chunk::<{ Fingerprint::BYTES }>()?;
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        let (length, address) = rest.split_first()?;
        if usize::from(*length) != address.len() {
            return None;
        }
        Some(Self {
            id: TokenId(*id),
            secret: Secret(*secret),
            fingerprint: Fingerprint::from_bytes(*fingerprint),
            expires_unix_seconds: u64::from_le_bytes(*expires),
            address: std::str::from_utf8(address).ok()?.parse().ok()?,
        })
    }
}

/// What the tests of the network side need to play false.
#[cfg(test)]
impl Token {
    pub(crate) fn spoil_secret(&mut self) {
        self.secret.0[0] ^= 1;
    }

    pub(crate) fn spoil_id(&mut self) {
        self.id.0[0] ^= 1;
    }

    pub(crate) const fn secret_for_tests(&self) -> [u8; Secret::BYTES] {
        self.secret.0
    }

    pub(crate) fn at(&self, address: &Address) -> Self {
        Self { address: address.clone(), ..self.clone() }
    }

    /// A client's message that proves this token, with the given connection.
    pub(crate) fn proof_for_tests(
        &self,
        exporter: [u8; 32],
        client: Fingerprint,
        server: Fingerprint,
    ) -> Vec<u8> {
        let binding = super::proof::Binding { exporter, client, server };
        let proof = binding.prove(&self.key(), super::proof::Prover::Client);
        [&self.id.0[..], &proof, &[1], b"x"].concat()
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = digest::digest(&digest::SHA256, bytes);
    let mut short = [0; CHECKSUM_BYTES];
    short.copy_from_slice(&digest.as_ref()[..CHECKSUM_BYTES]);
    short
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", BASE64URL_NOPAD.encode(&self.encode()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("id", &self.id)
            .field("address", &self.address)
            .field("fingerprint", &self.fingerprint)
            .field("expires_unix_seconds", &self.expires_unix_seconds)
            .finish_non_exhaustive()
    }
}

impl FromStr for Token {
    type Err = InvalidToken;

    /// White space around the token is ignored.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(InvalidToken::NoToken)?;
        if encoded.len() > TEXT_BYTES_MAX {
            return Err(InvalidToken::Damaged);
        }
        BASE64URL_NOPAD
            .decode(encoded.as_bytes())
            .ok()
            .and_then(|bytes| Self::decode(&bytes))
            .ok_or(InvalidToken::Damaged)
    }
}

//! The tokens a server has issued, kept on disk until their life ends.
//!
//! In: new tokens from `failback pair`, proofs from the serving process. Out: a
//! token spent once, or why not. Invariants: under one lock between processes a
//! token goes from open to spent at most once, and that is on disk before
//! anybody is told; so is each wrong proof. Never: holds a secret (only the key
//! derived from it), keeps a token longer than its life. Limits: [`TOKENS_MAX`],
//! `limits::PAIRING_LIFETIME`, `limits::PAIRING_ATTEMPTS_MAX`.
//!
//! ```text
//! open --right proof--> spent
//!   |--wrong proof, fewer than five--> open
//!   |--fifth wrong proof--> void
//! any --end of life--> gone
//! ```

use std::path::PathBuf;
use std::time::SystemTime;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::proof::Key;
use super::token::TokenId;
use crate::error::{Remediable, Remedy};
use crate::limits;
use crate::wire::identity::{PrivateDirectory, StateError};
use crate::wire::peers::unix_seconds;

const FILE: &str = "pairing.json";
const LOCK: &str = "pairing.lock";
const VERSION: u32 = 1;
/// Tokens at once: a person pairs a handful of machines in a quarter of an hour.
pub(super) const TOKENS_MAX: usize = 64;
/// [`TOKENS_MAX`] entries of about 200 bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Why the ledger cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The directory or the file cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The file is not what this program wrote.
    #[error("{path} is damaged ({source}): remove it, and issue tokens anew with `failback pair`")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where it went wrong.
        source: serde_json::Error,
    },
    /// Another program wrote the file.
    #[error("{path} has version {version}, this failback knows version 1: use a newer failback")]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it says.
        version: u32,
    },
    /// Too many tokens are open.
    #[error("{path} already holds {TOKENS_MAX} tokens: wait until the oldest are 15 minutes old")]
    Full {
        /// The file.
        path: PathBuf,
    },
}

impl Remediable for LedgerError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::State(error) => error.remedy(),
            Self::Malformed { .. } | Self::Version { .. } => Remedy::Stop,
            Self::Full { .. } => Remedy::Refused,
        }
    }
}

/// Why a token was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// This server has issued no such token, or its life ended.
    #[error("the token is unknown or its 15 minutes are over")]
    Unknown,
    /// It was spent before.
    #[error("the token was already spent")]
    Spent,
    /// Too many wrong proofs were given for it.
    #[error("the token is void after too many wrong proofs")]
    Void,
    /// The proof does not hold.
    #[error("the proof is wrong")]
    WrongProof,
}

impl Remediable for Refusal {
    fn remedy(&self) -> Remedy {
        Remedy::Refused
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Open,
    Spent,
    Void,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    /// Derived from the secret; emptied when the token is no longer open.
    key: String,
    expires_unix_seconds: u64,
    wrong_proofs: u32,
    state: State,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    tokens: Vec<Entry>,
}

#[derive(Deserialize)]
struct Head {
    version: u32,
}

/// The ledger of one private directory.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    directory: PrivateDirectory,
}

impl Ledger {
    pub(super) const fn new(directory: PrivateDirectory) -> Self {
        Self { directory }
    }

    /// Writes down a new token, durably.
    pub(super) fn issue(
        &self,
        id: TokenId,
        key: &Key,
        expires_unix_seconds: u64,
        now: SystemTime,
    ) -> Result<(), LedgerError> {
        let _lock = self.directory.lock(LOCK)?;
        let mut tokens = self.read(now)?;
        if tokens.len() >= TOKENS_MAX {
            return Err(LedgerError::Full { path: self.path() });
        }
        tokens.push(Entry {
            id: HEXLOWER.encode(&id.0),
            key: HEXLOWER.encode(&key.0),
            expires_unix_seconds,
            wrong_proofs: 0,
            state: State::Open,
        });
        self.write(tokens)
    }

    /// Spends the token `id` if `proof_holds` for its key. What happened is on
    /// disk before this returns.
    pub(super) fn spend(
        &self,
        id: TokenId,
        now: SystemTime,
        proof_holds: impl FnOnce(&Key) -> bool,
    ) -> Result<Result<Key, Refusal>, LedgerError> {
        let _lock = self.directory.lock(LOCK)?;
        let mut tokens = self.read(now)?;
        let name = HEXLOWER.encode(&id.0);
        let Some(entry) = tokens.iter_mut().find(|entry| entry.id == name) else {
            return Ok(Err(Refusal::Unknown));
        };
        let key = match (entry.state, decode_key(&entry.key)) {
            (State::Open, Some(key)) => key,
            (State::Spent, _) => return Ok(Err(Refusal::Spent)),
            (State::Void, _) | (State::Open, None) => return Ok(Err(Refusal::Void)),
        };
        let outcome = if proof_holds(&key) {
            entry.state = State::Spent;
            Ok(key)
        } else {
            entry.wrong_proofs = entry.wrong_proofs.saturating_add(1);
            if entry.wrong_proofs >= limits::PAIRING_ATTEMPTS_MAX {
                entry.state = State::Void;
            }
            Err(Refusal::WrongProof)
        };
        if entry.state != State::Open {
            entry.key.clear();
        }
        self.write(tokens)?;
        Ok(outcome)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join(FILE)
    }

    /// The tokens whose life has not ended.
    fn read(&self, now: SystemTime) -> Result<Vec<Entry>, LedgerError> {
        let Some(bytes) = self.directory.read(FILE, FILE_BYTES_MAX)? else {
            return Ok(Vec::new());
        };
        let malformed = |source| LedgerError::Malformed { path: self.path(), source };
        let head: Head = serde_json::from_slice(&bytes).map_err(malformed)?;
        if head.version != VERSION {
            return Err(LedgerError::Version { path: self.path(), version: head.version });
        }
        let mut document: Document = serde_json::from_slice(&bytes).map_err(malformed)?;
        // A clock that was set back must not lengthen a life either.
        let now = unix_seconds(now);
        let horizon = now.saturating_add(limits::PAIRING_LIFETIME.as_secs());
        document.tokens.retain(|entry| (now + 1..=horizon).contains(&entry.expires_unix_seconds));
        Ok(document.tokens)
    }

    fn write(&self, tokens: Vec<Entry>) -> Result<(), LedgerError> {
        let document = Document { version: VERSION, tokens };
        let bytes = serde_json::to_vec_pretty(&document)
            .map_err(|source| LedgerError::Malformed { path: self.path(), source })?;
        Ok(self.directory.replace(FILE, &bytes)?)
    }
}

fn decode_key(text: &str) -> Option<Key> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok().map(Key)
}

//! The targets that a master target has while it runs.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use super::PairName;
use crate::landing::Claim;

/// Claims by pair, each with the identity of its disk; none before it runs: a command
/// that works on a pair has the locks of disk and journal for that.
#[derive(Default)]
pub(super) struct Claims {
    held: Mutex<Option<BTreeMap<PairName, (String, Claim)>>>,
}

impl Claims {
    /// From now on targets are claimed.
    pub(super) fn begin(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default();
    }

    /// Takes a target, or has it already; `false` where another process has it.
    pub(super) fn claim(&self, pair: &PairName, identity: &str) -> io::Result<bool> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(held) = held.as_mut() else { return Ok(true) };
        if held.get(pair).is_some_and(|(known, _)| known == identity) {
            return Ok(true);
        }
        let claim = Claim::take(identity)?;
        let is_taken = claim.is_some();
        held.extend(claim.map(|claim| (pair.clone(), (identity.to_owned(), claim))));
        Ok(is_taken)
    }

    /// Lets a target go.
    pub(super) fn release(&self, pair: &PairName) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.as_mut() {
            held.remove(pair);
        }
    }
}

//! Whose disks these are: a machine is known by what it is bound to, and by the key
//! of its agent, from its first visit on.
//!
//! A name and an identity are words that whoever may connect can say. The key is
//! what a connection proves, and it counts for all pairs of a machine: another
//! disk of it is nobody else's either.

use super::replicas::{HOLDER, Replicas, unready};
use super::{MasterTarget, PairName, Visitor};
use crate::journal::{Directory, Journal};
use crate::ring;
use crate::role::Error;

impl Replicas {
    /// Refuses another machine that has the name of this pair's.
    pub(super) fn check_machine(&self, pair: &PairName, visitor: &Visitor) -> Result<(), Error> {
        let ours = self.look(pair)?.map(|known| known.machine_identity).unwrap_or_default();
        let theirs = &visitor.protect.machine_identity;
        if ours.is_empty() || ours == *theirs {
            return Ok(());
        }
        Err(Error::Unfit {
            peer: visitor.protect.machine.clone(),
            reason: format!(
                "another machine protects {pair}: this one is {theirs:?}, that one {ours:?}; two machines have one \
                 name, or this is a copy: give it another name, or take the pair away to protect this one anew"
            ),
        })
    }

    /// Refuses an agent with another key than the one that this machine is known by.
    pub(super) fn check_key(&self, pair: &PairName, visitor: &Visitor) -> Result<(), Error> {
        let (machine, theirs) = (pair.machine(), visitor.key.to_string());
        // A pair whose file cannot be read is told when it is opened.
        let known = |pair: &PairName| self.look(pair).ok()?.map(|known| known.machine_key);
        let keys = self.of_machine(machine).into_iter().filter_map(|pair| known(&pair));
        let Some(ours) = keys.filter(|key| !key.is_empty()).find(|key| *key != theirs) else {
            return Ok(());
        };
        Err(Error::Unfit {
            peer: visitor.protect.machine.clone(),
            reason: format!(
                "machine {machine} is known by the key {ours}, and this agent has the key {theirs}: nothing was \
                 changed. Where {machine} was paired anew because its keys were lost: `failback master-target release \
                 {machine}`, and the next one that comes is taken for it. Where it was not, another host claims to \
                 be it: `failback pair --forget {theirs}`"
            ),
        })
    }
}

impl MasterTarget<Replicas> {
    /// Forgets the key that a machine is known by: the next agent that comes in its
    /// name, with what it is bound to, is taken for it. Gives the pairs that
    /// this changed.
    ///
    /// # Errors
    /// [`Error::Unfit`] where no pair is of this machine, [`Error::Unready`].
    pub fn release(&self, machine: &str) -> Result<Vec<PairName>, Error> {
        let pairs = self.targets.of_machine(machine);
        if pairs.is_empty() {
            let reason =
                "no pair here is of this machine; `failback master-target status` shows those there are";
            return Err(Error::Unfit { peer: machine.to_owned(), reason: reason.to_owned() });
        }
        let mut released = Vec::new();
        for pair in pairs {
            let _lease = self.take(&pair)?;
            if self.targets.look(&pair)?.is_some_and(|known| !known.machine_key.is_empty()) {
                ring::run(self.targets.forget_key(&pair))??;
                released.push(pair);
            }
        }
        Ok(released)
    }
}

impl Replicas {
    async fn forget_key(&self, pair: &PairName) -> Result<(), Error> {
        let directory = Directory::open(&self.folder(pair), HOLDER).map_err(unready(pair))?;
        let (mut journal, _recovery) = Journal::open(directory).await.map_err(unready(pair))?;
        journal.update_pair(|pair| pair.machine_key.clear()).await.map_err(unready(pair))
    }
}

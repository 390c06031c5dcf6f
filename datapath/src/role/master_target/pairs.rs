//! The pairs of a master target, and who holds them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Notice;
use crate::role::table::Table;
use crate::role::{Pair, PairEvent};

/// Which pair: machine and disk, by name.
pub type PairName = (String, String);

/// What hears of states and alarms.
pub(super) type Observer = dyn Fn(Notice) + Send + Sync;

/// One pair as its sessions and its observers see it.
pub struct PairEntry {
    name: PairName,
    held: Mutex<Held>,
    observe: Arc<Observer>,
}

struct Held {
    state: Pair,
    /// A session has it, from before the greeting until everything is in order.
    leased: bool,
}

/// The right to be the one session of a pair; given back however it ends.
pub(super) struct Lease(pub(super) Arc<PairEntry>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner).leased = false;
    }
}

impl PairEntry {
    /// Where the pair stands.
    pub fn state(&self) -> Pair {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).state
    }

    pub(super) fn became(&self, state: Pair) {
        let before =
            std::mem::replace(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner).state, state);
        if before != state {
            (self.observe)(Notice::Became { pair: self.name.clone(), state });
        }
    }

    pub(super) fn alarm(&self, reason: &str) {
        (self.observe)(Notice::Alarm { pair: self.name.clone(), reason: reason.to_owned() });
    }

    /// Takes the pair for a session; `None`, with an alarm, where one has it.
    pub(super) fn lease(self: &Arc<Self>, peer: &str) -> Option<Lease> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut held.leased, true) {
            return Some(Lease(Arc::clone(self)));
        }
        held.state = held.state.on(PairEvent::SecondSession).next;
        drop(held);
        self.alarm(&format!("{peer} wants a second session: one identity runs twice, or a connection broke"));
        None
    }
}

/// All pairs of a master target.
pub struct Pairs {
    entries: HashMap<PairName, Arc<PairEntry>>,
}

impl Pairs {
    /// The pairs with the states that their journals say.
    pub fn new(
        pairs: impl IntoIterator<Item = (PairName, Pair)>,
        observe: impl Fn(Notice) + Send + Sync + 'static,
    ) -> Self {
        let observe: Arc<Observer> = Arc::new(observe);
        let entry = |(name, state): (PairName, Pair)| {
            let held = Mutex::new(Held { state, leased: false });
            (name.clone(), Arc::new(PairEntry { name, held, observe: Arc::clone(&observe) }))
        };
        Self { entries: pairs.into_iter().map(entry).collect() }
    }

    /// One of them.
    #[must_use]
    pub fn find(&self, machine: &str, disk: &str) -> Option<&Arc<PairEntry>> {
        self.entries.get(&(machine.to_owned(), disk.to_owned()))
    }
}

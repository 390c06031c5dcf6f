//! The pairs of a master target, and who holds each.
//!
//! A pair is held by one at a time: a session, or somebody who works on it (a
//! fence, an expiry). Whoever must work on it ends its session and keeps the
//! next one out until he is done.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use super::{Notice, PairName};
use crate::limits;
use crate::pipeline::Cancel;
use crate::role::table::Table;
use crate::role::{Error, Pair, PairEvent};
use crate::wire::Progress;

/// What hears of states and alarms.
pub(super) type Observer = dyn Fn(Notice) + Send + Sync;

/// One pair as its sessions and its observers see it.
pub struct PairEntry {
    name: PairName,
    held: Mutex<Held>,
    freed: Condvar,
    observe: Arc<Observer>,
}

struct Held {
    state: Pair,
    holder: Option<Holder>,
    /// Somebody waits to work on it: no session begins.
    is_wanted: bool,
    progress: Option<Progress>,
    /// Why the two disks are compared, where they are.
    compared_for: Option<String>,
    alarms: VecDeque<Alarm>,
    alarmed: HashMap<&'static str, Instant>,
}

enum Holder {
    Session { peer: String, stop: Cancel },
    Work,
}

/// Something that an operator should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// When, in milliseconds of Unix time.
    pub unix_ms: u64,
    /// Why.
    pub reason: String,
}

/// A pair at a glance.
#[derive(Clone, Debug)]
pub struct Glance {
    /// Where it stands.
    pub state: Pair,
    /// Whose session it has.
    pub peer: Option<String>,
    /// How far its synchronization is, where one is running.
    pub progress: Option<Progress>,
    /// Why the two disks are compared, where they are.
    pub compared_for: Option<String>,
    /// The last alarms, oldest first.
    pub alarms: Vec<Alarm>,
}

/// The right to be the only one at a pair; given back however it ends.
pub struct Lease {
    entry: Arc<PairEntry>,
    stop: Cancel,
}

impl Lease {
    /// The pair.
    #[must_use]
    pub fn entry(&self) -> &PairEntry {
        &self.entry
    }

    /// Set when somebody else wants the pair.
    #[must_use]
    pub const fn stop(&self) -> &Cancel {
        &self.stop
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.entry.held();
        (held.holder, held.progress) = (None, None);
        drop(held);
        self.entry.freed.notify_all();
    }
}

impl PairEntry {
    fn new(name: PairName, state: Pair, observe: Arc<Observer>) -> Self {
        let held = Held {
            state,
            holder: None,
            is_wanted: false,
            progress: None,
            compared_for: None,
            alarms: VecDeque::new(),
            alarmed: HashMap::new(),
        };
        Self { name, held: Mutex::new(held), freed: Condvar::new(), observe }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &PairName {
        &self.name
    }

    /// Where the pair stands.
    pub fn state(&self) -> Pair {
        self.held().state
    }

    /// All that is known of it without its journal.
    pub fn glance(&self) -> Glance {
        let held = self.held();
        let peer = match &held.holder {
            Some(Holder::Session { peer, .. }) => Some(peer.clone()),
            Some(Holder::Work) | None => None,
        };
        Glance {
            state: held.state,
            peer,
            progress: held.progress,
            compared_for: held.compared_for.clone(),
            alarms: held.alarms.iter().cloned().collect(),
        }
    }

    pub(super) fn became(&self, state: Pair) {
        let (before, reason) = {
            let mut held = self.held();
            if !state.is_compared() {
                held.compared_for = None;
            }
            (std::mem::replace(&mut held.state, state), held.compared_for.clone())
        };
        if before != state {
            self.tell(Notice::Became { pair: self.name.clone(), state, reason });
        }
    }

    /// Notes why its disks are about to be compared.
    pub(super) fn compares_for(&self, reason: &str) {
        self.held().compared_for = Some(reason.to_owned());
    }

    pub(super) fn progressed(&self, progress: Option<Progress>) {
        self.held().progress = progress;
    }

    pub(super) fn tell(&self, notice: Notice) {
        (self.observe)(notice);
    }

    /// Raises an alarm; one about the same thing is not raised again at once.
    pub(super) fn alarm(&self, about: &'static str, reason: &str) {
        let now = Instant::now();
        let mut held = self.held();
        let is_new = |last: &Instant| now.duration_since(*last) >= limits::ALARM_AGAIN_AFTER;
        if !held.alarmed.get(about).is_none_or(is_new) {
            return;
        }
        held.alarmed.insert(about, now);
        if held.alarms.len() >= limits::ALARMS_KEPT {
            held.alarms.pop_front();
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        held.alarms.push_back(Alarm { unix_ms, reason: reason.to_owned() });
        drop(held);
        self.tell(Notice::Alarm { pair: self.name.clone(), reason: reason.to_owned() });
    }

    /// Takes the pair for a session; refused, with an alarm, where one has it.
    pub(super) fn begin_session(self: &Arc<Self>, peer: &str) -> Result<Lease, Error> {
        let mut held = self.held();
        match &held.holder {
            None if !held.is_wanted => {
                let stop = Cancel::default();
                held.holder = Some(Holder::Session { peer: peer.to_owned(), stop: stop.clone() });
                Ok(Lease { entry: Arc::clone(self), stop })
            }
            Some(Holder::Session { .. }) if !held.is_wanted => {
                held.state = held.state.on(PairEvent::SecondSession).next;
                drop(held);
                let reason =
                    format!("{peer} wants a second session: one identity runs twice, or a connection broke");
                self.alarm("second session", &reason);
                Err(self.busy("it has a session already"))
            }
            _ => Err(self.busy("somebody works on it here; try again")),
        }
    }

    /// Takes the pair to work on it, ending its session in order.
    ///
    /// # Errors
    /// [`Error::Unready`] where the session does not end within `within`.
    pub fn work(self: &Arc<Self>, within: Duration) -> Result<Lease, Error> {
        let mut held = self.held();
        if std::mem::replace(&mut held.is_wanted, true) {
            return Err(self.busy("somebody else waits to work on it; try again"));
        }
        if let Some(Holder::Session { stop, .. }) = &held.holder {
            stop.cancel();
        }
        let waited = self.freed.wait_timeout_while(held, within, |held| held.holder.is_some());
        let (mut held, _) = waited.unwrap_or_else(PoisonError::into_inner);
        held.is_wanted = false;
        if held.holder.is_some() {
            return Err(self.busy("its session does not end; try again"));
        }
        held.holder = Some(Holder::Work);
        Ok(Lease { entry: Arc::clone(self), stop: Cancel::default() })
    }

    /// Takes the pair to work on it, if nobody has it or wants it.
    pub fn work_if_idle(self: &Arc<Self>) -> Option<Lease> {
        let mut held = self.held();
        if held.holder.is_some() || held.is_wanted {
            return None;
        }
        held.holder = Some(Holder::Work);
        Some(Lease { entry: Arc::clone(self), stop: Cancel::default() })
    }

    /// Waits until nobody has the pair, but no longer than `within`.
    pub(super) fn wait_until_free(&self, within: Duration) {
        let waited = self.freed.wait_timeout_while(self.held(), within, |held| held.holder.is_some());
        drop(waited);
    }

    fn busy(&self, reason: &str) -> Error {
        Error::Unready { pair: self.name.to_string(), source: reason.into() }
    }
}

/// All pairs of a master target.
pub struct Pairs {
    entries: RwLock<BTreeMap<PairName, Arc<PairEntry>>>,
    observe: Arc<Observer>,
}

impl Pairs {
    /// The pairs with the states that their journals say.
    pub fn new(
        pairs: impl IntoIterator<Item = (PairName, Pair)>,
        observe: impl Fn(Notice) + Send + Sync + 'static,
    ) -> Self {
        let all = Self { entries: RwLock::default(), observe: Arc::new(observe) };
        pairs.into_iter().for_each(|(name, state)| all.add(name, state));
        all
    }

    /// One more; nothing happens where it is there.
    pub fn add(&self, name: PairName, state: Pair) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let observe = &self.observe;
        entries
            .entry(name.clone())
            .or_insert_with(|| Arc::new(PairEntry::new(name, state, Arc::clone(observe))));
    }

    /// Forgets a pair: no session of it begins any more.
    pub fn forget(&self, name: &PairName) {
        self.entries.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// One of them.
    #[must_use]
    pub fn find(&self, name: &PairName) -> Option<Arc<PairEntry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }

    /// All of them, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<PairEntry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect()
    }

    pub(super) fn tell(&self, notice: Notice) {
        (self.observe)(notice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs() -> (Pairs, Arc<PairEntry>) {
        let name = PairName::new("web-1", "root").unwrap();
        let pairs = Pairs::new([(name.clone(), Pair::Disconnected)], |_| ());
        let entry = pairs.find(&name).unwrap();
        (pairs, entry)
    }

    #[test]
    fn whoever_works_on_a_pair_ends_its_session_and_keeps_the_next_one_out() {
        let (_pairs, entry) = pairs();
        let session = entry.begin_session("web-1").unwrap();
        assert!(entry.begin_session("web-1").is_err() && entry.work_if_idle().is_none());
        assert_eq!(entry.glance().alarms.len(), 1);
        let (waiting, stop) = (Arc::clone(&entry), session.stop().clone());
        let work = std::thread::spawn(move || waiting.work(Duration::from_secs(60)).is_ok());
        while !stop.is_cancelled() {
            std::thread::yield_now();
        }
        assert!(entry.begin_session("web-1").is_err(), "somebody waits for it");
        drop(session);
        assert!(work.join().unwrap());
        assert!(entry.begin_session("web-1").is_ok(), "the work is done");
    }

    #[test]
    fn a_session_that_does_not_end_is_left_alone() {
        let (_pairs, entry) = pairs();
        let session = entry.begin_session("web-1").unwrap();
        assert!(entry.work(Duration::from_millis(1)).is_err());
        assert_eq!(entry.glance().peer.as_deref(), Some("web-1"));
        drop(session);
        assert!(entry.work_if_idle().is_some());
    }

    #[test]
    fn an_alarm_is_not_raised_again_at_once() {
        let (_pairs, entry) = pairs();
        for _ in 0..3 {
            entry.alarm("full", "no room");
            entry.alarm("clock", "it jumped");
        }
        let reasons: Vec<_> = entry.glance().alarms.into_iter().map(|alarm| alarm.reason).collect();
        assert_eq!(reasons, ["no room", "it jumped"]);
    }
}

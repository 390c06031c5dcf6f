//! The agent of a machine, as it runs: its lanes, its cuts, what it keeps.
//!
//! In: settings, the clock, what people ask. Out: events, a status. Invariants:
//! nothing is written to a disk while something is frozen; a disk that is tracked
//! is in a cut with all others like it or not at all; on a machine that the agent does not belong to,
//! nothing is tracked and nothing is sent. Never: prints, reads a configuration.
//! Limits: `limits::REMAINDER_BYTES_MAX`, `limits::POINT_WITHIN`.
//!
//! ```text
//! MachineHandle ── Command ──> Machine (one thread: cuts, policy, state)
//!   ▲  status, thaw               │ starts, stops, orders
//!   └────── Shown <── status ── lane, lane, … (a thread for each disk)
//! ```

mod absent;
mod bound;
mod error;
mod event;
mod handle;
mod mounted;
mod policy;
mod protected;
mod ready;
mod reload;
mod settings;
mod source;
mod status;
mod stored;
mod uninstall;

use std::fs::File;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel as commands;
use nix::fcntl::Flock;

pub use error::MachineError;
pub use event::Event;
pub use handle::{MachineHandle, Thaw};
pub use settings::{DiskSettings, MachineSettings, PointSettings, Tracking, is_name};
pub use source::How;
pub use status::{CutStatus, DiskPoint, DiskStatus, MachineStatus};
pub use uninstall::{Uninstall, uninstall};

use self::absent::Absent;
use self::bound::Bound;
use self::handle::{Command, SharedShown, Shown, not_now};
use self::policy::{Due, Policy};
use self::protected::{Common, Protected};
use self::stored::{Stands, StateFolder};
use super::freezer::{FreezerSettings, Silent, Standstill};
use super::{CutPlan, Freezer, LaneEnding, LaneHandle, LaneStatus, Order, Outcome, Reserve, cut_machine};
use crate::limits;
use crate::pipeline::{Cancel, Load};
use crate::quiesce::{self, Occasion};
use crate::role::{Disk, Reason};
use crate::sys;
use crate::telemetry::Notice;

/// The agent of a machine.
pub struct Machine {
    common: Common,
    bound: Bound,
    disks: Vec<Protected>,
    absent: Absent,
    freezer: Standstill,
    policy: Policy,
    /// Frozen for good, by a final cut of this name.
    held: Option<String>,
    commands: commands::Receiver<Command>,
    shown: SharedShown,
    _lock: Flock<File>,
}

impl Machine {
    /// Undoes what an earlier agent left frozen, sees whether this is still its
    /// machine, and starts a lane for each disk. Lanes end with `cancel`.
    ///
    /// # Errors
    /// [`MachineError`]; nothing was sent then.
    pub fn start(
        settings: MachineSettings,
        cancel: &Cancel,
        observe: impl Fn(Event) + Send + Sync + 'static,
    ) -> Result<(Self, MachineHandle), MachineError> {
        reload::check(&settings)?;
        let folder = StateFolder::new(&settings.state);
        let lock = folder.take()?;
        folder.note_pins(&settings.pins)?;
        let observe: Arc<dyn Fn(Event) + Send + Sync> = Arc::new(observe);
        let freezer = thawed_freezer(&settings, &*observe)?;
        let bound = Bound::find(&folder, &settings)?;
        let reserve = Reserve::new(settings.remainder_bytes);
        if !sys::lock_process() && !reserve.is_locked() {
            let text = "the memory for what is read while the machine is frozen is not locked \
                        (RLIMIT_MEMLOCK): a freeze under memory pressure may take its whole budget";
            observe(Event::Notice(Notice::new("unlocked-memory", text.to_owned())));
        }
        let (commands, received) = commands::bounded(1);
        let shown = SharedShown::default();
        let handle = MachineHandle { commands, shown: Arc::clone(&shown), freezer: freezer.clone() };
        let policy = Policy::new(settings.points, settings.hooks.pre.is_some(), Instant::now());
        let common = Common {
            machine_identity: bound.machine_identity(),
            load: Load::new(settings.limits),
            settings,
            folder,
            reserve,
            cancel: cancel.below(),
            observe,
        };
        let mut machine = Self {
            common,
            bound,
            disks: Vec::new(),
            absent: Absent::default(),
            freezer,
            policy,
            held: None,
            commands: received,
            shown,
            _lock: lock,
        };
        machine.begin()?;
        Ok((machine, handle))
    }

    fn begin(&mut self) -> Result<(), MachineError> {
        let wanted = self.common.settings.disks.clone();
        let taken_up: Vec<_> = wanted.iter().map(|settings| self.take_up(settings)).collect();
        if self.disks.is_empty() {
            taken_up.into_iter().collect::<Result<(), _>>()?;
        }
        self.show();
        let machine = self.common.settings.name.clone();
        let disks = self.disks.iter().map(|disk| disk.settings.name.clone()).collect();
        self.tell(Event::Started { machine, disks });
        if let Some(text) = self.bound.relocated() {
            self.tell(Event::Alarm { text });
        }
        Ok(())
    }

    /// A disk with its lane, or without one where nothing may be sent.
    fn protect(&self, settings: &DiskSettings, compare: Option<Stands>) -> Result<Protected, MachineError> {
        if let Some(reason) = self.bound.relocated() {
            let number = protected::Located::find(settings)?.number;
            let status = LaneStatus { reason: Some(reason), ..LaneStatus::at(Disk::Relocated) };
            return Ok(Protected::idle(settings, number, status));
        }
        // What ran elsewhere meanwhile is unknown.
        let anew = self.bound.is_new_machine().then(|| by_operator("the agent was bound anew"));
        let identity = self.bound.identity_of(&settings.name);
        Protected::start(&self.common, settings, identity, compare.or(anew))
    }

    /// Works until it is told to stop, then ends in order: tracking goes on.
    ///
    /// # Errors
    /// What could not be kept.
    pub fn run(mut self, cancel: &Cancel) -> Result<(), MachineError> {
        while !cancel.is_cancelled() {
            if let Ok(command) = self.commands.recv_timeout(LOOKS_EVERY) {
                self.obey(command);
            }
            self.look_after();
            self.keep_time();
        }
        if self.freezer.thaw() {
            let text = "the agent ends while the machine is frozen for good: it is thawed".to_owned();
            self.tell(Event::Alarm { text });
        }
        self.disks.iter().for_each(Protected::stop);
        let folder = self.common.folder.clone();
        let ends: Vec<_> = self.disks.iter_mut().map(|disk| disk.end(&folder)).collect();
        ends.into_iter().collect()
    }

    fn tell(&self, event: Event) {
        (self.common.observe)(event);
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self) {
        let mut shown = self.shown();
        shown.machine.clone_from(&self.common.settings.name);
        shown.master_target = self.common.settings.remote.location().to_string();
        shown.relocated = self.bound.relocated();
        shown.frozen = self.held.is_some();
        shown.absent.clone_from(&self.absent.disks);
        shown.disks(&self.disks);
        let numbers = self.disks.iter().map(|disk| disk.number).collect();
        self.freezer.watch_over(numbers);
    }

    fn obey(&mut self, command: Command) {
        // Whoever asked may have gone.
        match command {
            Command::Cut { app, name, given_up, answer } => {
                drop(answer.send(self.cut_on_demand(app, &name, &given_up)));
            }
            Command::Finish { power_off, given_up, answer } => {
                drop(answer.send(self.finish(power_off, &given_up)));
            }
            Command::Resync { disk, answer } => drop(answer.send(self.resync(&disk))),
            Command::Remove { disk, answer } => drop(answer.send(self.remove(&disk))),
            Command::Reload { settings, answer } => drop(answer.send(self.reload(*settings))),
        }
    }

    /// Starts lanes anew that have ended, notices a thaw, keeps what is to be kept.
    fn look_after(&mut self) {
        // One that does not answer may hold it still.
        if let Some(name) = &self.held
            && matches!(self.freezer.look(), Ok(false) | Err(Silent::Gone))
        {
            let occasion = self.occasion("final", name);
            self.held = None;
            // It is told by its own output, if at all.
            let _report = self.common.settings.hooks.end(&occasion);
            self.tell(Event::Alarm { text: ALARM_THAWED.to_owned() });
            self.show();
        }
        let mut has_changed = self.held.is_none() && self.look_for_absent();
        for index in 0..self.disks.len() {
            has_changed |= self.look_after_disk(index);
        }
        if self.held.is_none() {
            self.keep();
        }
        if has_changed {
            self.show();
        }
    }

    fn keep(&mut self) {
        for disk in &mut self.disks {
            if let Err(error) = disk.keep(&self.common.folder) {
                (self.common.observe)(Event::Alarm { text: error.to_string() });
            }
        }
    }

    /// Whether its lane has ended or begun.
    fn look_after_disk(&mut self, index: usize) -> bool {
        let is_needed = self.is_needed(&self.disks[index], false);
        let disk = &mut self.disks[index];
        let status = disk.lane_status();
        if is_needed && (status.state.reason().is_some() || status.newest.is_none()) {
            self.policy.is_comparing();
        }
        if let Some(ended) = disk.ended() {
            let now = Instant::now();
            match ended {
                Ok(LaneEnding::Stopped) => {}
                Ok(LaneEnding::Changed(doubt)) => {
                    disk.waits(now + limits::RECONNECT_AFTER, doubt.to_string());
                }
                Err(error) => disk.waits(now + limits::RECONNECT_AFTER_MAX, error.to_string()),
            }
            return true;
        }
        if self.held.is_some() || disk.again_at.is_none_or(|again| Instant::now() < again) {
            return false;
        }
        let (settings, why) = (disk.settings.clone(), disk.lane_status().reason);
        let compare = Stands::Comparing { reason: Reason::Doubt, why };
        match self.protect(&settings, Some(compare)) {
            Ok(disk) => self.disks[index] = disk,
            Err(error) => {
                let text = error.to_string();
                self.disks[index].waits(Instant::now() + limits::RECONNECT_AFTER_MAX, text.clone());
                self.tell(Event::Trouble { disk: settings.name, text });
            }
        }
        true
    }

    fn keep_time(&mut self) {
        if self.held.is_some() || self.bound.relocated().is_some() {
            return;
        }
        let unready = self.unready(false);
        match self.policy.due(Instant::now(), unready.is_none()) {
            None => {}
            Some(Due::Missed) if self.is_fenced() => {}
            Some(Due::Missed) => {
                let reason = unready.unwrap_or_default();
                self.note(&Outcome::Skipped { reason, void: false });
            }
            Some(due) => {
                self.cut(due == Due::App, "", None, None);
            }
        }
    }

    fn cut_on_demand(&mut self, app: bool, name: &str, given_up: &Cancel) -> Result<CutStatus, MachineError> {
        if name.len() > limits::POINT_NAME_MAX || name.contains(char::is_control) || means_another(name) {
            return Err(MachineError::PointName { name: name.to_owned() });
        }
        self.check_ready(false)?;
        Ok(self.cut(app, name, None, Some(given_up)))
    }

    fn finish(&mut self, power_off: bool, given_up: &Cancel) -> Result<CutStatus, MachineError> {
        self.check_ready(true)?;
        self.tell_passes()?;
        let status = self.cut(true, FINAL, Some(power_off), Some(given_up));
        if self.freezer.holds() {
            self.held = Some(FINAL.to_owned());
        }
        self.show();
        Ok(status)
    }

    /// Makes a cut; `last`: the final one, and whether the machine is then
    /// powered off.
    fn cut(&mut self, app: bool, name: &str, last: Option<bool>, given_up: Option<&Cancel>) -> CutStatus {
        // Afterwards nothing can be kept for as long as the machine is frozen.
        self.keep();
        let (lanes, left_out) = self.fit_for_cut(last.is_some());
        let lanes: Vec<&LaneHandle> = lanes.iter().map(AsRef::as_ref).collect();
        let settings = &self.common.settings;
        let has_hooks = settings.hooks.pre.is_some() || last.is_none();
        let plan = CutPlan {
            name,
            last: last.is_some(),
            power_off: last == Some(true),
            hooks: (app && has_hooks).then_some(&settings.hooks),
            budget: settings.freeze_budget,
            remainder_bytes: self.common.reserve.bytes(),
            given_up,
        };
        let mut outcome = cut_machine(&lanes, &mut self.freezer.clone(), plan);
        if let Outcome::Made { left_out: others, .. } = &mut outcome {
            others.extend(left_out);
        }
        self.policy.was_cut(Instant::now());
        self.note(&outcome)
    }

    /// Shows and tells what became of a cut.
    fn note(&self, outcome: &Outcome) -> CutStatus {
        let status = CutStatus::of(outcome);
        let skipped = {
            let mut shown = self.shown();
            *(if status.made { &mut shown.cuts_made } else { &mut shown.cuts_skipped }) += 1;
            shown.skipped_in_a_row = if status.made { 0 } else { shown.skipped_in_a_row.saturating_add(1) };
            shown.last_cut = Some(status.clone());
            shown.skipped_in_a_row
        };
        // Again after twice as many, so that it is neither missed nor all that is read.
        if skipped.is_multiple_of(limits::SKIPPED_CUTS_ALARM)
            && (skipped / limits::SKIPPED_CUTS_ALARM).is_power_of_two()
        {
            let why = status.reason.as_deref().unwrap_or("see the cuts before");
            let text =
                format!("no recovery point was made {skipped} times in a row, the last time because {why}");
            self.tell(Event::Alarm { text });
        }
        if status.void {
            self.tell(Event::Alarm { text: ALARM_VOID.to_owned() });
        }
        self.tell(Event::Cut(status.clone()));
        status
    }

    fn occasion(&self, kind: &str, name: &str) -> Occasion {
        let disks = self.disks.iter().map(|disk| disk.settings.name.clone()).collect();
        Occasion { name: name.to_owned(), kind: kind.to_owned(), disks }
    }

    fn resync(&mut self, name: &str) -> Result<(), MachineError> {
        if let Some(text) = self.bound.relocated() {
            return Err(not_now(text));
        }
        self.check_running()?;
        let index = self.disks.iter().position(|disk| disk.settings.name == name);
        let index = index.ok_or_else(|| MachineError::Unknown { disk: name.to_owned() })?;
        match self.disks[index].handle() {
            Some(lane) if lane.order(Order::Resynchronize) => Ok(()),
            Some(_) => Err(not_now(format!("disk {name} takes no orders now: try again"))),
            None => {
                let settings = self.disks[index].settings.clone();
                let compare = by_operator("as it was ordered");
                self.disks[index] = self.protect(&settings, Some(compare))?;
                self.show();
                Ok(())
            }
        }
    }

    /// While the machine is frozen for good, nothing can be kept.
    fn check_running(&self) -> Result<(), MachineError> {
        match self.held {
            Some(_) => Err(not_now("the machine is frozen for good: `thaw` it first")),
            None => Ok(()),
        }
    }

    fn remove(&self, name: &str) -> Result<(), MachineError> {
        self.check_running()?;
        if self.disks.iter().any(|disk| disk.settings.name == name) {
            return Err(MachineError::InUse { disk: name.to_owned() });
        }
        let is_known = is_name(name) && self.common.folder.forget(&self.common.settings.pins, name)?;
        if is_known { Ok(()) } else { Err(MachineError::Unknown { disk: name.to_owned() }) }
    }
}

/// Undoes a freeze that an earlier agent has left, and starts a watchdog.
fn thawed_freezer(
    settings: &MachineSettings,
    observe: &(dyn Fn(Event) + Send + Sync),
) -> Result<Standstill, MachineError> {
    let (run, budget, rehearse) = (settings.run.clone(), settings.freeze_budget, settings.rehearse);
    let failed = |source| MachineError::State { path: run.clone(), source };
    crate::landing::make_folder(&run).map_err(failed)?;
    if let Some(recovered) = quiesce::recover(&run)? {
        let thawed =
            if recovered.thawed.is_empty() { "nothing".to_owned() } else { recovered.thawed.join(", ") };
        let text = format!("an earlier agent ended within a freeze; still frozen, and thawed now: {thawed}");
        observe(Event::Notice(Notice::new("thawed", text)));
    }
    Ok(Standstill::start(FreezerSettings { run, budget, rehearse })?)
}

fn by_operator(why: &str) -> Stands {
    Stands::Comparing { reason: Reason::Operator, why: Some(why.to_owned()) }
}

/// How often the machine looks after its lanes and its clock.
const LOOKS_EVERY: Duration = Duration::from_millis(200);

/// What the points of a final cut are called.
const FINAL: &str = "final";

const ALARM_VOID: &str = "the machine runs again after its final cut: that point is void as a final one; \
    see that it does not run at home as well";
const ALARM_THAWED: &str = "the machine was thawed after its final point, while its targets take nothing more: \
    what it writes now is protected by nobody, and the machine at home may be running";

/// Whether people would mean another point by this name: the newest one, or an epoch.
fn means_another(name: &str) -> bool {
    matches!(name, "newest" | "latest") || name.parse::<u64>().is_ok()
}

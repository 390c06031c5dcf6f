//! `failback master-target status`: where each pair stands.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use failback_datapath::journal::{PairState, PointRecord, Space, Summary};
use failback_datapath::pipeline::Cancel;
use failback_datapath::role::Pair;
use failback_datapath::role::master_target::{Alarm, Glance, MasterTarget, PairEntry, Replicas};
use indicatif::{BinaryBytes, HumanDuration};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::master;
use super::orders::Request;
use crate::command::points::Found;
use crate::config::master_target::Settings;
use crate::control::{self, Failed};
use crate::exit::Exit;
use crate::output::Output;

/// Looking at all journals takes no longer.
const WITHIN: Duration = Duration::from_secs(60);

/// Where all pairs stand.
#[derive(Debug, Serialize, Deserialize)]
struct Status {
    /// Whether a master target runs.
    running: bool,
    /// Where the journals lie.
    retention: String,
    pairs: Vec<PairStatus>,
}

/// Where a pair stands.
#[derive(Debug, Serialize, Deserialize)]
struct PairStatus {
    pair: String,
    /// The name of a state, as the rules have it.
    state: String,
    /// What the journal says of it.
    detail: String,
    target: Option<String>,
    /// Whose session it has.
    peer: Option<String>,
    /// How far a synchronization is.
    progress: Option<ProgressStatus>,
    size_bytes: Option<u64>,
    generation: Option<String>,
    open_epoch: Option<u64>,
    landed: Option<u64>,
    points: usize,
    newest: Option<NewestStatus>,
    journal_bytes: Option<u64>,
    free_bytes: Option<u64>,
    alarms: Vec<AlarmStatus>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ProgressStatus {
    done_bytes: u64,
    total_bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct NewestStatus {
    epoch: u64,
    kind: String,
    name: String,
    cut_unix_ms: u64,
    age_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct AlarmStatus {
    unix_ms: u64,
    reason: String,
}

/// Asks the one that runs, or looks at the journals where none does.
pub fn run(settings: &Settings, output: &Output) -> Result<(), Failed> {
    let answer = match control::ask(&settings.control, &Request::Status, WITHIN) {
        Err((Exit::Network, _)) => answer(&*master(settings, Cancel::default(), output)?, false)?,
        answered => answered?,
    };
    let status: Status = serde_json::from_value(answer)
        .map_err(|error| (Exit::Failed, format!("the master target is of another version: {error}")))?;
    output.line(&status.text(), || {
        let mut event = serde_json::to_value(&status).unwrap_or_default();
        if let Some(fields) = event.as_object_mut() {
            fields.insert("event".to_owned(), "status".into());
        }
        event
    });
    Ok(())
}

/// Where all pairs of `master` stand.
pub fn answer(master: &MasterTarget<Replicas>, running: bool) -> Result<Value, Failed> {
    let pairs = master.pairs().all().into_iter().map(|entry| PairStatus::of(master, &entry));
    let retention = master.targets().retention().display().to_string();
    let status = Status { running, retention, pairs: pairs.collect() };
    serde_json::to_value(status).map_err(|error| (Exit::Failed, error.to_string()))
}

impl PairStatus {
    fn of(master: &MasterTarget<Replicas>, entry: &PairEntry) -> Self {
        let (name, glance) = (entry.name(), entry.glance());
        let target =
            master.targets().assignment(name).map(|assignment| assignment.target.display().to_string());
        let mut status = Self::without_journal(name.to_string(), target, &glance);
        let known = match master.targets().look(name) {
            Ok(Some(known)) => known,
            Ok(None) if master.targets().has_lost_journal(name) => {
                let detail = "its journal is not where it was: is the retention volume mounted?".to_owned();
                return Self { detail, ..status };
            }
            Ok(None) => return status,
            Err(error) => return Self { detail: error.to_string(), ..status },
        };
        // What a command did to it while nobody had it open is in its journal alone.
        if glance.peer.is_none() && glance.state != Pair::Failed {
            status.state = match known.state {
                // To an agent it is as one that is fenced; to people it is not.
                PairState::Committed => "Committed".to_owned(),
                state => format!("{:?}", Pair::at_rest(state)),
            };
        }
        status.detail = known.state.to_string();
        if known.state == PairState::Initial {
            status.detail.push_str(": not to be used as a disk");
        }
        if let Some(reason) = &glance.compared_for {
            status.detail = format!("{} ({reason})", status.detail);
        }
        status.size_bytes = Some(known.size_bytes);
        status.generation = Some(known.generation.to_string());
        let found = Found { name: name.to_string(), directory: master.targets().folder(name) };
        match found.summary() {
            Ok(summary) => status.with_journal(&summary),
            Err((_, reason)) => Self { detail: reason, ..status },
        }
    }

    fn without_journal(pair: String, target: Option<String>, glance: &Glance) -> Self {
        let progress = glance
            .progress
            .map(|so_far| ProgressStatus { done_bytes: so_far.done_bytes, total_bytes: so_far.total_bytes });
        let told = |alarm: &Alarm| AlarmStatus { unix_ms: alarm.unix_ms, reason: alarm.reason.clone() };
        Self {
            pair,
            state: format!("{:?}", glance.state),
            detail: "its agent has never connected".to_owned(),
            target,
            peer: glance.peer.clone(),
            progress,
            size_bytes: None,
            generation: None,
            open_epoch: None,
            landed: None,
            points: 0,
            newest: None,
            journal_bytes: None,
            free_bytes: None,
            alarms: glance.alarms.iter().map(told).collect(),
        }
    }

    fn with_journal(self, summary: &Summary) -> Self {
        let Space { free_bytes, .. } = summary.space;
        Self {
            open_epoch: Some(summary.open_epoch.0),
            landed: Some(summary.landed.0),
            points: summary.points.len(),
            newest: summary.points.last().map(|point| NewestStatus::of(&point.record)),
            journal_bytes: Some(summary.space.used_bytes()),
            free_bytes: Some(free_bytes),
            ..self
        }
    }

    fn write(&self, text: &mut String) {
        // Writing to a string does not fail.
        let _ = write!(text, "{}: {}", self.pair, self.state);
        if let Some(so_far) = &self.progress {
            let (done, total) = (BinaryBytes(so_far.done_bytes), BinaryBytes(so_far.total_bytes));
            let _ = write!(text, ", {done} of {total} compared");
        }
        let _ = write!(text, "\n  journal:   {}", self.detail);
        if let Some(target) = &self.target {
            let size = self.size_bytes.map(|size| format!(", {}", BinaryBytes(size))).unwrap_or_default();
            let _ = write!(text, "\n  target:    {target}{size}");
        }
        let _ = write!(text, "\n  session:   {}", self.peer.as_deref().unwrap_or("none"));
        if let (Some(generation), Some(epoch), Some(landed)) =
            (&self.generation, self.open_epoch, self.landed)
        {
            let _ = write!(text, "\n  position:  generation {generation}, epoch {epoch}, delta {landed}");
        }
        let _ = write!(text, "\n  points:    {}", self.points);
        if let Some(newest) = &self.newest {
            let age = HumanDuration(Duration::from_millis(newest.age_ms));
            let _ = write!(text, ", the newest is {} ({}), {age} old", newest.epoch, newest.kind);
        }
        if let (Some(used), Some(free)) = (self.journal_bytes, self.free_bytes) {
            let _ = write!(text, "\n  space:     {} taken, {} free", BinaryBytes(used), BinaryBytes(free));
        }
        for alarm in &self.alarms {
            let at = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(alarm.unix_ms));
            let _ = write!(text, "\n  ALARM {at}: {}", alarm.reason);
        }
    }
}

impl NewestStatus {
    fn of(point: &PointRecord) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let age = now.saturating_sub(Duration::from_millis(point.cut_unix_ms));
        Self {
            epoch: point.epoch.0,
            kind: point.kind.to_string(),
            name: point.name.clone(),
            cut_unix_ms: point.cut_unix_ms,
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl Status {
    fn text(&self) -> String {
        let mut text = match self.running {
            true => format!("journals in {}", self.retention),
            false => format!("no master target runs; journals in {}", self.retention),
        };
        if self.pairs.is_empty() {
            text.push_str("\nno pairs");
        }
        for pair in &self.pairs {
            text.push('\n');
            pair.write(&mut text);
        }
        text
    }
}

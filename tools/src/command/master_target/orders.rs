//! What operators order: of the master target that runs, or done here where none does.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use failback_datapath::journal::Clock;
use failback_datapath::limits;
use failback_datapath::pipeline::Cancel;
use failback_datapath::role::Pair;
use failback_datapath::role::master_target::{MasterTarget, PairName, Replicas};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Command, failed, master, status};
use crate::config::master_target::Settings;
use crate::control::{self, Failed};
use crate::exit::Exit;
use crate::output::Output;

/// An order waits until a session has ended, and a journal was opened.
const WITHIN: Duration = limits::SESSION_ENDS_WITHIN.saturating_add(Duration::from_secs(30));

/// What a master target is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Request {
    /// Where each pair stands.
    Status,
    /// Let nothing land any more.
    Fence { pair: String },
    /// Let it land again.
    Unfence { pair: String },
    /// Give a synchronization up.
    Cancel { pair: String },
    /// Give the target up.
    Remove { pair: String, journal: bool },
    /// Forget a machine's key.
    Release { machine: String },
    /// Read the pairs anew.
    Reload,
    /// Believe the wall clock.
    AcceptClock,
}

/// Where requests are answered.
pub struct Desk {
    master: Arc<MasterTarget<Replicas>>,
    config: PathBuf,
}

impl Desk {
    /// Answers for `master`, whose settings lie in `config`.
    pub const fn new(master: Arc<MasterTarget<Replicas>>, config: PathBuf) -> Self {
        Self { master, config }
    }

    /// Does what was asked.
    pub fn answer(&self, request: Request) -> Result<Value, Failed> {
        match request {
            Request::Status => status::answer(&self.master, true),
            Request::Reload => self.reload(),
            order => carry_out(&self.master, &order),
        }
    }

    /// Takes on what is new in the settings, and dismisses what is gone from them.
    fn reload(&self) -> Result<Value, Failed> {
        let settings = Settings::read(&self.config)?;
        let wanted: BTreeSet<&PairName> = settings.pairs.iter().map(|pair| &pair.name).collect();
        let known: Vec<PairName> =
            self.master.pairs().all().iter().map(|entry| entry.name().clone()).collect();
        let gone: Vec<&PairName> = known.iter().filter(|name| !wanted.contains(name)).collect();
        for name in &gone {
            self.master.dismiss(name).map_err(|error| failed(&error))?;
        }
        for pair in &settings.pairs {
            self.master.admit(pair.name.clone(), pair.assignment());
        }
        let added = wanted.iter().filter(|name| !known.contains(name)).map(ToString::to_string);
        let gone = gone.iter().map(ToString::to_string);
        Ok(json!({"added": added.collect::<Vec<_>>(), "gone": gone.collect::<Vec<_>>()}))
    }
}

/// Does what changes a pair.
fn carry_out(master: &MasterTarget<Replicas>, order: &Request) -> Result<Value, Failed> {
    let name = |pair: &str| pair.parse::<PairName>().map_err(|error| (Exit::Refused, error.to_string()));
    let done = match order {
        Request::Fence { pair } => master.fence(&name(pair)?).map(|()| json!({"pair": pair})),
        Request::Unfence { pair } => master.unfence(&name(pair)?).map(|()| json!({"pair": pair})),
        Request::Cancel { pair } => {
            let name = name(pair)?;
            master.cancel(&name).map(|()| {
                let state = master.pairs().find(&name).map(|entry| entry.state());
                let is_disk = state.is_some_and(|state| state != Pair::Corrupted);
                json!({"pair": pair, "is_disk": is_disk})
            })
        }
        Request::Remove { pair, journal } => master
            .remove(&name(pair)?, *journal)
            .map(|left| json!({"pair": pair, "journal": left.journal, "was_owned": left.was_owned})),
        Request::Release { machine } => master.release(machine).map(|pairs| {
            let pairs: Vec<String> = pairs.iter().map(ToString::to_string).collect();
            json!({"machine": machine, "pairs": pairs})
        }),
        Request::AcceptClock => return accept_clock(master),
        Request::Status | Request::Reload => Ok(json!({})),
    };
    done.map_err(|error| failed(&error))
}

fn accept_clock(master: &MasterTarget<Replicas>) -> Result<Value, Failed> {
    let accepted = master.targets().clock().accept(Clock::now());
    accepted.map(|()| json!({})).map_err(|error| {
        let reason = format!("the clock is accepted until the master target ends; no record of it: {error}");
        (Exit::Failed, reason)
    })
}

/// Has the order carried out, and tells what came of it.
pub fn run(command: &Command, settings: &Settings, output: &Output) -> Result<(), Failed> {
    let (request, word) = match command {
        Command::Fence { pair, .. } => (Request::Fence { pair: pair.to_string() }, "fenced"),
        Command::Unfence { pair, .. } => (Request::Unfence { pair: pair.to_string() }, "unfenced"),
        Command::Cancel { pair, .. } => (Request::Cancel { pair: pair.to_string() }, "cancelled"),
        Command::Remove { pair, journal, .. } => {
            (Request::Remove { pair: pair.to_string(), journal: *journal }, "removed")
        }
        Command::Release { machine, .. } => (Request::Release { machine: machine.clone() }, "released"),
        Command::Reload { .. } => (Request::Reload, "reloaded"),
        Command::AcceptClock { .. } => (Request::AcceptClock, "clock-accepted"),
        Command::Run { .. } | Command::Status { .. } => (Request::Status, "status"),
    };
    // Going back to a point may put a whole disk back.
    let within = if matches!(request, Request::Cancel { .. }) { limits::ROLLED_BACK_WITHIN } else { WITHIN };
    let answer = match control::ask(&settings.control, &request, within) {
        Err((Exit::Network, reason)) => match request {
            // Nothing runs that it could mean anything to.
            Request::Reload => return Err((Exit::Network, reason)),
            order => directly(&order, settings, output)?,
        },
        answered => answered?,
    };
    output.line(&text(word, &answer), || with_event(word, answer.clone()));
    Ok(())
}

/// Carries an order out where no master target runs: none starts meanwhile.
fn directly(order: &Request, settings: &Settings, output: &Output) -> Result<Value, Failed> {
    let master = master(settings, Cancel::default(), output)?;
    let _alone = master.targets().hold().map_err(|error| (Exit::Refused, error.to_string()))?;
    carry_out(&master, order)
}

fn with_event(word: &str, mut answer: Value) -> Value {
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("event".to_owned(), word.into());
    }
    answer
}

fn text(word: &str, answer: &Value) -> String {
    let names = |key: &str| {
        let names = answer[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        names.collect::<Vec<_>>().join(", ")
    };
    match word {
        "fenced" => format!("{}: fenced; nothing lands any more", named(answer)),
        "unfenced" => format!(
            "{}: takes its agent again; if it was committed and then run, its older points hold what it wrote since",
            named(answer)
        ),
        "cancelled" if answer["is_disk"] == true => {
            format!(
                "{}: the synchronization is given up; its target holds its last point again",
                named(answer)
            )
        }
        "cancelled" => format!(
            "{}: its first synchronization is given up; its target is no disk until one is finished",
            named(answer)
        ),
        "removed" => {
            let journal = match answer["journal"].as_str() {
                Some(path) => format!("its journal stays in {path}"),
                None => "it has no journal any more".to_owned(),
            };
            format!(
                "{}: its target is nobody's now, and {journal}; take it out of the settings too",
                named(answer)
            )
        }
        "released" => format!(
            "{}: the next agent that comes in its name is taken for it [{}]",
            answer["machine"].as_str().unwrap_or_default(),
            names("pairs")
        ),
        "reloaded" => format!("added: [{}], gone: [{}]", names("added"), names("gone")),
        _ => "done".to_owned(),
    }
}

fn named(answer: &Value) -> &str {
    answer["pair"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_lines_that_people_can_write() {
        let golden = [
            (Request::Status, r#"{"do":"status"}"#),
            (Request::Fence { pair: "a/b".to_owned() }, r#"{"do":"fence","pair":"a/b"}"#),
            (
                Request::Remove { pair: "a/b".to_owned(), journal: true },
                r#"{"do":"remove","pair":"a/b","journal":true}"#,
            ),
            (Request::Cancel { pair: "a/b".to_owned() }, r#"{"do":"cancel","pair":"a/b"}"#),
            (Request::AcceptClock, r#"{"do":"accept-clock"}"#),
        ];
        for (request, line) in golden {
            assert_eq!(serde_json::to_string(&request).expect("it is JSON"), line);
            assert_eq!(serde_json::from_str::<Request>(line).expect("it is a request"), request);
        }
    }
}

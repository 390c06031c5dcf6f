//! `failback agent run`: the agent at work.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::Args;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use failback_datapath::pipeline::Cancel;
use failback_datapath::role::agent::{Event, Machine, MachineError, MachineHandle};

use super::ask::{self, Request};
use super::events::{self, Events};
use super::settings::{self, Additions};
use crate::config::agent::AgentConfig;
use crate::control::{self, Failed};
use crate::exit::Exit;
use crate::output::{Output, Style};
use crate::signals;

/// How the agent is started.
#[derive(Args)]
pub struct Run {
    /// The agent's configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/failback/agent.toml")]
    config: PathBuf,
    /// Accept this machine as the agent's own: for one that was moved on purpose
    #[arg(long)]
    bind_anew: bool,
    /// Do everything but power the machine off
    #[arg(long, hide = true)]
    rehearse: bool,
    /// Print events as JSON lines
    #[arg(long)]
    json: bool,
}

impl Run {
    pub fn output(&self) -> Output {
        Output::new(Style::choose(self.json, false))
    }

    /// Runs until a signal ends it.
    pub fn run(&self, output: &Output) -> Result<(), Failed> {
        let failed = |error: &dyn std::fmt::Display| (Exit::Failed, error.to_string());
        let cancel = signals::cancel_on_signals().map_err(|error| failed(&error))?;
        let reload = signals::note_hangups().map_err(|error| failed(&error))?;
        let config = AgentConfig::read(&self.config)?;
        if !pair(&config, &cancel, output)? {
            return Ok(());
        }
        let additions = Additions { rehearse: self.rehearse, bind_anew: self.bind_anew };
        let (settings, notices) = settings::machine(&config, additions)?;
        notices.iter().for_each(|notice| output.warn(notice));
        let (events, told) = Events::new();
        // Commands are answered before the agent is said to have started.
        let started = Machine::start(settings, &cancel, move |event| events.take(event));
        let (machine, handle) = started.map_err(ask::failed)?;
        let again = Reload { config: self.config.clone(), additions, machine: handle.clone() };
        let (by_command, asked) = (again.clone(), handle);
        let answer = move |request: Request, client: &control::Client<'_>| {
            ask::answer(request, client, &asked, || by_command.now())
        };
        let _server: control::Server = control::serve(&config.control, &cancel, answer)?;
        let stop = cancel.clone();
        let work = move || machine.run(&stop);
        let working = thread::Builder::new().name("agent".to_owned()).spawn(work);
        let working = working.map_err(|error| failed(&error))?;
        follow(&told, &reload, &again, output);
        let ended: Result<(), MachineError> =
            working.join().map_err(|_| (Exit::Failed, "the agent has ended by a defect".to_owned()))?;
        ended.map_err(ask::failed)
    }
}

/// Pairs as soon as the master target is there; whether it was, before the end.
fn pair(config: &AgentConfig, cancel: &Cancel, output: &Output) -> Result<bool, Failed> {
    let mut told = String::new();
    while !cancel.is_cancelled() {
        match settings::pair(config) {
            Ok(()) => return Ok(true),
            Err((Exit::Network | Exit::Failed, reason)) => {
                if reason != told {
                    output.warn(&format!("not paired yet, and trying again: {reason}"));
                    told = reason;
                }
                thread::sleep(PAIRS_EVERY);
            }
            Err(refused) => return Err(refused),
        }
    }
    Ok(false)
}

/// Tells events until there are no more, and reads the configuration again when
/// the process is told to.
fn follow(told: &Receiver<Event>, reload: &AtomicBool, again: &Reload, output: &Output) {
    loop {
        match told.recv_timeout(LOOKS_EVERY) {
            Ok(event) => events::tell(&event, output),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if reload.swap(false, Ordering::Relaxed) {
            match again.now() {
                Ok(changes) => changes.iter().for_each(|change| output.warn(change)),
                Err((_, reason)) => output.warn(&format!("goes on as before: {reason}")),
            }
        }
    }
}

/// Reads the configuration again, and has the agent go on with it.
#[derive(Clone)]
struct Reload {
    config: PathBuf,
    additions: Additions,
    machine: MachineHandle,
}

impl Reload {
    fn now(&self) -> Result<Vec<String>, Failed> {
        let config = AgentConfig::read(&self.config)?;
        let (settings, mut notices) = settings::machine(&config, self.additions)?;
        notices.extend(self.machine.reload(settings).map_err(ask::failed)?);
        Ok(notices)
    }
}

/// Between two attempts to pair.
const PAIRS_EVERY: Duration = Duration::from_secs(1);

/// How often a signal is looked for.
const LOOKS_EVERY: Duration = Duration::from_millis(200);

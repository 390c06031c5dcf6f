//! Processes of this very program: those that run on, and commands.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::command::demo::error::Error;
use crate::command::demo::stage::Stage;

/// This program, also where its file was replaced meanwhile.
const PROGRAM: &str = "/proc/self/exe";

/// How long a process may take to end by itself.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// How often a process is looked at.
const LOOKS_EVERY: Duration = Duration::from_millis(20);

/// Events that wait to be looked at; those that nobody waits for are dropped.
const EVENTS: usize = 1024;

/// The longest line of an event in bytes, and all that a command says.
const SAID_BYTES_MAX: u64 = 1 << 20;

/// A process that runs on; dropped, it is ended.
pub struct Process {
    child: Child,
    command: String,
    events: Receiver<Value>,
}

impl Process {
    /// Starts `failback ARGUMENTS --json --config SETTINGS`.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn start(arguments: &[&str], settings: &Path, stage: &Stage<'_>) -> Result<Self, Error> {
        let mut child = spawn(arguments, &["--config", &settings.display().to_string()], stage)?;
        let (tell, events) = crossbeam_channel::bounded(EVENTS);
        if let Some(said) = child.stdout.take() {
            let read = move || {
                for line in BufReader::new(said).lines().map_while(Result::ok) {
                    if let Ok(event) = serde_json::from_str(&line) {
                        let _unheard = tell.try_send(event);
                    }
                }
            };
            // Its end is that of the process.
            std::thread::Builder::new()
                .name("events".to_owned())
                .spawn(read)
                .map_err(Error::at("follow", Path::new(PROGRAM)))?;
        }
        Ok(Self { child, command: arguments.join(" "), events })
    }

    /// Waits for an event, however many others come before it.
    ///
    /// # Errors
    /// [`Error::Interrupted`], and [`Error::Failback`] where the process ends.
    pub fn wait_for(&self, name: &str, stage: &Stage<'_>) -> Result<Value, Error> {
        let mut last = Value::Null;
        loop {
            stage.check()?;
            match self.events.recv_timeout(LOOKS_EVERY) {
                Ok(event) if event["event"] == name => return Ok(event),
                Ok(event) => last = event,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended(&last)),
            }
        }
    }

    /// Goes on, unless the process has ended or somebody asked to stop.
    ///
    /// # Errors
    /// As [`Process::wait_for`].
    pub fn check(&self, stage: &Stage<'_>) -> Result<(), Error> {
        stage.check()?;
        let mut last = Value::Null;
        loop {
            match self.events.try_recv() {
                Ok(event) => last = event,
                Err(crossbeam_channel::TryRecvError::Empty) => return Ok(()),
                Err(crossbeam_channel::TryRecvError::Disconnected) => return Err(self.ended(&last)),
            }
        }
    }

    fn ended(&self, last: &Value) -> Error {
        Error::Failback { command: self.command.clone(), said: text_of(last) }
    }

    /// Ends it, and waits for that.
    ///
    /// # Errors
    /// [`Error::Failback`] where it does not end well.
    pub fn end(mut self) -> Result<(), Error> {
        match self.stop() {
            Some(true) => Ok(()),
            Some(false) => Err(self.ended(&Value::from("it ended badly"))),
            None => Err(self.ended(&Value::from("it did not end when it was told to"))),
        }
    }

    /// Whether it has ended well; `None` where it had to be killed.
    fn stop(&mut self) -> Option<bool> {
        let ended = |child: &mut Child| child.try_wait().ok().flatten().map(|status| status.success());
        if let Some(well) = ended(&mut self.child) {
            return Some(well);
        }
        let begun = Instant::now();
        if let Ok(number) = i32::try_from(self.child.id()) {
            // It may end at this moment.
            let _ = kill(Pid::from_raw(number), Signal::SIGTERM);
        }
        while begun.elapsed() < ENDS_WITHIN {
            if let Some(well) = ended(&mut self.child) {
                return Some(well);
            }
            std::thread::sleep(LOOKS_EVERY);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// Runs `failback ARGUMENTS --json --config SETTINGS` to its end; its last event.
///
/// # Errors
/// [`Error::Failback`] with what it said, [`Error::Interrupted`].
pub fn ask(arguments: &[&str], settings: &Path, stage: &Stage<'_>) -> Result<Value, Error> {
    run(arguments, &["--config", &settings.display().to_string()], stage)
}

/// Makes a token for one agent, at the master target of `state`.
///
/// # Errors
/// As [`ask`].
pub fn issue_token(address: &str, state: &Path, token: &Path, stage: &Stage<'_>) -> Result<(), Error> {
    let (state, token) = (state.display().to_string(), token.display().to_string());
    run(&["pair"], &["--address", address, "--state", &state, "--output", &token], stage).map(drop)
}

fn run(arguments: &[&str], options: &[&str], stage: &Stage<'_>) -> Result<Value, Error> {
    stage.check()?;
    let child = spawn(arguments, options, stage)?;
    // What it says is little, and it ends by itself: each command has its limit.
    let output = child.wait_with_output().map_err(Error::at("wait for", Path::new(PROGRAM)))?;
    stage.check()?;
    let mut said = String::new();
    let _cut_off = output.stdout.take(SAID_BYTES_MAX).read_to_string(&mut said);
    let last = said.lines().rev().find_map(|line| serde_json::from_str(line).ok()).unwrap_or(Value::Null);
    if output.status.success() {
        return Ok(last);
    }
    Err(Error::Failback { command: arguments.join(" "), said: text_of(&last) })
}

/// In a process group of its own, so that a terminal's Ctrl-C reaches the demo
/// alone, which then ends it.
fn spawn(arguments: &[&str], options: &[&str], stage: &Stage<'_>) -> Result<Child, Error> {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).arg("--json").args(options).current_dir(stage.folder());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    command.spawn().map_err(Error::at("run", Path::new(PROGRAM)))
}

fn text_of(event: &Value) -> String {
    let text = ["message", "text", "reason"].iter().find_map(|key| event[key].as_str());
    text.or(event.as_str()).map_or_else(|| event.to_string(), str::to_owned)
}

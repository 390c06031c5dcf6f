//! Children that the harness never leaves behind: what they say, what they cost.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, SysconfVar, sysconf};

use super::scratch::Scratch;
use crate::error::Error;

/// How long a child may take to end in order.
const END_WITHIN: Duration = Duration::from_secs(15);

/// What a process has cost since it began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Of all its threads, those of its rings included.
    pub cpu_seconds: f64,
    /// The most memory that it held.
    pub peak_bytes: u64,
}

/// A child, ended with its group when it is dropped.
pub struct Process {
    child: Child,
    command: String,
    /// What it says goes to files without names: nobody has to read along.
    output: [File; 2],
    has_ended: bool,
}

/// A command that the kernel kills with the thread that starts it.
pub fn supervised(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

impl Process {
    /// Starts a command in a process group of its own: Ctrl-C reaches the harness
    /// alone, which ends its children in order.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &mut Command) -> Result<Self, Error> {
        let unnamed = || tempfile::tempfile().map_err(Error::at("make a file in", std::env::temp_dir()));
        let output = [unnamed()?, unnamed()?];
        let written = |file: &File| file.try_clone().map_err(Error::at("share", "an output"));
        command.stdin(Stdio::null()).stdout(written(&output[0])?).stderr(written(&output[1])?);
        let child = command.process_group(0).spawn().map_err(Error::at("start", command.get_program()))?;
        Ok(Self { child, command: format!("{command:?}"), output, has_ended: false })
    }

    /// What it printed so far, on either output.
    pub fn said(&self) -> String {
        self.output.iter().map(text_of).collect()
    }

    /// Waits until it ends well; what it printed.
    ///
    /// # Errors
    /// It fails, or the user has enough.
    pub fn finish(mut self, scratch: &Scratch) -> Result<String, Error> {
        loop {
            scratch.check()?;
            if let Some(status) = self.child.try_wait().map_err(Error::at("wait for", &self.command))? {
                self.has_ended = true;
                let said = text_of(&self.output[0]);
                return if status.success() {
                    Ok(said)
                } else {
                    let said = said + &text_of(&self.output[1]);
                    Err(Error::Failed { command: self.command.clone(), status: status.to_string(), said })
                };
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it has not ended yet.
    ///
    /// # Errors
    /// The system does not say.
    pub fn is_running(&mut self) -> Result<bool, Error> {
        let status = self.child.try_wait().map_err(Error::at("wait for", &self.command))?;
        self.has_ended = status.is_some();
        Ok(!self.has_ended)
    }

    /// Sees that it runs.
    ///
    /// # Errors
    /// [`Error::Failed`] where it has ended.
    pub fn check(&mut self) -> Result<(), Error> {
        match self.child.try_wait().map_err(Error::at("wait for", &self.command))? {
            None => Ok(()),
            Some(status) => {
                self.has_ended = true;
                let (command, said) = (self.command.clone(), self.said());
                Err(Error::Failed { command, status: status.to_string(), said })
            }
        }
    }

    /// What it has cost so far.
    ///
    /// # Errors
    /// It has ended.
    pub fn cost(&self) -> Result<Cost, Error> {
        let read = |name: &str| {
            let path = format!("/proc/{}/{name}", self.child.id());
            fs::read_to_string(&path).map_err(Error::at("read", path))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        let missing = |what| Error::Answer { program: "/proc", what };
        // Behind the name in parentheses: state is field 3, utime 14, stime 15.
        let fields = stat.rsplit_once(')').ok_or_else(|| missing("stat"))?.1.split_whitespace();
        let ticks: u32 = fields.skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|text| text.trim().strip_suffix(" kB")).and_then(|text| text.parse().ok());
        let peak_kib: u64 = peak.ok_or_else(|| missing("VmHWM"))?;
        Ok(Cost { cpu_seconds: f64::from(ticks) / ticks_per_second(), peak_bytes: peak_kib << 10 })
    }

    /// Ends it in order.
    pub fn end(mut self) {
        self.terminate(Signal::SIGTERM);
    }

    /// Ends it as Ctrl-C would.
    pub fn interrupt(&mut self) {
        self.terminate(Signal::SIGINT);
    }

    /// Sends a signal, waits, and kills what is left of its group.
    fn terminate(&mut self, signal: Signal) {
        if self.has_ended {
            return;
        }
        let group = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX));
        // To itself alone: its children are its own business. It may be gone.
        let _ = kill(group, signal);
        let until = Instant::now() + END_WITHIN;
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.wait();
        self.has_ended = true;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.terminate(Signal::SIGTERM);
    }
}

/// All of a file, whose place belongs to the child that writes it.
fn text_of(file: &File) -> String {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    let read = file.read_at(&mut bytes, 0).unwrap_or_default();
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

/// The unit of `/proc/PID/stat`.
pub fn ticks_per_second() -> f64 {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten();
    ticks.and_then(|ticks| i32::try_from(ticks).ok()).map_or(100.0, f64::from)
}

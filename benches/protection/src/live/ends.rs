//! An agent and its master target on one host, for one disk.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::Error;
use crate::ground::process::{Cost, supervised};
use crate::ground::{LoopDevice, Process, Scratch};

/// Long enough for a first synchronization of a large disk.
const LONG: Duration = Duration::from_secs(600);

/// The pair of its machine and disk.
const PAIR: &str = "bench/disk";

/// How they are set up.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The chunk in KiB; by the size of the disk where there is none.
    pub chunk_kib: Option<u32>,
    /// Between two points by policy, in seconds.
    pub points_every: u64,
}

/// Both processes; the agent ends first.
pub struct Ends<'a> {
    scratch: &'a Scratch,
    failback: &'a Path,
    folder: PathBuf,
    agent: Process,
    master_target: Process,
}

/// What both have cost.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// Of the agent.
    pub agent: Cost,
    /// Of the master target.
    pub master_target: Cost,
}

impl Costs {
    /// CPU seconds of agent and master target since `before`.
    pub fn cpu_seconds_since(&self, before: &Self) -> [f64; 2] {
        [
            self.agent.cpu_seconds - before.agent.cpu_seconds,
            self.master_target.cpu_seconds - before.master_target.cpu_seconds,
        ]
    }
}

impl<'a> Ends<'a> {
    /// Starts both, with everything of theirs in a folder called `name`, and waits
    /// for the first point.
    ///
    /// # Errors
    /// They do not come so far.
    pub fn start(
        scratch: &'a Scratch,
        failback: &'a Path,
        name: &str,
        [source, target]: [&LoopDevice; 2],
        settings: Settings,
    ) -> Result<Self, Error> {
        let folder = scratch.folder(name)?;
        for part in ["home", "machine", "retention", "bpf", "run"] {
            scratch.folder(&format!("{name}/{part}"))?;
        }
        // The record of a freeze lies in memory.
        scratch.run(Command::new("mount").args(["-t", "tmpfs", "run"]).arg(folder.join("run")))?;
        let (root, address) = (folder.display(), free_address()?);
        let home = format!(
            "state = \"{root}/home\"\ncontrol = \"{root}/home.sock\"\nlisten = \"{address}\"\n\
             retention = \"{root}/retention\"\n[[pair]]\nname = \"{PAIR}\"\ntarget = \"{}\"\n",
            target.path().display()
        );
        let home = scratch.write(&format!("{name}/target.toml"), &home)?;
        let chunk = settings.chunk_kib.map(|kib| format!("chunk = \"{kib}KiB\"\n")).unwrap_or_default();
        let machine = format!(
            "state = \"{root}/machine\"\ncontrol = \"{root}/machine.sock\"\nrun = \"{root}/run\"\n\
             pins = \"{root}/bpf\"\nname = \"bench\"\nmaster-target = \"{address}\"\n\
             token-file = \"{root}/token\"\n[[disk]]\nname = \"disk\"\ndevice = \"{}\"\n{chunk}\
             tracking = \"ebpf\"\n[points]\ncrash-consistent = \"{}s\"\n",
            source.path().display(),
            settings.points_every
        );
        let machine = scratch.write(&format!("{name}/agent.toml"), &machine)?;
        let run = |words: &[&str], settings: &Path| {
            Process::start(supervised(failback).args(words).args(["--json", "--config"]).arg(settings))
        };
        let mut master_target = run(&["master-target", "run"], &home)?;
        scratch.wait("the master target", LONG, || said(&mut master_target, "\"listening\""))?;
        let token = folder.join("token");
        let mut pair = supervised(failback);
        pair.args(["pair", "--address", &address, "--state"]).arg(folder.join("home"));
        scratch.run(pair.arg("--output").arg(token))?;
        let mut agent = run(&["agent", "run", "--rehearse"], &machine)?;
        scratch.wait("the agent", LONG, || said(&mut agent, "\"started\""))?;
        let mut ends = Self { scratch, failback, folder, agent, master_target };
        ends.wait("the first point", |disk| {
            disk["state"] == "protecting" && disk["newest_point"]["epoch"].is_u64()
        })?;
        Ok(ends)
    }

    /// Waits until what is told of the disk is as it should be.
    ///
    /// # Errors
    /// It does not come, or a process has ended.
    pub fn wait(&mut self, what: &'static str, is_there: impl Fn(&Value) -> bool) -> Result<(), Error> {
        let scratch = self.scratch;
        scratch.wait(what, LONG, || {
            self.check()?;
            let status = self.status()?;
            let disk = &status["disks"][0];
            Ok(if is_there(disk) { Ok(()) } else { Err(disk.to_string()) })
        })
    }

    /// Whether both run.
    ///
    /// # Errors
    /// One has ended.
    pub fn check(&mut self) -> Result<(), Error> {
        self.agent.check()?;
        self.master_target.check()
    }

    /// What the agent says of itself.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self) -> Result<Value, Error> {
        let text = self.scratch.run(&mut self.command(&["status"]))?;
        last_line(&text).ok_or(Error::Answer { program: "failback agent status", what: "itself" })
    }

    /// Asks for a point; what became of it, made or not.
    ///
    /// # Errors
    /// A process has ended, or the user has enough.
    pub fn cut(&mut self) -> Result<Value, Error> {
        self.check()?;
        match self.scratch.run(&mut self.command(&["cut"])) {
            Ok(text) => last_line(&text).ok_or(Error::Answer { program: "failback agent cut", what: "it" }),
            Err(Error::Failed { said, .. }) => Ok(serde_json::json!({"event": "skipped", "reason": said})),
            Err(error) => Err(error),
        }
    }

    /// Cuts until there is a point with everything that was written before.
    ///
    /// # Errors
    /// There is none.
    pub fn settle(&mut self) -> Result<(), Error> {
        let until = Instant::now() + LONG;
        loop {
            let cut = self.cut()?;
            if cut["event"] == "cut" {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(Error::Late { what: "a point", said: cut.to_string() });
            }
        }
    }

    /// How often the disk was doubted, and compared for it. Kernels that hide tasks
    /// from tracing, as those of sandboxes, are reason enough.
    pub fn doubts(&self) -> u64 {
        let said = self.agent.said();
        let doubts = said.lines().filter(|line| line.contains("\"event\":\"doubt\""));
        doubts.map(|_| 1).sum()
    }

    /// What both have cost so far.
    ///
    /// # Errors
    /// One has ended.
    pub fn costs(&self) -> Result<Costs, Error> {
        Ok(Costs { agent: self.agent.cost()?, master_target: self.master_target.cost()? })
    }

    /// Ends both, and takes the tracker away.
    ///
    /// # Errors
    /// The tracker stays.
    pub fn end(self) -> Result<(), Error> {
        let uninstall = &mut self.command(&["uninstall"]);
        self.agent.end();
        self.master_target.end();
        self.scratch.run(uninstall).map(drop)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = supervised(self.failback);
        command.arg("agent").args(words).args(["--json", "--config"]).arg(self.folder.join("agent.toml"));
        command
    }
}

/// Whether a process has said `word`; otherwise all that it said.
fn said(process: &mut Process, word: &str) -> Result<Result<(), String>, Error> {
    process.check()?;
    let said = process.said();
    Ok(if said.contains(word) { Ok(()) } else { Err(said) })
}

fn last_line(text: &str) -> Option<Value> {
    serde_json::from_str(text.lines().last()?).ok()
}

/// An address that stays ours while nobody listens there. Not of those that the
/// kernel gives to whoever connects: a client that tries again and again there
/// would one day be connected to itself.
fn free_address() -> Result<String, Error> {
    let first = 15_000 + std::process::id() % 16_000;
    let mut ports = (first..31_000).chain(15_000..first);
    let found = ports.find_map(|port| {
        let address = format!("127.0.0.1:{port}");
        TcpListener::bind(&address).is_ok().then_some(address)
    });
    found.ok_or(Error::Answer { program: "the kernel", what: "a free port" })
}

//! What one measured run starts, in which order, and what stops its clock.
//!
//! A plan is plain data: the harness writes it down as JSON, and a process of
//! its own (see `runner`) carries it out, so that the peak memory the kernel
//! reports for *its* children belongs to this run alone.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One program and its arguments, started without a shell.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Command {
    /// A name to be found on `PATH`, or a path.
    pub(crate) program: String,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
}

impl Command {
    /// A command of `program` with `arguments`.
    pub(crate) fn new(program: &str, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Self { program: program.to_owned(), arguments }
    }

    /// As a reader would type it.
    pub(crate) fn line(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.arguments);
        let quoted =
            words.map(|word| if word.contains([' ', '&', '?']) { format!("'{word}'") } else { word.clone() });
        quoted.collect::<Vec<_>>().join(" ")
    }
}

/// Commands joined by pipes, each one's stdout to the next one's stdin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pipeline {
    /// From the first writer to the last reader.
    pub(crate) commands: Vec<Command>,
    /// Where the last one's stdout goes; nowhere if absent.
    pub(crate) output: Option<PathBuf>,
}

impl Pipeline {
    /// Commands whose last stdout is thrown away.
    pub(crate) fn new(commands: Vec<Command>) -> Self {
        Self { commands, output: None }
    }
}

/// A process that listens before the clock starts and is stopped after it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Server {
    /// What to run, in the foreground.
    pub(crate) command: Command,
    /// The TCP port on 127.0.0.1 that shows it is ready.
    pub(crate) port: u16,
}

/// A pipeline that listens before the clock starts and must end by itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Receiver {
    /// What to run.
    pub(crate) pipeline: Pipeline,
    /// The TCP port on 127.0.0.1 that shows it is ready.
    pub(crate) port: u16,
}

/// A step of the measured work: over when its sender and its receiver are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Phase {
    /// The end that waits for the sender, if there is one.
    pub(crate) receiver: Option<Receiver>,
    /// What does the work.
    pub(crate) sender: Pipeline,
}

/// Which clock says how long it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Clock {
    /// From the first phase's start to the end of the last and the flush.
    Wall,
    /// fio's own figure: the longest job's run time, without fio's start.
    Fio,
}

/// One measured run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Started first, stopped last.
    pub(crate) servers: Vec<Server>,
    /// The measured work, one after the other.
    pub(crate) phases: Vec<Phase>,
    /// Flushed (`fsync`) before the clock stops, the same for every contestant.
    pub(crate) flush: Option<PathBuf>,
    /// Which clock counts.
    pub(crate) clock: Clock,
    /// Directory for what the programs write to stderr.
    pub(crate) logs: PathBuf,
}

impl Plan {
    /// A plan of one pipeline, timed by the wall clock.
    pub(crate) fn new(sender: Pipeline, flush: Option<PathBuf>, logs: PathBuf) -> Self {
        let phase = Phase { receiver: None, sender };
        Self { servers: Vec::new(), phases: vec![phase], flush, clock: Clock::Wall, logs }
    }

    /// The last phase's output file, if it keeps one.
    pub(crate) fn output(&self) -> Option<&PathBuf> {
        self.phases.last().and_then(|phase| phase.sender.output.as_ref())
    }

    /// Every pipeline of the plan, servers first.
    fn pipelines(&self) -> Vec<&[Command]> {
        let servers = self.servers.iter().map(|server| std::slice::from_ref(&server.command));
        let phases = self.phases.iter().flat_map(|phase| {
            let receiver = phase.receiver.as_ref().map(|receiver| receiver.pipeline.commands.as_slice());
            receiver.into_iter().chain(std::iter::once(phase.sender.commands.as_slice()))
        });
        servers.chain(phases).collect()
    }

    /// Every command line of the plan, servers first.
    pub(crate) fn lines(&self) -> Vec<String> {
        let join = |commands: &[Command]| commands.iter().map(Command::line).collect::<Vec<_>>().join(" | ");
        self.pipelines().into_iter().map(join).collect()
    }

    /// Every program of the plan.
    pub(crate) fn programs(&self) -> Vec<String> {
        self.pipelines().into_iter().flatten().map(|command| command.program.clone()).collect()
    }
}

/// What a run cost.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Wall clock.
    pub(crate) seconds: f64,
    /// Busy time of all processors of the machine meanwhile, kernel threads included.
    pub(crate) cpu_seconds: f64,
    /// Peak resident memory of the largest process, servers included.
    pub(crate) peak_rss_kib: u64,
}

/// What the run's own process answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// All programs ended well.
    Finished(Outcome),
    /// One did not.
    Failed {
        /// Its command line.
        command: String,
        /// How it ended.
        status: String,
        /// The end of its stderr.
        message: String,
    },
}

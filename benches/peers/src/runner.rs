//! The process that carries out one plan and measures it.
//!
//! In: a [`Plan`] as JSON in a file. Out: a [`Verdict`] as JSON on stdout.
//! It is started anew for each run, because the kernel's figure for the peak
//! memory of waited-for children (`getrusage`) never falls again.
//!
//! - *Seconds* run from the first phase's start until every program of the last
//!   phase has ended and the target has been flushed. Servers are up before.
//! - *CPU seconds* are the busy time of the whole machine from `/proc/stat`
//!   (user, nice, system, irq, softirq; not idle, iowait or steal), so that the
//!   work of loop devices' kernel threads and of servers is counted.
//! - *Peak memory* is that of the largest process: exact for every process that
//!   was waited for, and the high-water mark just before the stop for servers'
//!   own children. A process starts with its parent's figure, here about 4 MiB.
//!
//! Children die with this process (`setpriv --pdeathsig KILL`), and this process
//! dies with the harness in the same way.

use crate::error::{Error, on_path};
use crate::plan::{Command, Outcome, Pipeline, Plan, Server, Verdict};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to listen, and to end when asked to.
const SERVER_PATIENCE: Duration = Duration::from_secs(10);
/// How much of a failed program's stderr is passed on, in bytes.
const MESSAGE_BYTES_MAX: usize = 2000;
/// The state code of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// A started program, its command line and where its stderr goes.
struct Running {
    child: Child,
    line: String,
    log: PathBuf,
}

/// Why a run gave no figures: a contestant's failure, or our own.
enum Stop {
    Contestant(Verdict),
    Harness(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Harness(error)
    }
}

/// Carries out the plan in `path` and writes the verdict to stdout.
///
/// # Errors
/// The plan cannot be read, or the machine's figures cannot.
pub(crate) fn run_once(path: &Path) -> Result<(), Error> {
    let text = fs::read(path).map_err(on_path("read the plan", path))?;
    let plan: Plan =
        serde_json::from_slice(&text).map_err(|source| Error::Json { what: "the plan", source })?;
    let mut starter = Starter { logs: plan.logs.clone(), started: 0 };
    let mut servers = Vec::new();
    let measured = measure(&plan, &mut starter, &mut servers);
    let group_peak_kib = peak_of_group();
    for server in &mut servers {
        stop(server);
    }
    let verdict = match measured {
        Ok(mut outcome) => {
            outcome.peak_rss_kib = peak_of_children()?.max(group_peak_kib);
            Verdict::Finished(outcome)
        }
        Err(Stop::Contestant(verdict)) => verdict,
        Err(Stop::Harness(error)) => return Err(error),
    };
    let answer =
        serde_json::to_vec(&verdict).map_err(|source| Error::Json { what: "the verdict", source })?;
    std::io::stdout().write_all(&answer).map_err(on_path("write the verdict to", Path::new("stdout")))
}

fn measure(plan: &Plan, starter: &mut Starter, servers: &mut Vec<Running>) -> Result<Outcome, Stop> {
    for server in &plan.servers {
        servers.push(starter.serve(server)?);
    }
    let mut receivers = Vec::new();
    for phase in &plan.phases {
        let receiver = match &phase.receiver {
            None => Vec::new(),
            Some(receiver) => {
                let mut running = starter.pipe(&receiver.pipeline)?;
                await_port(receiver.port, &mut running)?;
                running
            }
        };
        receivers.push(receiver);
    }
    let busy_before = busy_seconds()?;
    let begin = Instant::now();
    for (phase, mut receiver) in plan.phases.iter().zip(receivers) {
        let mut processes = starter.pipe(&phase.sender)?;
        // The receiver's failure explains the sender's, not the other way round.
        receiver.append(&mut processes);
        await_end(receiver)?;
    }
    if let Some(device) = &plan.flush {
        File::open(device).and_then(|file| file.sync_all()).map_err(on_path("flush", device))?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let cpu_seconds = busy_seconds()? - busy_before;
    for server in servers {
        if let Ok(Some(status)) = server.child.try_wait() {
            return Err(Stop::Contestant(failure(server, status)));
        }
    }
    Ok(Outcome { seconds, cpu_seconds, peak_rss_kib: 0 })
}

/// Starts programs and gives each a file for its stderr.
struct Starter {
    logs: PathBuf,
    started: u32,
}

impl Starter {
    fn start(&mut self, command: &Command, stdin: Stdio, stdout: Stdio) -> Result<Running, Error> {
        let name = Path::new(&command.program).file_name().unwrap_or_default().to_string_lossy();
        let log = self.logs.join(format!("{}-{name}.log", self.started));
        self.started += 1;
        let stderr = File::create(&log).map_err(on_path("create", &log))?;
        let child = process::Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&command.program)
            .args(&command.arguments)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(|source| Error::Start { program: command.program.clone(), source })?;
        Ok(Running { child, line: command.line(), log })
    }

    fn serve(&mut self, server: &Server) -> Result<Running, Stop> {
        let running = self.start(&server.command, Stdio::null(), Stdio::null())?;
        let mut alone = [running];
        await_port(server.port, &mut alone)?;
        let [running] = alone;
        Ok(running)
    }

    fn pipe(&mut self, pipeline: &Pipeline) -> Result<Vec<Running>, Error> {
        let mut all: Vec<Running> = Vec::new();
        for (index, command) in pipeline.commands.iter().enumerate() {
            let upstream = all.last_mut().and_then(|running| running.child.stdout.take());
            let stdin = upstream.map_or_else(Stdio::null, Stdio::from);
            let stdout = match &pipeline.output {
                _ if index + 1 < pipeline.commands.len() => Stdio::piped(),
                None => Stdio::null(),
                Some(path) => Stdio::from(File::create(path).map_err(on_path("create", path))?),
            };
            all.push(self.start(command, stdin, stdout)?);
        }
        Ok(all)
    }
}

/// Waits until `port` listens, by looking at the kernel's table: a trial
/// connection would use up the single connection of a socat.
fn await_port(port: u16, processes: &mut [Running]) -> Result<(), Stop> {
    let table = Path::new("/proc/net/tcp");
    let suffix = format!(":{port:04X}");
    let begin = Instant::now();
    loop {
        let text = fs::read_to_string(table).map_err(on_path("read", table))?;
        let listens = text.lines().any(|line| {
            let mut columns = line.split_whitespace().skip(1);
            let (local, state) = (columns.next(), columns.nth(1));
            local.is_some_and(|local| local.ends_with(&suffix)) && state == Some(LISTENING)
        });
        if listens {
            return Ok(());
        }
        for running in &mut *processes {
            if let Ok(Some(status)) = running.child.try_wait() {
                return Err(Stop::Contestant(failure(running, status)));
            }
        }
        if begin.elapsed() > SERVER_PATIENCE {
            let command = processes.first().map(|running| running.line.clone()).unwrap_or_default();
            let message = format!("port {port} did not listen within {} s", SERVER_PATIENCE.as_secs());
            return Err(Stop::Contestant(Verdict::Failed {
                command,
                status: "no answer".to_owned(),
                message,
            }));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits for all; reports the first failure, one that is no mere broken pipe if
/// there is such a one.
fn await_end(processes: Vec<Running>) -> Result<(), Stop> {
    let mut failures = Vec::new();
    for mut running in processes {
        let log = running.log.clone();
        let status = running.child.wait().map_err(on_path("wait for the writer of", &log))?;
        if !status.success() {
            failures.push((running, status));
        }
    }
    let broken_pipe = Some(libc::SIGPIPE);
    let told = failures.iter().find(|(_, status)| status.signal() != broken_pipe).or(failures.first());
    match told {
        None => Ok(()),
        Some((running, status)) => Err(Stop::Contestant(failure(running, *status))),
    }
}

fn failure(running: &Running, status: ExitStatus) -> Verdict {
    let log = fs::read(&running.log).unwrap_or_default();
    let tail = log.get(log.len().saturating_sub(MESSAGE_BYTES_MAX)..).unwrap_or_default();
    let message = String::from_utf8_lossy(tail).trim().to_owned();
    Verdict::Failed { command: running.line.clone(), status: status.to_string(), message }
}

/// Asks a server to end, and makes it when it does not.
fn stop(server: &mut Running) {
    // A failure to signal means that it is gone already, which is the aim.
    if let Ok(number) = i32::try_from(server.child.id()) {
        let _ = kill(Pid::from_raw(number), Signal::SIGTERM);
    }
    let begin = Instant::now();
    while begin.elapsed() < SERVER_PATIENCE {
        if matches!(server.child.try_wait(), Ok(Some(_)) | Err(_)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = server.child.kill();
    let _ = server.child.wait();
}

fn peak_of_children() -> Result<u64, Error> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)
        .map_err(|errno| on_path("read the usage of", Path::new("children"))(errno.into()))?;
    Ok(u64::try_from(usage.max_rss()).unwrap_or(0))
}

/// The largest high-water mark among living processes of this process group:
/// servers and the children they have forked for a connection.
fn peak_of_group() -> u64 {
    let own = process::id();
    let group = group_of(own);
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    numbers
        .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()))
        .filter(|number| *number != own && group.is_some() && group_of(*number) == group)
        .filter_map(high_water_kib)
        .max()
        .unwrap_or(0)
}

fn group_of(process: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before the last parenthesis may hold anything.
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(2)?.parse().ok()
}

fn high_water_kib(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Busy seconds of all processors since boot.
///
/// # Errors
/// `/proc/stat` cannot be read or has another form.
pub(crate) fn busy_seconds() -> Result<f64, Error> {
    let path = Path::new("/proc/stat");
    let text = fs::read_to_string(path).map_err(on_path("read", path))?;
    let unclear = || Error::Answer { what: "the processors' times", origin: path.display().to_string() };
    let line = text.lines().next().and_then(|line| line.strip_prefix("cpu ")).ok_or_else(unclear)?;
    let ticks: Vec<f64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = ticks.as_slice() else {
        return Err(unclear());
    };
    let ticks_per_second =
        sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u32::try_from(ticks).ok());
    Ok((user + nice + system + irq + softirq) / f64::from(ticks_per_second.ok_or_else(unclear)?))
}

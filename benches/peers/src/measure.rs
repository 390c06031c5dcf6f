//! Running programs from the harness: small ones for their answer, and whole
//! plans in a process of their own that is killed, with all it started, when
//! its time is over or the user interrupts.

use crate::error::{Error, on_path};
use crate::interrupt::Interrupt;
use crate::plan::{Clock, Outcome, Plan, Verdict};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The first argument with which the harness starts itself for one run.
pub(crate) const RUN_ONCE: &str = "run-once";
/// How often a run in progress is looked at: rarely, not to disturb it.
const GLANCE: Duration = Duration::from_millis(20);

/// Runs a program to its end and returns its stdout.
///
/// # Errors
/// It cannot be started or fails.
pub(crate) fn answer_of(program: &str, arguments: &[&str]) -> Result<String, Error> {
    let output = output_of(program, arguments)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Failed {
        command: format!("{program} {}", arguments.join(" ")),
        status: output.status.to_string(),
        message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// Runs a program for its effect.
///
/// # Errors
/// As [`answer_of`].
pub(crate) fn quiet(program: &str, arguments: &[&str]) -> Result<(), Error> {
    answer_of(program, arguments).map(drop)
}

/// Runs a program to its end, whatever that is.
///
/// # Errors
/// It cannot be started.
pub(crate) fn output_of(program: &str, arguments: &[&str]) -> Result<Output, Error> {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Start { program: program.to_owned(), source })
}

/// Carries out `plan` once, in a process group of its own.
///
/// # Errors
/// A program of the plan fails, `timeout` is over, or the user interrupts. In
/// each case everything the plan started has been killed when this returns.
pub(crate) fn run(
    plan: &Plan,
    name: &str,
    timeout: Duration,
    interrupt: &Interrupt,
) -> Result<Outcome, Error> {
    let path = plan.logs.join("plan.json");
    let text = serde_json::to_vec(plan).map_err(|source| Error::Json { what: "a plan", source })?;
    fs::write(&path, text).map_err(on_path("write", &path))?;
    let mut child = start_runner(&path)?;
    let ended = await_runner(&child, name, timeout, interrupt);
    // Also after a good end: nothing of the group may reach into the next run.
    // The leader is not reaped yet, so the number still belongs to this group.
    kill_group(&child);
    let status = child.wait().map_err(on_path("wait for the run of", &path));
    ended?;
    if !status?.success() {
        return Err(Error::Answer {
            what: "the outcome of a run",
            origin: format!("{RUN_ONCE} (see above)"),
        });
    }
    let mut answer = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_end(&mut answer).map_err(on_path("read the verdict of", &path))?;
    }
    let verdict =
        serde_json::from_slice(&answer).map_err(|source| Error::Json { what: "a verdict", source })?;
    match verdict {
        Verdict::Finished(outcome) => by_clock(plan, outcome),
        Verdict::Failed { command, status, message } => Err(Error::Failed { command, status, message }),
    }
}

fn start_runner(plan: &Path) -> Result<Child, Error> {
    let own = std::env::current_exe().map_err(on_path("find", Path::new("/proc/self/exe")))?;
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(own)
        .arg(RUN_ONCE)
        .arg(plan)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| Error::Start { program: "setpriv".to_owned(), source })
}

/// Waits until the run's process has ended, without reaping it.
fn await_runner(child: &Child, name: &str, timeout: Duration, interrupt: &Interrupt) -> Result<(), Error> {
    let begin = Instant::now();
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    loop {
        interrupt.check()?;
        let status = waitid(Id::Pid(pid_of(child)), flags)
            .map_err(|errno| on_path("wait for", Path::new(RUN_ONCE))(errno.into()))?;
        if status != WaitStatus::StillAlive {
            return Ok(());
        }
        if begin.elapsed() > timeout {
            return Err(Error::Timeout { contestant: name.to_owned(), seconds: timeout.as_secs() });
        }
        std::thread::sleep(GLANCE);
    }
}

fn kill_group(child: &Child) {
    // Fails only when nothing is left, which is the aim.
    let _ = killpg(pid_of(child), Signal::SIGKILL);
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

/// The outcome by the clock of the plan: fio's start-up is not part of the time
/// that reading takes.
fn by_clock(plan: &Plan, outcome: Outcome) -> Result<Outcome, Error> {
    let Some(output) = plan.output().filter(|_| plan.clock == Clock::Fio) else {
        return Ok(outcome);
    };
    let text = fs::read(output).map_err(on_path("read fio's answer in", output))?;
    let answer: serde_json::Value =
        serde_json::from_slice(&text).map_err(|source| Error::Json { what: "fio", source })?;
    let jobs = answer["jobs"].as_array().into_iter().flatten();
    let longest_ms = jobs.filter_map(|job| job["read"]["runtime"].as_f64()).fold(0.0, f64::max);
    if longest_ms == 0.0 {
        return Err(Error::Answer { what: "jobs[].read.runtime", origin: "fio".to_owned() });
    }
    Ok(Outcome { seconds: longest_ms / 1000.0, ..outcome })
}

//! A process that freezes and then does nothing: an agent that can be killed.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use failback_datapath::disk::storage::DeviceNumber;
use failback_datapath::quiesce::{FreezePlan, Limit, Watchdog};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::rig::watchdog_command;
use crate::fixture::{LONG, Running, binary};

const STATE: &str = "FAILBACK_TEST_AGENT_STATE";
const DISK: &str = "FAILBACK_TEST_AGENT_DISK";
const LIMIT: &str = "FAILBACK_TEST_AGENT_LIMIT_MS";

/// An agent within a freeze.
pub struct Agent {
    pub process: Running,
    pub watchdog: Pid,
}

impl Agent {
    /// Starts one, and waits until it has frozen what rests on `disk`.
    pub fn start(state: &Path, disk: DeviceNumber, limit: Duration) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["quiesce::agent::stand_in", "--exact", "--nocapture"]);
        command.env(STATE, state).env(DISK, disk.to_string()).env(LIMIT, limit.as_millis().to_string());
        command.env("FAILBACK_BINARY", binary());
        let process = Running::start(&mut command);
        let number = |line: &str| line.rsplit_once("frozen, watched by ")?.1.trim().parse().ok();
        let watchdog = Pid::from_raw(process.wait_for(LONG, number));
        Self { process, watchdog }
    }

    pub fn signal_watchdog(&self, signal: Signal) {
        kill(self.watchdog, signal).unwrap();
    }
}

/// The agent itself. As a test of its own it does nothing.
#[test]
fn stand_in() {
    let Ok(disk) = std::env::var(DISK) else { return };
    let disk = DeviceNumber::parse(&disk).unwrap();
    let limit = Duration::from_millis(std::env::var(LIMIT).unwrap().parse().unwrap());
    let state = std::env::var_os(STATE).unwrap();
    let mut watchdog = Watchdog::start_as(watchdog_command(), Path::new(&state)).unwrap();
    let identifier = watchdog.identifier();
    let _frozen = FreezePlan::of(&[disk]).unwrap().freeze(Limit::Budget(limit), &mut watchdog).unwrap();
    println!("frozen, watched by {identifier}");
    loop {
        std::thread::park();
    }
}

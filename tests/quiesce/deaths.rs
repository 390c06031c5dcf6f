//! Agents and watchdogs that are stopped or killed within a freeze.

use std::path::PathBuf;
use std::time::Duration;

use failback_datapath::quiesce::{Error, Limit, Watchdog, recover};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::agent::Agent;
use super::rig::{Filesystem, Writer, able, plan, watchdog, watchdog_command};
use crate::fixture::{LONG, Scratch};

/// Filesystems within each other, writers on both, and an agent that froze them.
struct Scene {
    agent: Agent,
    writers: [Writer; 2],
    inner: Filesystem,
    outer: Filesystem,
    state: PathBuf,
    _scratch: Scratch,
}

impl Scene {
    fn new(limit: Duration) -> Self {
        let scratch = Scratch::new();
        let state = scratch.folder("state");
        let outer = Filesystem::new(&scratch, "outer", "xfs");
        let inner = Filesystem::within(&scratch, &outer, "inner", "ext4");
        let writers = [&outer, &inner].map(|filesystem| Writer::start(&filesystem.point));
        let agent = Agent::start(&state, outer.number(), limit);
        Self { agent, writers, inner, outer, state, _scratch: scratch }
    }

    fn goes_on(&self) {
        self.writers.iter().for_each(Writer::goes_on);
    }

    fn is_frozen(&self) -> bool {
        self.outer.is_frozen() && self.inner.is_frozen()
    }

    /// What a restarted agent finds and does.
    fn recovers(&self, has_watchdog: bool) {
        assert!(self.is_frozen());
        let refused = Watchdog::start_as(watchdog_command(), &self.state);
        assert!(matches!(refused, Err(Error::RecordExists { .. })), "{refused:?}");
        let recovered = recover(&self.state).unwrap().unwrap();
        assert_eq!((recovered.thawed.len(), recovered.had_watchdog), (2, has_watchdog), "{recovered:?}");
        assert!(recovered.missing.is_empty() && recovered.thawed[0].contains("outer"), "{recovered:?}");
        self.goes_on();
        assert_eq!(recover(&self.state).unwrap(), None);
        let mut watchdog = Watchdog::start_as(watchdog_command(), &self.state).unwrap();
        let frozen = plan(&[&self.outer]).freeze(Limit::Budget(LONG), &mut watchdog).unwrap();
        assert!(frozen.thaw().unwrap().still_valid);
    }
}

#[test]
fn an_agent_that_is_killed_leaves_nothing_frozen() {
    let Some(()) = able() else { return };
    let scene = Scene::new(LONG * 10);
    scene.writers.iter().for_each(Writer::waits);
    scene.agent.process.signal(Signal::SIGKILL);
    scene.goes_on();
    let mut watchdog = Watchdog::start_as(watchdog_command(), &scene.state).unwrap();
    let frozen = plan(&[&scene.outer]).freeze(Limit::Budget(LONG), &mut watchdog).unwrap();
    assert!(frozen.thaw().unwrap().still_valid, "what it left of its record is in nobody's way");
}

#[test]
fn an_agent_that_is_stopped_holds_a_freeze_to_its_deadline_only() {
    let Some(()) = able() else { return };
    let scene = Scene::new(Duration::from_secs(3));
    scene.agent.process.signal(Signal::SIGSTOP);
    scene.goes_on();
    assert!(!scene.outer.is_frozen() && !scene.inner.is_frozen());
}

#[test]
fn signals_do_not_keep_the_watchdog_from_thawing() {
    let Some(()) = able() else { return };
    let scene = Scene::new(LONG * 10);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGTSTP, Signal::SIGUSR1] {
        scene.agent.signal_watchdog(signal);
    }
    assert!(scene.is_frozen());
    scene.agent.process.signal(Signal::SIGKILL);
    scene.goes_on();
}

#[test]
fn a_freeze_whose_agent_and_watchdog_were_killed_is_undone_by_its_record() {
    let Some(()) = able() else { return };
    let scene = Scene::new(LONG * 10);
    scene.agent.process.signal(Signal::SIGSTOP);
    scene.agent.signal_watchdog(Signal::SIGKILL);
    scene.agent.process.signal(Signal::SIGKILL);
    // The agent is its parent, and dead: init takes it, when it gets to it.
    while kill(scene.agent.watchdog, None).is_ok() && is_running(scene.agent.watchdog) {
        std::thread::sleep(Duration::from_millis(1));
    }
    scene.recovers(false);
}

#[test]
fn a_watchdog_that_is_stopped_is_ended_by_the_next_agent() {
    let Some(()) = able() else { return };
    let scene = Scene::new(LONG * 10);
    scene.agent.signal_watchdog(Signal::SIGSTOP);
    scene.agent.process.signal(Signal::SIGKILL);
    scene.recovers(true);
    assert!(!is_running(scene.agent.watchdog));
}

#[test]
fn an_agent_that_loses_its_watchdog_thaws_by_itself() {
    let Some(()) = able() else { return };
    for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
        let scratch = Scratch::new();
        let filesystem = Filesystem::new(&scratch, "a", "ext4");
        let mut watchdog = watchdog(&scratch);
        let identifier = Pid::from_raw(i32::try_from(watchdog.identifier()).unwrap());
        let frozen = plan(&[&filesystem]).freeze(Limit::Budget(LONG), &mut watchdog).unwrap();
        kill(identifier, signal).unwrap();
        assert!(filesystem.is_frozen());
        let lost = frozen.thaw();
        assert!(matches!(lost, Err(Error::WatchdogLost { .. })), "{lost:?}");
        assert!(!filesystem.is_frozen());
        assert_eq!(recover(&scratch.path("state")).unwrap(), None, "nothing is left to undo");
    }
}

/// Whether it is there, and not merely waited for by nobody.
fn is_running(process: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z ") && !stat.contains(") X "))
}

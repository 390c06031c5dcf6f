//! The two processes of a rig, and what is judged when they have ended.

use std::fs::{self, File};

use nix::sys::signal::Signal;

use super::oracle::{History, Verdict, judge};
use super::rig::{Listed, Rig};
use crate::fixture::{LONG, Running, assert_same_bytes};

/// Agent and master target. A watchdog leads a session of its own, and is not
/// killed with its agent's group.
pub struct Ends {
    // In this order they end.
    agent: Option<Running>,
    target: Option<Running>,
}

impl Ends {
    /// Both running.
    pub fn start(rig: &Rig) -> Self {
        let target = Some(rig.start_target());
        Self { agent: Some(rig.start_agent()), target }
    }

    /// Those that run already.
    pub fn of(agent: Running, target: Running) -> Self {
        Self { agent: Some(agent), target: Some(target) }
    }

    pub fn agent(&self) -> &Running {
        self.agent.as_ref().expect("it runs")
    }

    /// Kills the agent as a crash would, and starts the next one.
    pub fn kill_agent(&mut self, rig: &Rig) {
        self.agent.take().expect("it runs").kill();
        self.agent = Some(rig.launch_agent());
    }

    /// The same, with something in between.
    pub fn kill_agent_and(&mut self, rig: &Rig, meanwhile: impl FnOnce()) {
        self.agent.take().expect("it runs").kill();
        meanwhile();
        self.agent = Some(rig.launch_agent());
    }

    /// The same for the master target.
    pub fn kill_target(&mut self, rig: &Rig) {
        self.next_target(|| rig.start_target());
    }

    /// The same, started in another way.
    pub fn next_target(&mut self, start: impl FnOnce() -> Running) {
        self.target.take().expect("it runs").kill();
        self.target = Some(start());
    }

    /// Ends the master target in order.
    pub fn stop_target(&mut self) {
        let target = self.target.take().expect("it runs");
        target.signal(Signal::SIGTERM);
        target.finish(LONG);
    }

    /// Starts it again.
    pub fn start_target(&mut self, rig: &Rig) {
        self.target = Some(rig.start_target());
    }

    /// Ends both in order.
    pub fn stop(self) {
        for process in [self.agent, self.target].into_iter().flatten() {
            process.signal(Signal::SIGTERM);
            process.finish(LONG);
        }
    }

    /// The planned end: everything is on the targets. Then both end in order.
    pub fn finish(self, rig: &Rig) {
        let finished = rig.agent(&["finish"]).expect_success();
        println!("{}", finished.stdout);
        self.stop();
        for disk in &rig.disks {
            assert_same_bytes(disk.source.path(), &disk.target, disk.bytes);
        }
    }
}

/// Judges the copy of a point of a device.
pub fn judge_disk(rig: &Rig, disk: &str, point: &Listed, history: &History) -> Verdict {
    let copy = rig.copy(disk, point.epoch);
    let verdict = judge(history, File::open(&copy).expect("it was made"), point.window);
    fs::remove_file(&copy).expect("it is ours");
    println!("{disk} at {} ({} {}): {verdict}", point.epoch, point.kind, point.name);
    verdict.expect_exact(&format!("point {} of {disk}", point.epoch));
    verdict
}

/// How many of many points are judged.
const JUDGED: usize = 40;

/// Judges the points of a device; of very many some, from the first to the last.
/// Gives how many there are.
pub fn judge_all(rig: &Rig, disk: &str, history: &History) -> usize {
    let points = rig.points(disk);
    let rest = points.len().saturating_sub(1);
    for point in points.iter().take(rest).step_by(1 + rest / JUDGED).chain(points.last()) {
        judge_disk(rig, disk, point, history);
    }
    println!("{disk}: {} points of {} writes are exact", points.len(), history.len());
    points.len()
}

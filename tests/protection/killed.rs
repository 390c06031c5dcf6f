//! Kill -9 at random moments: the agent, the master target, both. Then every
//! point and the final image are exact.
//!
//! `FAILBACK_KILLS` is how many kills each of these tests makes.

use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::ends::{Ends, judge_all};
use super::exact::{judge_file, make_file};
use super::number_of;
use super::oracle::{Clock, Load, Way, Writer};
use super::rig::{Filesystem, Rig, Setup, able};
use crate::fixture::Random;

const MIB: u64 = 1 << 20;
/// How many points of a filesystem are judged, each in a copy that is mounted.
const JUDGED: usize = 10;
const KILLS: u64 = 50;
/// How long a process lives at most. An agent that has lost its target looks for
/// it again after half a second.
const AGENT_LIFE_MS: u64 = 1200;
const TARGET_LIFE_MS: u64 = 1300;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victims {
    Agent,
    Target,
    Both,
}

fn kills() -> u64 {
    number_of("FAILBACK_KILLS", KILLS)
}

fn setup() -> Setup {
    Setup { cycle: "100ms", points_every: "200ms", ..Setup::default() }
}

/// Both ends, killed again and again, and what they did meanwhile.
struct Killed {
    ends: Ends,
    /// What agents had said of the bytes that they read anew and sent.
    read_anew: u64,
    sent: u64,
}

impl Killed {
    fn start(rig: &Rig) -> Self {
        let ends = Ends::start(rig);
        rig.wait_for_points();
        Self { ends, read_anew: 0, sent: 0 }
    }

    /// Adds up what the agent has done that is about to end, where it answers already.
    fn count(&mut self, rig: &Rig) {
        let status = rig.agent(&["status"]);
        if status.code() == Some(0) {
            let status = status.summary();
            self.read_anew += status["reread_bytes"].as_u64().unwrap_or(0);
            self.sent += status["sent_bytes"].as_u64().unwrap_or(0);
        }
    }

    /// Kills again and again; `check` looks at what must hold after each kill.
    fn kill(&mut self, victims: Victims, rig: &Rig, random: &mut Random, mut check: impl FnMut(&Ends)) {
        for _ in 0..kills() {
            let life_ms = if victims == Victims::Agent { AGENT_LIFE_MS } else { TARGET_LIFE_MS };
            sleep(Duration::from_millis(random.below(life_ms)));
            if victims != Victims::Agent {
                self.ends.kill_target(rig);
            }
            if victims != Victims::Target {
                self.count(rig);
                self.ends.kill_agent(rig);
            }
            check(&self.ends);
        }
    }

    fn finish(mut self, rig: &Rig) {
        rig.wait_for_state("protecting");
        rig.cut("after all", &[]);
        self.count(rig);
        println!("{} kills: {} bytes read anew, {} sent", kills(), self.read_anew, self.sent);
        self.ends.finish(rig);
    }
}

fn a_raw_disk_survives_kills_of(victims: Victims) {
    let Some(()) = able(&[]) else { return };
    let (mut random, clock) = (Random::new(), Clock::start());
    let rig = Rig::new(&[("data", 10 * MIB + 512)], setup());
    let load = Load {
        way: Way::Direct,
        threads: 2,
        burst: 16,
        pause: Duration::from_millis(300),
        zero_percent: 10,
        unit_sectors: 1,
    };
    let disk = &rig.disks[0];
    let writer = Writer::start(disk.source.path(), disk.bytes, load, clock, &mut random);
    let mut ends = Killed::start(&rig);
    ends.kill(victims, &rig, &mut random, |_| {});
    let history = writer.stop();
    ends.finish(&rig);
    judge_all(&rig, &rig.disks[0].name, &history);
}

#[test]
fn a_killed_agent_goes_on() {
    a_raw_disk_survives_kills_of(Victims::Agent);
}

#[test]
fn a_killed_master_target_goes_on() {
    a_raw_disk_survives_kills_of(Victims::Target);
}

#[test]
fn both_killed_go_on() {
    a_raw_disk_survives_kills_of(Victims::Both);
}

/// Kills and stops that hit freezes: somebody thaws, every time.
#[test]
fn an_agent_killed_or_stopped_within_a_freeze_leaves_nothing_frozen() {
    let Some(()) = able(&["mkfs.ext4", "fsfreeze"]) else { return };
    let (mut random, clock) = (Random::new(), Clock::start());
    let often = Setup { points_every: "100ms", ..setup() };
    let rig = Rig::new(&[("data", 32 * MIB)], often);
    let filesystem = Filesystem::make("ext4", rig.disks[0].source.path(), rig.scratch.folder("mounted"));
    let bytes = 8 * MIB;
    let path = filesystem.point.join("written");
    make_file(&path, bytes);
    let pause = Duration::from_millis(3);
    let load = Load { way: Way::Direct, threads: 2, burst: 16, pause, zero_percent: 0, unit_sectors: 8 };
    let mut ends = Killed::start(&rig);
    let writer = Writer::start(&path, bytes, load, clock, &mut random);
    let goes_on = || writer.wait_for(20);
    let mut stops = Random::with_seed(random.number());
    ends.kill(Victims::Agent, &rig, &mut random, |ends| {
        goes_on();
        sleep(Duration::from_millis(stops.below(AGENT_LIFE_MS / 4)));
        ends.agent().signal(Signal::SIGSTOP);
        goes_on();
        ends.agent().signal(Signal::SIGCONT);
    });
    let history = writer.stop();
    filesystem.unmount();
    ends.finish(&rig);
    let points = rig.points("data");
    println!("{} writes, {} points", history.len(), points.len());
    for point in points.iter().step_by(1 + points.len() / JUDGED) {
        judge_file(&rig, point, &history, "ext4");
    }
}

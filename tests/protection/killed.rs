//! Kill -9 at random moments: the agent, the master target, both; under protection,
//! while a disk is synchronized, and whoever rewinds. Then every point and the final
//! image are exact.
//!
//! `FAILBACK_KILLS` is how many kills each of these tests makes.

use std::fs::{self, File};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::ends::{Ends, judge_all, judge_disk};
use super::exact::{judge_file, make_file};
use super::number_of;
use super::oracle::{Clock, Load, Way, Writer, judge};
use super::rig::{Filesystem, Rig, Setup, able};
use crate::fixture::{LONG, Random, eventually};

const MIB: u64 = 1 << 20;
/// How many points of a filesystem are judged, each in a copy that is mounted.
const JUDGED: usize = 10;
const KILLS: u64 = 50;
/// What takes longer: each kill has a synchronization begin again.
const KILLS_OF_SLOW: u64 = 12;
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

impl Victims {
    fn any(random: &mut Random) -> Self {
        [Self::Agent, Self::Target, Self::Both][random.index_below(3)]
    }
}

fn kills() -> u64 {
    number_of("FAILBACK_KILLS", KILLS)
}

fn slow_kills() -> u64 {
    number_of("FAILBACK_KILLS", KILLS_OF_SLOW)
}

fn setup() -> Setup {
    Setup { cycle: "100ms", points_every: "200ms", ..Setup::default() }
}

/// Both ends, killed again and again, and what they did meanwhile.
struct Killed {
    ends: Ends,
    /// What agents had said of the bytes that they read anew and sent.
    read_anew: u64,
    sent_again: u64,
    sent: u64,
    kills: u64,
}

impl Killed {
    /// Both running, with a first point.
    fn start(rig: &Rig) -> Self {
        let ends = Ends::start(rig);
        rig.wait_for_points();
        Self::of(ends)
    }

    fn of(ends: Ends) -> Self {
        Self { ends, read_anew: 0, sent_again: 0, sent: 0, kills: 0 }
    }

    /// Adds up what the agent has done that is about to end, where it answers already.
    fn count(&mut self, rig: &Rig) {
        let status = rig.agent(&["status"]);
        if status.code() == Some(0) {
            let status = status.summary();
            self.read_anew += status["reread_bytes"].as_u64().unwrap_or(0);
            self.sent_again += status["wanted_bytes"].as_u64().unwrap_or(0);
            self.sent += status["sent_bytes"].as_u64().unwrap_or(0);
        }
    }

    /// Kills after a while.
    fn kill_once(&mut self, victims: Victims, rig: &Rig, random: &mut Random) {
        let life_ms = if victims == Victims::Agent { AGENT_LIFE_MS } else { TARGET_LIFE_MS };
        sleep(Duration::from_millis(random.below(life_ms)));
        if victims != Victims::Agent {
            self.ends.kill_target(rig);
        }
        if victims != Victims::Target {
            self.count(rig);
            self.ends.kill_agent(rig);
        }
        self.kills += 1;
    }

    /// Kills again and again; `check` looks at what must hold after each kill.
    fn kill(&mut self, victims: Victims, rig: &Rig, random: &mut Random, mut check: impl FnMut(&Ends)) {
        for _ in 0..kills() {
            self.kill_once(victims, rig, random);
            check(&self.ends);
        }
    }

    /// Everything is on the target. What is read anew is offered, and sent again as far
    /// as it is not there, as is what changed meanwhile; all that is sent is counted as
    /// packed.
    fn finish(mut self, rig: &Rig) {
        rig.wait_for_state("protecting");
        rig.cut("after all", &[]);
        self.count(rig);
        let Self { read_anew, sent_again, sent, kills, .. } = self;
        println!(
            "{kills} kills: {read_anew} bytes read anew, {sent_again} of them sent again, {sent} sent in all"
        );
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

/// So fast a disk is read that is synchronized slowly.
const SLOWLY: &str = "read-rate = \"6MiB\"\n";
/// Far more than is read before the rate counts, and in the longest life.
const SLOW_DISK_BYTES: u64 = 28 * MIB;

/// Less is written than can be read meanwhile.
const SLOW_LOAD: Load = Load {
    way: Way::Direct,
    threads: 1,
    burst: 8,
    pause: Duration::from_millis(600),
    zero_percent: 5,
    unit_sectors: 1,
};

/// A disk that takes longer to be read than a process lives.
fn slowly() -> Rig {
    Rig::new(&[("data", SLOW_DISK_BYTES)], Setup { limits: SLOWLY, ..setup() })
}

/// Nothing of it is a point before all of it is there.
#[test]
fn a_first_synchronization_survives_kills() {
    let Some(()) = able(&[]) else { return };
    let (mut random, clock) = (Random::new(), Clock::start());
    let rig = slowly();
    let disk = &rig.disks[0];
    let writer = Writer::start(disk.source.path(), disk.bytes, SLOW_LOAD, clock, &mut random);
    let mut ends = Killed::of(Ends::start(&rig));
    for _ in 0..slow_kills() {
        ends.kill_once(Victims::any(&mut random), &rig, &mut random);
    }
    println!("{} points before it was left alone", rig.points("data").len());
    rig.wait_for_points();
    let history = writer.stop();
    ends.finish(&rig);
    judge_all(&rig, "data", &history);
}

/// One that an operator orders, again and again; it is not forgotten by who comes next.
#[test]
fn a_resynchronization_survives_kills() {
    let Some(()) = able(&[]) else { return };
    let (mut random, clock) = (Random::new(), Clock::start());
    let rig = slowly();
    let disk = &rig.disks[0];
    let writer = Writer::start(disk.source.path(), disk.bytes, SLOW_LOAD, clock, &mut random);
    let mut ends = Killed::start(&rig);
    for _ in 0..slow_kills() {
        eventually("it is ordered", || rig.agent(&["resync", "data"]).code() == Some(0));
        ends.kill_once(Victims::any(&mut random), &rig, &mut random);
    }
    let known = rig.points("data").len();
    eventually("a point of all of it", || rig.points("data").len() > known);
    let history = writer.stop();
    ends.finish(&rig);
    judge_all(&rig, "data", &history);
}

/// How often a rewind is killed at most before one comes to its end.
const KILLS_OF_A_REWIND: u64 = 4;
/// Kills that miss: the rewind was over, or had not begun.
const KILLS_OUTSIDE_MAX: u64 = 500;

/// Starts a rewind and kills it after a part of the time that it takes; whether it
/// was at work then.
fn kill_a_rewind(rig: &Rig, to: u64, takes: Duration, random: &mut Random) -> bool {
    let rewind = rig.launch_rewind("data", to);
    sleep(takes * u32::try_from(random.below(100)).expect("a small number") / 100);
    rewind.signal(Signal::SIGKILL);
    rewind.finish(LONG);
    let pair = fs::read(rig.retention().join("web/data/pair")).expect("it is there");
    String::from_utf8_lossy(&pair).contains("\"rewinding\"")
}

/// Whoever rewinds is killed, and the next one goes on, to the same point or to
/// another: the target holds the point of the one that came to its end.
#[test]
fn a_rewind_survives_kills() {
    let Some(()) = able(&[]) else { return };
    let (mut random, clock) = (Random::new(), Clock::start());
    let rig = Rig::new(&[("data", 24 * MIB)], Setup::default());
    let disk = &rig.disks[0];
    let load = Load { threads: 2, burst: 64, pause: Duration::from_millis(300), ..SLOW_LOAD };
    let writer = Writer::start(disk.source.path(), disk.bytes, load, clock, &mut random);
    let ends = Ends::start(&rig);
    rig.wait_for_points();
    for name in ["one", "two", "three", "four"] {
        writer.wait_for(300);
        rig.cut(name, &[]);
    }
    let history = writer.stop();
    ends.finish(&rig);
    let points = rig.points("data");
    let begun = Instant::now();
    rig.rewind("data", points[0].epoch);
    let takes = begun.elapsed();
    let (mut within, mut outside) = (0, 0);
    while within < slow_kills() && outside < KILLS_OUTSIDE_MAX {
        for _ in 0..=random.below(KILLS_OF_A_REWIND) {
            let epoch = points[random.index_below(points.len())].epoch;
            let is_within = kill_a_rewind(&rig, epoch, takes, &mut random);
            within += u64::from(is_within);
            outside += u64::from(!is_within);
        }
        let point = &points[random.index_below(points.len())];
        rig.rewind("data", point.epoch);
        let target = File::open(&disk.target).expect("it is there");
        judge(&history, target, point.window).expect_exact(&format!("rewound to {}", point.epoch));
    }
    println!("{within} rewinds were killed at work, {outside} before or after, of {takes:?}");
    assert!(within > 0, "none was killed at work");
    // Each rewind is an epoch of its own, of what it overwrote.
    for point in &points {
        judge_disk(&rig, "data", point, &history);
    }
}

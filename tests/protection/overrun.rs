//! A freeze that lasts longer than it may: it ends, it is said, and there is no
//! point of it. With a budget that suffices there is one again.

use std::time::Duration;

use super::ends::Ends;
use super::exact::{judge_file, make_file};
use super::oracle::{Clock, Load, Way, Writer};
use super::rig::{Filesystem, Rig, Setup, able, event};
use crate::fixture::{LONG, Outcome, Random};
use crate::track::lost::Lost;

const MIB: u64 = 1 << 20;
const SUFFICES: &str = "5s";
/// No filesystem is frozen, read and looked at again within that.
const TOO_SMALL: &str = "1ms";
/// What is said then.
const WHY: &str = "was not frozen within the budget, so everything was thawed";
const CUTS: usize = 3;
/// Some end while it is frozen, some while it is read, and some suffice.
const BUDGETS: [&str; 6] = ["5ms", "10ms", "20ms", "40ms", "80ms", "160ms"];
/// A writer of a file, who waits while its filesystem is frozen.
const LOAD: Load = Load {
    way: Way::Direct,
    threads: 2,
    burst: 24,
    pause: Duration::from_millis(5),
    zero_percent: 0,
    unit_sectors: 8,
};

/// A mounted filesystem of which a file is written, with its first point.
struct Written {
    // In this order they go.
    ends: Ends,
    writer: Writer,
    filesystem: Filesystem,
    rig: Rig,
}

impl Written {
    fn start() -> Self {
        let (mut random, clock) = (Random::new(), Clock::start());
        let setup = Setup { freeze_budget: SUFFICES, ..Setup::default() };
        let rig = Rig::new(&[("data", 48 * MIB)], setup);
        let filesystem = Filesystem::make("ext4", rig.disks[0].source.path(), rig.scratch.folder("mounted"));
        let (path, bytes) = (filesystem.point.join("written"), 12 * MIB);
        make_file(&path, bytes);
        let ends = Ends::start(&rig);
        let writer = Writer::start(&path, bytes, LOAD, clock, &mut random);
        rig.wait_for_points();
        Self { ends, writer, filesystem, rig }
    }

    /// Ends the agent, and starts one with another freeze budget.
    fn restart(&mut self, budget: &'static str) {
        self.rig.setup.freeze_budget = budget;
        self.rig.write_agent_settings();
        self.ends.kill_agent(&self.rig);
        self.rig.wait_for_state("protecting");
    }

    /// Asks for a cut; the filesystem is thawed afterwards, whatever came of it.
    fn cut_once(&self, name: &str) -> Outcome {
        let cut = self.rig.agent(&["cut", "--name", name]);
        self.writer.wait_for(20);
        assert_eq!(self.rig.agent(&["status"]).expect_success().summary()["frozen"], false);
        cut
    }

    /// With a budget that suffices there are points again, and all are exact.
    fn goes_on(mut self) {
        self.restart(SUFFICES);
        self.rig.cut("in time", &[]);
        self.writer.wait_for(20);
        let Self { ends, writer, filesystem, rig } = self;
        let history = writer.stop();
        filesystem.unmount();
        ends.finish(&rig);
        for point in rig.points("data") {
            judge_file(&rig, &point, &history, "ext4");
        }
    }
}

#[test]
fn a_freeze_beyond_its_budget_ends_and_makes_no_point() {
    let Some(()) = able(&["mkfs.ext4", "fsfreeze"]) else { return };
    let mut written = Written::start();
    written.restart(TOO_SMALL);
    let known = written.rig.points("data").len();
    let mut told = 0;
    while told < CUTS {
        let refused = written.cut_once("too late").expect_code(1);
        // A lost completion is another reason, now and then.
        let is_lost = Lost::told(&refused.stderr).is_some();
        assert!(is_lost || refused.stderr.contains(WHY), "{refused}");
        told += usize::from(!is_lost);
        let status = written.rig.agent(&["status"]).expect_success().summary();
        assert_eq!(
            (&status["cuts_made"], &status["last_cut"]["made"]),
            (&0.into(), &false.into()),
            "{status}"
        );
        assert!(status["cuts_skipped"].as_u64().is_some_and(|skipped| skipped >= told as u64), "{status}");
    }
    let is_told = |line: &str| {
        let event = event(line).filter(|event| event["event"] == "skipped")?;
        event["reason"].as_str().filter(|reason| reason.contains(WHY)).map(str::to_owned)
    };
    println!("{}", written.ends.agent().wait_for(LONG, is_told));
    assert_eq!(written.rig.points("data").len(), known, "a point of a freeze that was given up");
    written.rig.wait_for_state("protecting");
    written.goes_on();
}

/// Wherever in a cut its time is over: there is a point that is exact, or none.
#[test]
fn a_budget_that_ends_anywhere_leaves_an_exact_point_or_none() {
    let Some(()) = able(&["mkfs.ext4", "fsfreeze"]) else { return };
    let mut written = Written::start();
    for budget in BUDGETS {
        written.restart(budget);
        for number in 0..CUTS {
            let name = format!("{budget}-{number}");
            let cut = written.cut_once(&name);
            let points = written.rig.points("data");
            let is_made = points.iter().any(|point| point.name == name);
            println!("{name}: {is_made} {}", cut.stderr);
            // Of a disk that is in doubt a point may come of what was sent already.
            let is_lost = Lost::told(&cut.stderr).is_some();
            assert!(is_lost || is_made == (cut.code() == Some(0)), "{points:?}: {cut}");
        }
    }
    written.goes_on();
}

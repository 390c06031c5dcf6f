//! An operator fences a pair under a running agent, and lets it go on.

use std::thread::sleep;
use std::time::Duration;

use super::ends::Ends;
use super::rig::{Rig, Setup, able};
use super::volume::fill;
use crate::fixture::{LONG, Random};

const DISK_BYTES: u64 = 16 << 20;

#[test]
fn a_fence_that_is_lifted_lets_the_agent_go_on_by_itself() {
    let Some(()) = able(&[]) else { return };
    let mut random = Random::new();
    let rig = Rig::new(&[("data", DISK_BYTES)], Setup::default());
    let source = rig.disks[0].source.path();
    fill(source, 0, 8 << 20, &mut random);
    let mut ends = Ends::start(&rig);
    rig.wait_for_points();
    for is_restarted in [false, true] {
        rig.master_target(&["fence", &rig.pair("data")]).expect_success();
        rig.wait_for_state("fenced");
        ends.agent().wait_for(LONG, |line| {
            (line.contains("alarm") && line.contains("master-target unfence")).then_some(())
        });
        fill(source, 1 << 20, 4096, &mut random);
        if is_restarted {
            // Its state is kept before it dies.
            sleep(Duration::from_millis(500));
            ends.kill_agent(&rig);
            rig.wait_for_state("fenced");
        }
        let before = rig.points("data").len();
        rig.agent(&["cut"]).expect_code(1);
        rig.master_target(&["unfence", &rig.pair("data")]).expect_success();
        rig.wait_for_state("protecting");
        rig.cut("after", &[]);
        assert!(rig.points("data").len() > before);
    }
    ends.finish(&rig);
}

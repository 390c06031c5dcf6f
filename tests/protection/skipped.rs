//! Cuts that cannot be made: they are skipped, said, and not tried all the time.

use std::thread::sleep;
use std::time::{Duration, Instant};

use failback_datapath::limits::FIRST_POINT_AGAIN_AFTER;

use super::ends::Ends;
use super::rig::{Filesystem, Rig, Setup, able};
use crate::fixture::{eventually, program, run};

/// Cuts that the agent has skipped.
fn skipped(rig: &Rig) -> u64 {
    let status = rig.agent(&["status"]).summary();
    status["cuts_skipped"].as_u64().unwrap_or_else(|| panic!("no count in {status}"))
}

/// Somebody else has frozen the filesystem: that is left as it is.
#[test]
fn a_first_point_that_cannot_be_made_is_not_tried_all_the_time() {
    let Some(()) = able(&["mkfs.ext4", "fsfreeze"]) else { return };
    let rig = Rig::new(&[("data", 16 << 20)], Setup::default());
    let filesystem = Filesystem::make("ext4", rig.disks[0].source.path(), rig.scratch.folder("mounted"));
    run(program("fsfreeze").arg("--freeze").arg(&filesystem.point));
    let begun = Instant::now();
    let ends = Ends::start(&rig);
    eventually("a cut is skipped", || skipped(&rig) > 0);
    // What is tried at each look would be tried ten times by then.
    sleep(Duration::from_secs(2));
    let count = skipped(&rig);
    let most = 1 + begun.elapsed().as_secs() / FIRST_POINT_AGAIN_AFTER.as_secs();
    assert!(count <= most, "{count} cuts were tried in {:?}", begun.elapsed());
    assert!(rig.points("data").is_empty());
    let refused = rig.agent(&["cut"]);
    assert!(refused.code() != Some(0) && refused.stderr.contains("frozen"), "{refused}");
    run(program("fsfreeze").arg("--unfreeze").arg(&filesystem.point));
    rig.cut("after", &[]);
    filesystem.unmount();
    ends.finish(&rig);
}

/// Points by policy come again by themselves.
#[test]
fn points_by_policy_go_on_after_cuts_that_were_skipped() {
    let Some(()) = able(&["mkfs.ext4", "fsfreeze"]) else { return };
    let often = Setup { points_every: "200ms", cycle: "100ms", ..Setup::default() };
    let rig = Rig::new(&[("data", 16 << 20)], often);
    let filesystem = Filesystem::make("ext4", rig.disks[0].source.path(), rig.scratch.folder("mounted"));
    let ends = Ends::start(&rig);
    rig.wait_for_points();
    // A cut may hold it just now.
    let freeze = || program("fsfreeze").arg("--freeze").arg(&filesystem.point).output();
    eventually("it is frozen", || freeze().is_ok_and(|output| output.status.success()));
    let (frozen_at, known) = (skipped(&rig), rig.points("data").len());
    eventually("cuts are skipped", || skipped(&rig) >= frozen_at + 3);
    // One may have been on its way.
    let made = rig.points("data").len();
    assert!(made <= known + 1, "{made} points after {known}, of a frozen filesystem");
    // Between two of them the disk is protected as before.
    rig.wait_for_state("protecting");
    run(program("fsfreeze").arg("--unfreeze").arg(&filesystem.point));
    eventually("points are made again", || rig.points("data").len() >= made + 2);
    filesystem.unmount();
    ends.finish(&rig);
}

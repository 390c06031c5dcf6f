//! Targets that others write to while they are left alone: no point is shown that
//! is not what was cut.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::ends::Ends;
use super::rig::{Rig, Setup, able, failback, path_text};
use crate::fixture::{Outcome, Random, assert_same_bytes};

const MIB: u64 = 1 << 20;
const DISK_BYTES: u64 = 8 * MIB;

/// Writes to a disk, and waits until it holds that.
fn write(device: &Path, at: u64, bytes: usize, random: &mut Random) {
    let mut content = vec![0; bytes];
    random.fill(&mut content);
    let file = OpenOptions::new().write(true).open(device).expect("it is there");
    file.write_all_at(&content, at).and_then(|()| file.sync_all()).expect("it can be written");
}

/// A machine whose disk has the points `before`, `after` and the final one.
fn finished(random: &mut Random) -> Rig {
    let rig = Rig::new(&[("data", DISK_BYTES)], Setup::default());
    let ends = Ends::start(&rig);
    rig.wait_for_points();
    let source = rig.disks[0].source.path().to_owned();
    write(&source, MIB, 64 << 10, random);
    rig.cut("before", &[]);
    write(&source, MIB, 128 << 10, random);
    rig.cut("after", &[]);
    ends.finish(&rig);
    rig
}

impl Rig {
    /// `failback points ARGUMENTS`, of the first disk.
    fn points_command(&self, arguments: &[&str]) -> Outcome {
        let settings = self.scratch.path("target.toml");
        failback(&[&["points"], arguments, &["--config", path_text(&settings)]].concat())
    }
}

#[test]
fn a_target_that_was_written_is_taken_to_no_point() {
    let Some(()) = able(&[]) else { return };
    let mut random = Random::new();
    let rig = finished(&mut random);
    let pair = rig.pair("data");
    rig.rewind("data", rig.point("data", "before").epoch);
    let sound = rig.copy("data", rig.point("data", "after").epoch);
    // A mount would write here and there; a sector does.
    write(&rig.disks[0].target, 5 * MIB, 512, &mut random);
    let elsewhere = rig.scratch.path("copy.raw");
    for refused in [
        &["rewind", &*pair, "after"][..],
        &["rewind", &pair, "after", "--dry-run"],
        &["copy", &pair, "before", path_text(&elsewhere)],
        &["commit", &pair],
    ] {
        let refused = rig.points_command(refused).expect_code(3);
        assert!(refused.stderr.contains("somebody else has written"), "{refused}");
        assert!(refused.stderr.contains("--accept-writes"), "it says what to do: {refused}");
    }
    assert!(!elsewhere.exists());
    // What is accepted is not forgotten: it is in every point.
    rig.points_command(&["rewind", &pair, "after", "--accept-writes"]).expect_success();
    for refused in [&["rewind", &*pair, "before"][..], &["rewind", &pair, "after"], &["commit", &pair]] {
        let refused = rig.points_command(refused).expect_code(3);
        assert!(refused.stderr.contains("not exact"), "{refused}");
    }
    rig.points_command(&["commit", &pair, "--accept-writes"]).expect_success();
    assert_same_bytes(&sound, rig.disks[0].source.path(), DISK_BYTES);
}

#[test]
fn a_fence_lifted_after_others_wrote_compares_the_disks() {
    let Some(()) = able(&[]) else { return };
    let mut random = Random::new();
    let rig = finished(&mut random);
    let pair = rig.pair("data");
    write(&rig.disks[0].target, 3 * MIB, 4096, &mut random);
    rig.master_target(&["unfence", &pair]).expect_success();
    let ends = Ends::start(&rig);
    rig.wait_for_state("protecting");
    ends.finish(&rig);
}

#[test]
fn a_target_written_while_its_agent_was_away_is_compared() {
    let Some(()) = able(&[]) else { return };
    let mut random = Random::new();
    let rig = Rig::new(&[("data", DISK_BYTES)], Setup::default());
    let ends = Ends::start(&rig);
    rig.wait_for_points();
    write(rig.disks[0].source.path(), 2 * MIB, 64 << 10, &mut random);
    rig.cut("before", &[]);
    ends.stop();
    write(&rig.disks[0].target, 6 * MIB, 4096, &mut random);
    let ends = Ends::start(&rig);
    rig.wait_for_state("protecting");
    ends.finish(&rig);
}

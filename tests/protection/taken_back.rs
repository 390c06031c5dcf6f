//! A target that was taken back to an earlier state, with its journal: by a
//! backup of the host at home, or a snapshot of the storage below it.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use super::ends::Ends;
use super::rig::{Rig, Setup, able, event};
use super::volume::fill;
use crate::fixture::{LONG, Random, program, run};

const DISK_BYTES: u64 = 10 << 20;

/// What lies at home of a disk, at a moment when no master target runs.
struct Backup {
    target: Vec<u8>,
}

impl Backup {
    fn of(rig: &Rig) -> Self {
        run(program("cp").arg("--archive").arg(rig.retention()).arg(rig.scratch.path("backup")));
        run(program("blockdev").arg("--flushbufs").arg(&rig.disks[0].target));
        Self { target: fs::read(&rig.disks[0].target).expect("a device can be read") }
    }

    fn restore(&self, rig: &Rig) {
        fs::remove_dir_all(rig.retention()).expect("it is ours");
        fs::rename(rig.scratch.path("backup"), rig.retention()).expect("it is ours");
        let target = OpenOptions::new().write(true).open(&rig.disks[0].target).expect("nobody holds it");
        target.write_all_at(&self.target, 0).and_then(|()| target.sync_all()).expect("it can be written");
    }
}

#[test]
fn a_target_that_lost_points_is_told_and_compared_as_a_whole() {
    let Some(()) = able(&["blockdev", "cp"]) else { return };
    let mut random = Random::new();
    let rig = Rig::new(&[("data", DISK_BYTES)], Setup::default());
    let source = rig.disks[0].source.path();
    fill(source, 0, 4 << 20, &mut random);
    let mut ends = Ends::start(&rig);
    rig.wait_for_points();
    rig.cut("kept", &[]);
    ends.stop_target();
    let backup = Backup::of(&rig);
    ends.start_target(&rig);
    fill(source, 1 << 20, 1 << 20, &mut random);
    rig.cut("lost", &[]);
    ends.stop_target();
    backup.restore(&rig);
    let read = || rig.agent(&["status"]).summary()["read_bytes"].as_u64().expect("it is counted");
    let before = read();
    ends.start_target(&rig);
    ends.agent().wait_for(LONG, |line| {
        event(line).filter(|event| event["event"] == "alarm" && line.contains("lost points"))
    });
    rig.cut("again", &[]);
    let compared = read() - before;
    assert!(compared >= DISK_BYTES, "only {compared} bytes were compared");
    let names: Vec<String> = rig.points("data").into_iter().map(|point| point.name).collect();
    assert_eq!(names, ["", "kept", "again"]);
    ends.finish(&rig);
}

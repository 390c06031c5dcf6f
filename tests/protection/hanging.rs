//! A filesystem that hangs while it is written out for a cut: nobody waits for it
//! without an end, and the agent says what it knows all the while.

use std::fs;
use std::path::PathBuf;

use super::ends::Ends;
use super::rig::{Filesystem, Protected, Rig, Setup, able};
use crate::fixture::{LONG, LoopDevice, Random, Scratch, program, run};

const MIB: u64 = 1 << 20;

/// A volume that takes no writes, until this is dropped.
struct Stopped(PathBuf);

impl Stopped {
    fn new(volume: &Filesystem) -> Self {
        run(program("fsfreeze").arg("--freeze").arg(&volume.point));
        Self(volume.point.clone())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = program("fsfreeze").arg("--unfreeze").arg(&self.0).output();
    }
}

#[test]
fn a_filesystem_that_hangs_holds_up_a_cut_and_no_status() {
    let Some(()) = able(&["mkfs.ext4", "fsfreeze"]) else { return };
    let mut random = Random::new();
    let scratch = Scratch::new();
    // What lies below the disk can be stopped: then the disk hangs.
    let below = LoopDevice::attach(&scratch.image("volume", 64 * MIB), 512);
    let volume = Filesystem::make("ext4", below.path(), scratch.folder("volume-mounted"));
    let (source, target) = (volume.point.join("source"), scratch.image("target", 16 * MIB));
    fs::write(&source, vec![0; 16 << 20]).expect("there is room");
    let disk = Protected::new("data", 16 * MIB, &source, &target);
    let rig = Rig::with(scratch, vec![disk], Setup::default());
    let filesystem =
        Filesystem::make("ext4", rig.disks[0].source.path(), rig.scratch.folder("source-mounted"));
    let ends = Ends::start(&rig);
    rig.wait_for_points();
    rig.wait_for_state("protecting");
    let stopped = Stopped::new(&volume);
    let mut content = vec![0; 4 << 20];
    random.fill(&mut content);
    fs::write(filesystem.point.join("written"), &content).expect("the page cache has room");
    let cut = rig.launch(&["cut", "--name", "hanging"]);
    rig.wait_for_state("cutting");
    // The thread that freezes is within the kernel: it cannot thaw now, and that is said.
    let thaw = rig.agent(&["thaw"]).expect_code(1);
    assert!(thaw.stderr.contains("hangs"), "{thaw}");
    let status = rig.agent(&["status"]).expect_success().summary();
    assert_eq!(status["disks"][0]["state"], "cutting", "{status}");
    drop(stopped);
    println!("{}", cut.finish(LONG));
    rig.cut("after", &[]);
    filesystem.unmount();
    ends.finish(&rig);
    drop(rig);
    drop(volume);
}

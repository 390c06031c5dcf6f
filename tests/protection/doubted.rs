//! What a tracker doubts, under agents that run: each makes the disk be compared
//! by itself, with the reason, and the next point is exact.

use std::fs::{self, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;

use failback_datapath::sys::bpf::{self, SharedWords};

use super::ends::Ends;
use super::rig::{Rig, Setup, able, event};
use super::volume::fill;
use crate::fixture::Need::Tracking;
use crate::fixture::{LONG, Random, assert_same_bytes, need, program, run};
use crate::track::lost::{Lost, whole};

const MIB: u64 = 1 << 20;
const DISK_BYTES: u64 = 8 * MIB;

/// Words of the map's header, and what each is told as.
const WORDS: [(usize, &str); 4] = [
    (10, "passed 3 issue of requests by"),
    (20, "3 commands wrote to the disk without saying where"),
    (21, "3 writes went past the end of the disk"),
    (22, "3 discards had more pieces"),
];
const BOOT: usize = 5;

fn pins(rig: &Rig) -> PathBuf {
    rig.scratch.path("bpf/failback/data")
}

fn poke(rig: &Rig, word: usize, value: u64) {
    let map = bpf::pinned(&pins(rig).join("map")).expect("the map is pinned");
    let header = SharedWords::new(map.as_fd(), 1).expect("it can be mapped");
    header.words()[word].store(value, SeqCst);
}

fn able_to_track() -> Option<()> {
    able(&["losetup"])?;
    need(&[Tracking])
}

fn tracked() -> (Rig, Ends, Random) {
    let mut random = Random::new();
    let rig = Rig::new(&[("data", DISK_BYTES)], Setup { tracking: "ebpf", ..Setup::default() });
    fill(rig.disks[0].source.path(), 0, 2 << 20, &mut random);
    let ends = Ends::start(&rig);
    rig.wait_for_points();
    rig.wait_for_state("protecting");
    (rig, ends, random)
}

/// Waits until the agent has said why it compares the disk, and has done so.
fn compared(rig: &Rig, ends: &Ends, why: &str) -> Result<(), Lost> {
    ends.agent().wait_for(LONG, |line| {
        let event = event(line)?;
        let reason = event["reason"].as_str().filter(|_| event["state"] == "synchronizing")?;
        // Where that came first nobody knows whether the rest was noticed.
        Lost::told(reason).map(Err).or_else(|| reason.contains(why).then_some(Ok(())))
    })?;
    rig.wait_for_state("protecting");
    let status = rig.agent(&["status"]).summary();
    let offered = status["offered_bytes"].as_u64().unwrap_or_default();
    assert!(offered >= DISK_BYTES, "not compared as a whole: {status}");
    rig.cut(&why.replace(' ', "-"), &[]);
    assert_same_bytes(rig.disks[0].source.path(), &rig.disks[0].target, DISK_BYTES);
    Ok(())
}

#[test]
fn what_the_programs_could_not_mark_is_compared() {
    let Some(()) = able_to_track() else { return };
    for (word, why) in WORDS {
        whole(|| {
            let (rig, ends, mut random) = tracked();
            fill(rig.disks[0].source.path(), MIB, 64 << 10, &mut random);
            poke(&rig, word, 3);
            compared(&rig, &ends, why)?;
            ends.finish(&rig);
            Ok(())
        });
    }
}

#[test]
fn what_happened_to_marks_while_no_agent_ran_is_compared_by_the_next() {
    let Some(()) = able_to_track() else { return };
    let detach = |rig: &Rig| {
        let pins = fs::read_dir(pins(rig)).expect("they are there").flatten();
        let pin = pins.map(|pin| pin.path()).find(|pin| !pin.ends_with("map"));
        fs::remove_file(pin.expect("programs are pinned")).expect("a pin can be removed");
    };
    let reboot = |rig: &Rig| poke(rig, BOOT, 7);
    let happenings: [&dyn Fn(&Rig); 2] = [&detach, &reboot];
    for happens in happenings {
        whole(|| {
            let (rig, mut ends, mut random) = tracked();
            ends.kill_agent_and(&rig, || {
                happens(&rig);
                fill(rig.disks[0].source.path(), 3 * MIB, 64 << 10, &mut random);
            });
            compared(&rig, &ends, "started anew")?;
            ends.finish(&rig);
            Ok(())
        });
    }
}

/// A disk that grows, is written where it grew, and shrinks again, while no agent
/// looks: the programs have seen writes that have no place.
#[test]
fn a_write_past_the_end_is_compared() {
    let Some(()) = able_to_track() else { return };
    whole(write_past_the_end);
}

fn write_past_the_end() -> Result<(), Lost> {
    let (rig, mut ends, mut random) = tracked();
    let disk = &rig.disks[0];
    let resize = |bytes: u64| {
        let below = OpenOptions::new().write(true).open(&disk.files[0]).expect("it is there");
        below.set_len(bytes).expect("it can be resized");
        run(program("losetup").arg("--set-capacity").arg(disk.source.path()));
    };
    ends.kill_agent_and(&rig, || {
        resize(DISK_BYTES + MIB);
        let device = OpenOptions::new().write(true).open(disk.source.path()).expect("it is there");
        device.write_all_at(&[7; 4096], DISK_BYTES + 4096).expect("it has grown");
        device.sync_all().expect("it can be flushed");
        drop(device);
        resize(DISK_BYTES);
        fill(disk.source.path(), 0, 4096, &mut random);
    });
    compared(&rig, &ends, "past the end")?;
    ends.finish(&rig);
    Ok(())
}

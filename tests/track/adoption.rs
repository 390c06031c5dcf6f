//! An agent that dies, is restarted, is upgraded, or goes for good.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use failback_datapath::track::{ChangeSource, Device, Error, Parity, Place, Tracker};
use failback_datapath::unit::ChunkSize;

use crate::fixture::Need::{LoopDevices, Program, Tracking};
use crate::fixture::{LONG, Random, Running, Scratch, need, program, run};

use super::doubts::header;
use super::followed::Followed;
use super::lost::{Lost, whole};
use super::noise::Noise;
use super::{MIB, amount};

/// Where [`holds_a_tracker_until_it_is_killed`] finds its disk: three paths.
const HOLD: &str = "FAILBACK_TEST_HOLD";

/// No test of its own: the agent that others kill.
#[test]
fn holds_a_tracker_until_it_is_killed() {
    let Some(given) = std::env::var_os(HOLD) else { return };
    let paths: Vec<PathBuf> = std::env::split_paths(&given).collect();
    let [device, root, lock] = paths.try_into().expect("three paths");
    let place = Place::on(&root, "held", lock);
    let device = Device::find(&device).expect("a disk");
    let chunk_size = ChunkSize::MIN;
    let mut set = failback_datapath::track::ChunkSet::empty(chunk_size.count(device.size_bytes));
    let mut tracker = match Tracker::adopt(device.clone(), place.clone()).expect("it can be looked at") {
        Some(tracker) => tracker,
        None => {
            let mut tracker = Tracker::install(device, chunk_size, place).expect("it can be tracked");
            tracker.drain(Parity::Odd, u64::MAX, &mut set).expect("nothing is doubted");
            tracker.confirmed(Parity::Odd);
            tracker
        }
    };
    println!("holding");
    loop {
        // Takes marks and sends nothing: all of them are in transit when it dies.
        tracker.drain(Parity::Even, 100, &mut set).expect("nothing is doubted");
        tracker.give_back(&[]);
    }
}

fn hold(scratch: &Scratch, disk: &Followed) -> Running {
    let paths = [disk.device.path().to_owned(), scratch.folder("bpf"), scratch.path("held.lock")];
    let mut command = Command::new(std::env::current_exe().expect("this is a file"));
    command.args(["--exact", "track::adoption::holds_a_tracker_until_it_is_killed", "--nocapture"]);
    command.env(HOLD, std::env::join_paths(paths).expect("plain paths"));
    let running = Running::start(&mut command);
    running.wait_for(LONG, |line| line.contains("holding").then_some(()));
    running
}

/// Writes `mebibytes` of 4 KiB here and there, with eight writes in flight.
fn churn(disk: &Followed, mebibytes: u64) -> Running {
    let mut writer = program("fio");
    writer.args([
        "--name=churn",
        "--rw=randwrite",
        "--direct=1",
        "--ioengine=libaio",
        "--iodepth=8",
        "--bs=4k",
    ]);
    writer.args([&*amount(mebibytes), "--randrepeat=0"]);
    Running::start(writer.arg(format!("--filename={}", disk.device.path().display())))
}

#[test]
fn an_agent_killed_at_any_moment_loses_nothing() {
    let Some(()) = need(&[LoopDevices, Tracking, Program("fio")]) else { return };
    whole(kill_again_and_again);
}

fn kill_again_and_again() -> Result<(), Lost> {
    let (scratch, _noise, mut random) = (Scratch::new(), Noise::new(), Random::new());
    let mut disk = Followed::new(&scratch, "held", 64 * MIB, 4096);
    disk.place = Place::on(&scratch.folder("bpf"), "held", scratch.path("held.lock"));
    let before = disk.digests();
    let mut agent = hold(&scratch, &disk);
    let writer = churn(&disk, 64);
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(random.below(120)));
        agent.kill();
        agent = hold(&scratch, &disk);
    }
    writer.finish(LONG).expect_success();
    let mut refused = Tracker::adopt(disk.find(), disk.place.clone());
    // An agent that doubts has ended by itself.
    if let Ok(Some(tracker)) = &mut refused {
        tracker.check().map_err(|doubt| Lost::of(&doubt, tracker))?;
    }
    assert!(matches!(refused, Err(Error::Locked { .. })), "one agent for each disk");
    agent.kill();

    let adopted = Tracker::adopt(disk.find(), disk.place.clone()).expect("it can be looked at");
    let mut tracker = adopted.expect("it is whole");
    let mut seen = tracker.restart();
    assert!(!seen.is_empty(), "something was in transit");
    tracker.drain(Parity::Odd, u64::MAX, &mut seen).map_err(|doubt| Lost::of(&doubt, &tracker))?;
    let changed =
        (0_u64..).zip(before.iter().zip(disk.digests())).filter(|(_, (before, after))| *before != after);
    let missed: Vec<u64> = changed.map(|(chunk, _)| chunk).filter(|chunk| !seen.contains(*chunk)).collect();
    assert!(missed.is_empty(), "{missed:?}");
    disk.is_trusted(&mut tracker)
}

#[test]
fn an_upgrade_replaces_the_programs_at_work() {
    let Some(()) = need(&[LoopDevices, Tracking, Program("fio")]) else { return };
    whole(upgrade_at_work);
}

fn upgrade_at_work() -> Result<(), Lost> {
    let (scratch, _noise) = (Scratch::new(), Noise::new());
    let disk = Followed::new(&scratch, "upgraded", 64 * MIB, 4096);
    let before = disk.digests();
    let mut tracker = disk.install();
    let writer = churn(&disk, 48);
    for version in 0..5 {
        // Word 7: the digest of the programs, here that of another agent.
        header(&disk).words()[7].store(version, SeqCst);
        drop(tracker);
        let adopted = Tracker::adopt(disk.find(), disk.place.clone()).expect("it can be looked at");
        tracker = adopted.expect("it is whole");
        tracker.check().map_err(|doubt| Lost::of(&doubt, &tracker))?;
        assert_ne!(header(&disk).words()[7].load(SeqCst), version);
        std::thread::sleep(Duration::from_millis(100));
    }
    writer.finish(LONG).expect_success();
    let dirty = tracker.dirty();
    let after = disk.digests();
    let changed = (0_u64..).zip(before.iter().zip(&after)).filter(|(_, (before, after))| before != after);
    assert!(changed.map(|(chunk, _)| chunk).all(|chunk| dirty.contains(chunk)));
    disk.is_trusted(&mut tracker)?;
    let names: Vec<_> = fs::read_dir(disk.place.folder()).expect("it is there").flatten().collect();
    assert_eq!(names.len(), 5, "{names:?}");
    Ok(())
}

#[test]
fn what_is_half_made_is_taken_away() {
    let Some(()) = need(&[LoopDevices, Tracking]) else { return };
    let scratch = Scratch::new();
    let disk = Followed::new(&scratch, "half", 4 * MIB, 4096);
    let adopt = || Tracker::adopt(disk.find(), disk.place.clone()).expect("it can be looked at");
    assert!(adopt().is_none(), "nothing is there yet");
    let breaks: [&dyn Fn(); 5] = [
        &|| fs::remove_file(disk.place.folder().join("completion")).expect("it is there"),
        &|| fs::remove_file(disk.place.folder().join("issue-program")).expect("it is there"),
        &|| fs::remove_file(disk.place.folder().join("map")).expect("it is there"),
        &|| header(&disk).words()[1].store(1, SeqCst),
        &|| header(&disk).words()[0].store(1, SeqCst),
    ];
    for broken in breaks {
        drop(disk.install());
        assert!(adopt().is_some());
        broken();
        assert!(adopt().is_none());
        assert!(!disk.place.folder().exists(), "nothing is left of it");
    }
}

#[test]
fn pins_that_somebody_took_away_are_made_again() {
    let Some(()) = need(&[LoopDevices, Tracking]) else { return };
    let scratch = Scratch::new();
    let disk = Followed::new(&scratch, "unpinned", 4 * MIB, 4096);
    let tracker = disk.install();
    for pin in fs::read_dir(disk.place.folder()).expect("it is there").flatten() {
        fs::remove_file(pin.path()).expect("it is a file");
    }
    fs::remove_dir(disk.place.folder()).expect("it is empty");
    tracker.keep_pinned().expect("it can be pinned again");
    drop(tracker);
    let adopted = Tracker::adopt(disk.find(), disk.place.clone()).expect("it can be looked at");
    assert_eq!(adopted.expect("it is whole").dirty_chunks(), 0);
}

#[test]
fn nothing_is_left_behind() {
    let Some(()) = need(&[LoopDevices, Tracking]) else { return };
    let scratch = Scratch::new();
    let disk = Followed::new(&scratch, "gone", 4 * MIB, 4096);
    disk.install().uninstall().expect("it goes");
    assert!(!disk.place.folder().exists() && !scratch.path("gone.lock").exists());
    drop(disk.install());
    run(program("losetup").arg("--detach").arg(disk.device.path()));
    Tracker::uninstall_at(&disk.place).expect("without its disk too");
    Tracker::uninstall_at(&disk.place).expect("and again");
    // A BPF filesystem has files of the kernel's own from the start (`maps.debug`).
    assert!(!scratch.folder("bpf").join("failback").exists(), "the folder above is gone as well");
}

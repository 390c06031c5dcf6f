//! Each doubt, provoked: by what really happens where a loop device can do it,
//! and otherwise by writing to the map what the programs would have written.

use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;

use failback_datapath::sys::bpf::{self, SharedWords};
use failback_datapath::track::{
    ChangeSource, Device, Doubt, Error, Parity, Tracker, Untrackable, facts, watch_switches,
};

use crate::fixture::Need::{LoopDevices, Program, Tracking};
use crate::fixture::{Scratch, need, program, run};

use super::MIB;
use super::followed::Followed;
use super::lost::{Lost, whole};

/// Words of the map's header that the programs write.
pub const WRITTEN_SECTORS: usize = 18;
const FLAGS: [usize; 3] = [20, 21, 22];

/// The first page of a tracker's map.
pub fn header(disk: &Followed) -> SharedWords {
    let map = bpf::pinned(&disk.place.folder().join("map")).expect("the map is pinned");
    SharedWords::new(map.as_fd(), 1).expect("it can be mapped")
}

fn drained(tracker: &mut Tracker, disk: &Followed) -> Result<u64, Doubt> {
    let mut set = disk.nothing();
    tracker.drain(Parity::Odd, u64::MAX, &mut set).map(|drained| drained.chunks)
}

#[test]
fn a_resized_disk() {
    let Some(()) = need(&[LoopDevices, Tracking]) else { return };
    let scratch = Scratch::new();
    let disk = Followed::new(&scratch, "resized", 4 * MIB, 4096);
    let mut tracker = disk.install();
    let image = OpenOptions::new().write(true).open(&disk.image).expect("the image is there");
    image.set_len(5 * MIB).expect("it can grow");
    run(program("losetup").arg("-c").arg(disk.device.path()));
    let doubt = Doubt::Resized { known_bytes: 4 * MIB, now_bytes: 5 * MIB };
    assert_eq!(drained(&mut tracker, &disk), Err(doubt.clone()));
    assert_eq!(tracker.mark_all(), Err(doubt), "marks cannot make that good");
    let place = disk.place.clone();
    drop(tracker);
    let tracker = Tracker::install(disk.find(), disk.chunk_size, place).expect("anew");
    assert_eq!(tracker.dirty_chunks(), 5 * MIB / 4096);
}

#[test]
fn a_replaced_disk() {
    let Some(()) = need(&[LoopDevices, Tracking]) else { return };
    let scratch = Scratch::new();
    let disk = Followed::new(&scratch, "replaced", 4 * MIB, 4096);
    let mut tracker = disk.install();
    run(program("losetup").arg("--detach").arg(disk.device.path()));
    let other = scratch.image("other", 4 * MIB);
    run(program("losetup").arg(disk.device.path()).arg(&other));
    let doubt = drained(&mut tracker, &disk);
    run(program("losetup").arg("--detach").arg(disk.device.path()));
    assert_eq!(doubt, Err(Doubt::Replaced { device: disk.device.path().to_owned() }));
    assert!(tracker.check().is_err(), "what is detached is not trusted either");
}

#[test]
fn writes_without_a_place() {
    let Some(()) = need(&[LoopDevices, Tracking]) else { return };
    let scratch = Scratch::new();
    let disk = Followed::new(&scratch, "flags", 4 * MIB, 4096);
    let mut tracker = disk.install();
    let header = header(&disk);
    let doubts =
        [Doubt::UnknownWrite { writes: 2 }, Doubt::OutOfRange { writes: 2 }, Doubt::Overrun { requests: 2 }];
    for (word, doubt) in FLAGS.into_iter().zip(doubts) {
        header.words()[word].fetch_add(2, SeqCst);
        assert_eq!(drained(&mut tracker, &disk), Err(doubt.clone()));
        assert_eq!(tracker.check(), Err(doubt), "it stays until all is marked");
        tracker.mark_all().expect("marks make it good");
        assert_eq!(drained(&mut tracker, &disk), Ok(1024));
        tracker.confirmed(Parity::Odd);
    }
}

#[test]
fn sectors_that_were_not_seen() {
    let Some(()) = need(&[LoopDevices, Tracking]) else { return };
    whole(miss_sectors);
}

fn miss_sectors() -> Result<(), Lost> {
    let scratch = Scratch::new();
    let disk = Followed::new(&scratch, "sectors", 4 * MIB, 4096);
    let mut tracker = disk.install();
    let device = OpenOptions::new().write(true).open(disk.device.path()).expect("it can be written");
    std::os::unix::fs::FileExt::write_all_at(&device, &[1; 65_536], 0).expect("it can be written");
    device.sync_all().expect("it can be flushed");
    disk.is_trusted(&mut tracker)?;
    header(&disk).words()[WRITTEN_SECTORS].fetch_sub(8, SeqCst);
    let doubt = Doubt::SectorCount { what: "written", missing_sectors: 8 };
    assert_eq!(drained(&mut tracker, &disk), Err(doubt));
    tracker.mark_all().expect("marks make it good");
    disk.is_trusted(&mut tracker)
}

#[test]
fn a_kernel_that_does_not_count() {
    let Some(()) = need(&[LoopDevices, Tracking]) else { return };
    whole(turn_the_count_off);
}

fn turn_the_count_off() -> Result<(), Lost> {
    let scratch = Scratch::new();
    let disk = Followed::new(&scratch, "uncounted", 4 * MIB, 4096);
    let mut tracker = disk.install();
    let name = disk.device.path().file_name().expect("it has one");
    let count = |value| {
        let switch = Path::new("/sys/block").join(name).join("queue/iostats");
        std::fs::write(switch, value).expect("root may");
    };
    count("0");
    assert_eq!(tracker.check(), Err(Doubt::Uncounted));
    assert_eq!(tracker.mark_all(), Err(Doubt::Uncounted), "marks cannot make that good");
    let refused = Device::find(disk.device.path()).expect_err("a loss would be unseen");
    assert!(refused.to_string().contains("queue/iostats"), "{refused}");
    let facts = facts(disk.device.path());
    assert!(facts.iter().any(|fact| fact.is_required && fact.detail.contains("queue/iostats")), "{facts:?}");
    let device = OpenOptions::new().write(true).open(disk.device.path()).expect("it can be written");
    let write = |byte| {
        std::os::unix::fs::FileExt::write_all_at(&device, &[byte; 65_536], 0).expect("it can be written");
        device.sync_all().expect("it can be flushed");
    };
    write(1);
    count("1");
    assert_eq!(tracker.check(), Err(Doubt::Uncounted), "what was written meanwhile was not counted");
    tracker.mark_all().expect("marks make it good");
    write(2);
    disk.is_trusted(&mut tracker)
}

#[test]
fn switches_between_tasks_are_shown() {
    let Some(()) = need(&[Tracking]) else { return };
    let switches = watch_switches(std::time::Duration::from_millis(300)).expect("tasks can be watched");
    println!("{switches:?}");
    assert!(switches.hidden < switches.shown, "some go on from the one before: {switches:?}");
}

#[test]
fn an_interrupted_marking() {
    let Some(()) = need(&[LoopDevices, Tracking]) else { return };
    let scratch = Scratch::new();
    let disk = Followed::new(&scratch, "interrupted", 4 * MIB, 4096);
    let tracker = disk.install();
    header(&disk).words()[1].store(3, SeqCst);
    drop(tracker);
    let adopted = Tracker::adopt(disk.find(), disk.place.clone()).expect("it can be looked at");
    let mut tracker = adopted.expect("it is whole");
    assert_eq!(tracker.check(), Err(Doubt::Interrupted));
    tracker.mark_all().expect("marks make it good");
    assert_eq!(drained(&mut tracker, &disk), Ok(1024));
}

#[test]
fn what_cannot_be_tracked() {
    let Some(()) = need(&[LoopDevices, Tracking, Program("losetup")]) else { return };
    let scratch = Scratch::new();
    if Path::new("/dev/zram0").exists() {
        let refused = Device::find(Path::new("/dev/zram0")).expect_err("it takes writes without requests");
        assert!(refused.to_string().contains("without requests"), "{refused}");
    }
    let file = scratch.file("file", "text");
    assert!(matches!(Device::find(&file), Err(Untrackable::NoDevice { .. })));
    let huge = Followed::new(&scratch, "too-many", 3 << 40, 4096);
    let refused = Tracker::install(huge.find(), huge.chunk_size, huge.place.clone());
    assert!(matches!(refused, Err(Error::TooManyChunks { chunks, .. }) if chunks == 3 << 28));
    assert!(!huge.place.folder().exists(), "nothing is left behind");
}

#[test]
fn this_machine_says_what_it_can_do() {
    let Some(()) = need(&[LoopDevices, Tracking]) else { return };
    let scratch = Scratch::new();
    let disk = Followed::new(&scratch, "facts", 4 * MIB, 4096);
    let facts = facts(disk.device.path());
    facts.iter().for_each(|fact| println!("{fact:?}"));
    assert!(facts.iter().all(|fact| fact.is_met || !fact.is_required) && facts.len() == 8, "{facts:?}");
    let other = failback_datapath::track::facts(&disk.image);
    assert!(other.iter().any(|fact| !fact.is_met && fact.detail.contains("no block device")), "{other:?}");
}

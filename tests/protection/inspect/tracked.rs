//! `failback inspect bitmap` beside a tracker at work.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use failback_datapath::track::{ChangeSource, ChunkSet, Device, Parity, Place, Tracker};
use failback_datapath::unit::ChunkSize;
use nix::libc::O_SYNC;

use crate::fixture::{LoopDevice, Need, Scratch, need};

use super::{inspect, of_kind, text};

const DISK_BYTES: u64 = 64 << 20;

#[test]
fn marks_are_shown_and_stay() {
    let Some(()) = need(&[Need::LoopDevices, Need::Tracking]) else { return };
    let scratch = Scratch::new();
    let device = LoopDevice::attach(&scratch.image("disk", DISK_BYTES), 512);
    let pins = scratch.folder("bpf");
    let place = Place::on(&pins, "root", scratch.path("lock"));
    let found = Device::find(device.path()).expect("a disk");
    let mut tracker = Tracker::install(found, ChunkSize::MIN, place.clone()).expect("it can be tracked");
    let mut drained = ChunkSet::empty(ChunkSize::MIN.count(DISK_BYTES));
    let look =
        |disk: &str| inspect(["bitmap", disk, "--pins", text(&pins), "--json"]).expect_success().events();
    let all = look("root");
    assert_eq!(
        (&all[0]["dirty_chunks"], &all[0]["phase"]),
        (&all[0]["chunks"], &"tracking".into()),
        "{all:?}"
    );
    tracker.drain(Parity::Odd, u64::MAX, &mut drained).expect("nothing is doubted");
    let moved = look("root");
    assert_eq!(moved[0]["in_transit_odd_chunks"], DISK_BYTES / 4096, "{moved:?}");
    tracker.confirmed(Parity::Odd);

    let disk = OpenOptions::new().write(true).custom_flags(O_SYNC).open(device.path()).expect("it opens");
    disk.write_all_at(&vec![7; 3 << 20], 8192).expect("it can be written");
    // By name, and by the folder of the pins; twice, since looking changes nothing.
    for disk in ["root", text(&place.folder()), "root"] {
        let written = look(disk);
        let runs = of_kind(&written, "run");
        assert_eq!(
            (runs[0]["offset"].as_u64(), runs[0]["bytes"].as_u64()),
            (Some(8192), Some(3 << 20)),
            "{written:?}"
        );
    }
    let dirty = tracker.dirty();
    assert_eq!(look("root")[0]["dirty_chunks"], dirty.len());
    let people = inspect(["bitmap", "root", "--pins", text(&pins)]).expect_success();
    assert!(people.stdout.contains("dirty: chunks 2..770, bytes 8192..3153920"), "{people}");
    let other = inspect(["bitmap", "data", "--pins", text(&pins)]).expect_code(3);
    assert!(other.stderr.contains("there is root"), "{other}");
    drop(disk);
    tracker.uninstall().expect("it is ours");
    inspect(["bitmap", "root", "--pins", text(&pins)]).expect_code(3);
}

#[test]
fn what_is_no_map_is_told() {
    let scratch = Scratch::new();
    let folder = scratch.folder("pins/failback/root");
    std::fs::write(folder.join("map"), [0; 4096]).expect("a file");
    let pins = scratch.path("pins");
    let wrong = inspect(["bitmap", "root", "--pins", text(&pins)]).expect_code(1);
    assert!(wrong.stderr.contains("map"), "{wrong}");
}

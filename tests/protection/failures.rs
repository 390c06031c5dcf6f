//! What goes wrong around protected disks: no room, no network, a source of
//! another size. Nothing is lost silently, and it goes on when the cause is gone.

use std::fs::OpenOptions;
use std::net::Shutdown;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::ends::{Ends, judge_all};
use super::number_of;
use super::oracle::{Clock, Load, Way, Writer};
use super::rig::{Protected, Rig, Setup, able};
use super::volume::{Volume, alarm, fill};
use crate::fixture::{LONG, Random, Scratch, program, run};
use crate::network::proxy::Proxy;
use crate::track::lost::{Lost, whole};

const MIB: u64 = 1 << 20;
const DISK_BYTES: u64 = 10 * MIB;

/// Writes that never stop for long, and leave room for cuts.
pub const LOAD: Load = Load {
    way: Way::Direct,
    threads: 2,
    burst: 16,
    pause: Duration::from_millis(300),
    zero_percent: 5,
    unit_sectors: 1,
};

/// Cuts the wire in the middle of everything, and leaves it dead for a while.
#[test]
fn a_pulled_network_costs_nothing_but_time() {
    let Some(()) = able(&[]) else { return };
    let (mut random, clock, proxy) = (Random::new(), Clock::start(), Proxy::new());
    let often = Setup { points_every: "1s", cycle: "100ms", ..Setup::default() };
    let mut rig = Rig::new(&[("data", DISK_BYTES)], often);
    rig.reached_at = proxy.address().to_owned();
    proxy.lead_to(rig.address());
    let disk = &rig.disks[0];
    let writer = Writer::start(disk.source.path(), disk.bytes, LOAD, clock, &mut random);
    let ends = Ends::start(&rig);
    for _ in 0..number_of("FAILBACK_KILLS", 8) {
        if random.happens(50) {
            proxy.cut_after(random.below(2 * MIB));
        } else {
            proxy.freeze();
        }
        sleep(Duration::from_millis(random.below(1000)));
        proxy.close(Shutdown::Both);
        sleep(Duration::from_millis(random.below(1500)));
    }
    rig.wait_for_state("protecting");
    rig.cut("after all", &[]);
    let history = writer.stop();
    ends.finish(&rig);
    assert!(judge_all(&rig, "data", &history) >= 2);
}

/// A disk whose target lies in a sparse file on a volume of its own.
struct Thin {
    // In this order they go.
    rig: Rig,
    volume: Volume,
}

impl Thin {
    fn new(make: fn(&str, u64, &Path, &Path) -> Protected) -> Self {
        let scratch = Scratch::new();
        let volume = Volume::new(&scratch, "thin", 40 * MIB);
        let (source, target) =
            (scratch.image("data-source", DISK_BYTES), volume.sparse("target", DISK_BYTES));
        let disk = make("data", DISK_BYTES, &source, &target);
        let rig = Rig::with(scratch, vec![disk], Setup::default());
        Self { rig, volume }
    }
}

/// Blocks of a target go away while it is in use, and the volume below is full:
/// writes fail. Nothing is acknowledged, and it goes on when there is room.
fn runs_out_of_room(make: fn(&str, u64, &Path, &Path) -> Protected) {
    let Some(()) = able(&["mkfs.ext4", "fsfreeze", "fallocate"]) else { return };
    let mut random = Random::new();
    let thin = Thin::new(make);
    let (rig, source) = (&thin.rig, thin.rig.disks[0].source.path());
    fill(source, 0, 2 << 20, &mut random);
    let ends = Ends::start(rig);
    rig.wait_for_points();
    rig.cut("before", &[]);
    let before = rig.points("data").len();
    let mut punch = program("fallocate");
    let half = (DISK_BYTES / 2).to_string();
    run(punch.args(["--punch-hole", "--offset", &half, "--length", &half]).arg(&rig.disks[0].files[1]));
    thin.volume.fill_up();
    fill(source, DISK_BYTES / 2 + MIB, 1 << 20, &mut random);
    // It is made once it can be: of all that was written.
    let waiting = rig.launch(&["cut", "--name", "in between"]);
    alarm(rig);
    assert_eq!(rig.points("data").len(), before, "there is a point of what was never written");
    thin.volume.make_room();
    println!("{}", waiting.finish(LONG));
    rig.cut("after", &[]);
    ends.finish(rig);
}

#[test]
fn a_thin_device_that_runs_out_of_room_makes_no_point() {
    runs_out_of_room(Protected::new);
}

#[test]
fn a_thin_image_that_runs_out_of_room_makes_no_point() {
    runs_out_of_room(Protected::onto_image);
}

/// A target that finds no room at the beginning is refused, and nothing was written.
#[test]
fn a_thin_target_without_room_is_refused() {
    let Some(()) = able(&["mkfs.ext4", "fsfreeze"]) else { return };
    let thin = Thin::new(Protected::onto_image);
    thin.volume.fill_up();
    let rig = &thin.rig;
    let ends = Ends::start(rig);
    alarm(rig);
    assert!(rig.points("data").is_empty());
    thin.volume.make_room();
    rig.agent(&["resync", "data"]);
    rig.wait_for_points();
    ends.finish(rig);
}

/// Makes what lies below a loop device longer, and the device with it.
fn grow(device: &Path, file: &Path, bytes: u64) {
    let file = OpenOptions::new().write(true).open(file).expect("it is there");
    file.set_len(bytes).expect("it gets longer");
    run(program("losetup").arg("--set-capacity").arg(device));
}

/// A source that grows is refused, with its target grown too: points are of one
/// size. They stay until somebody gives them up, as the refusal says.
#[test]
fn a_source_that_grows_is_refused_until_it_is_protected_anew() {
    const GROWN: u64 = DISK_BYTES + MIB;
    let Some(()) = able(&["losetup"]) else { return };
    let mut random = Random::new();
    let mut rig = Rig::new(&[("data", DISK_BYTES)], Setup::default());
    fill(rig.disks[0].source.path(), 0, 2 << 20, &mut random);
    let ends = Ends::start(&rig);
    rig.wait_for_points();
    rig.cut("before", &[]);
    let is_refused = || {
        rig.wait_for_state("refused");
        let status = rig.agent(&["status"]).summary();
        let why = status["disks"][0]["reason"].as_str().unwrap_or_default().to_owned();
        let told = ["cannot grow", &GROWN.to_string(), "master-target remove --journal web/data"];
        assert!(told.iter().all(|text| why.contains(text)), "{why}");
        assert!(rig.agent(&["cut", "--name", "grown"]).code() != Some(0));
        let names: Vec<String> = rig.points("data").into_iter().map(|point| point.name).collect();
        assert_eq!(names, ["", "before"]);
    };
    grow(rig.disks[0].source.path(), &rig.disks[0].files[0], GROWN);
    fill(rig.disks[0].source.path(), DISK_BYTES, 1 << 20, &mut random);
    is_refused();
    rig.copy("data", rig.point("data", "before").epoch);
    grow(&rig.disks[0].target, &rig.disks[0].files[1], GROWN);
    rig.agent(&["reload"]).expect_success();
    is_refused();
    rig.master_target(&["remove", "--journal", "web/data"]).expect_success();
    rig.master_target(&["reload"]).expect_success();
    rig.agent(&["resync", "data"]).expect_success();
    rig.wait_for_points();
    rig.disks[0].bytes = GROWN;
    ends.finish(&rig);
}

/// A retention volume that somebody else has filled up: no point and an alarm,
/// until there is room again.
#[test]
fn a_full_retention_volume_pushes_back() {
    let Some(()) = able(&["mkfs.ext4", "fsfreeze"]) else { return };
    whole(fill_the_retention_volume_up);
}

fn fill_the_retention_volume_up() -> Result<(), Lost> {
    let (mut random, clock) = (Random::new(), Clock::start());
    let rig = Rig::new(&[("data", DISK_BYTES)], Setup { keep: "free = \"1MiB\"", ..Setup::default() });
    let volume = Volume::new(&rig.scratch, "retention", 400 * MIB);
    let disk = &rig.disks[0];
    let ends = Ends::start(&rig);
    rig.wait_for_points();
    let writer = Writer::start(disk.source.path(), disk.bytes, LOAD, clock, &mut random);
    writer.wait_for(50);
    volume.fill_up();
    alarm(&rig);
    let refused = rig.agent(&["cut", "--name", "in between"]).expect_code(1);
    // A lost completion is another reason, and hides this one.
    if let Some(lost) = Lost::told(&refused.stderr) {
        return Err(lost);
    }
    assert!(refused.stderr.contains("waits for its target"), "nobody is told why: {refused}");
    assert!(rig.points("data").iter().all(|point| point.name.is_empty()), "there is no room for a point");
    volume.make_room();
    rig.cut("after", &[]);
    let history = writer.stop();
    ends.finish(&rig);
    assert!(judge_all(&rig, "data", &history) >= 2);
    Ok(())
}

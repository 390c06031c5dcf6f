//! PostgreSQL under load, and recovered from copies of recovery points.

use std::fs;
use std::path::Path;

use super::cluster::{Cluster, Serving};
use super::ends::Ends;
use super::exact::mount_options;
use super::number_of;
use super::rig::{Filesystem, Rig, Setup, able};
use crate::fixture::{LoopDevice, Mount, Need, Scratch, need, program, run};

const MIB: u64 = 1 << 20;
/// A redo distance that no checkpoint is near: cuts without a hook wait for it.
const FAR: i64 = 8 << 20;
/// What half of the cuts with a hook leave to redo at most: what is written from the
/// beginning of the checkpoint to the freeze.
const NEAR: u64 = 2 << 20;

/// A point, and between which numbers of transactions it was cut.
struct Cut {
    name: String,
    is_app: bool,
    committed: [i64; 2],
}

/// Half of the points with the hook that makes a checkpoint, half without:
/// `FAILBACK_POINTS` in all, or ten.
fn each_point_recovers(kind: &'static str) {
    let (make, check) = if kind == "ext4" { ("mkfs.ext4", "e2fsck") } else { ("mkfs.xfs", "xfs_repair") };
    let Some(()) = able(&[make, check, "fsfreeze", "unshare"]) else { return };
    let Some(()) = need(&[Need::PostgreSql]) else { return };
    let mut rig = Rig::new(&[("data", 512 * MIB)], Setup::default());
    let filesystem = Filesystem::make(kind, rig.disks[0].source.path(), rig.scratch.folder("mounted"));
    let cluster = Cluster::at(&rig.scratch, filesystem.point.join("data"), "socket");
    cluster.create();
    rig.setup.hook = cluster.checkpoint_hook();
    let serving = cluster.start();
    serving.fill();
    let load = serving.load();
    let ends = Ends::start(&rig);
    rig.wait_for_points();
    let cuts = make_cuts(&rig, &serving);
    load.kill();
    serving.stop();
    ends.stop();
    let redone: Vec<(bool, u64)> = cuts.iter().map(|cut| (cut.is_app, recover(&rig, kind, cut))).collect();
    let of = |is_app| redone.iter().filter(move |(was_app, _)| *was_app == is_app).map(|(_, bytes)| *bytes);
    let (near, far) = (median(of(true)), median(of(false)));
    println!("{kind}: {near} bytes to redo with the hook, {far} without");
    assert!(near <= far / 4 && near <= NEAR, "a checkpoint before the cut leaves little to redo: {redone:?}");
    let (most, least) = (of(true).max().expect("some"), of(false).min().expect("some"));
    assert!(most < least, "a point with the hook has more to redo than one without: {redone:?}");
}

fn median(bytes: impl Iterator<Item = u64>) -> u64 {
    let mut sorted: Vec<u64> = bytes.collect();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

fn make_cuts(rig: &Rig, serving: &Serving) -> Vec<Cut> {
    let count = number_of("FAILBACK_POINTS", 10);
    // Without the hook first: nothing makes a checkpoint then.
    serving.wait_for_redo(FAR);
    let cut = |number: u64| {
        let is_app = number >= count / 2;
        let name = format!("cut-{number}");
        let before = serving.committed();
        rig.cut(&name, if is_app { &["--app"] } else { &[] });
        Cut { name, is_app, committed: [before, serving.committed()] }
    };
    (0..count).map(cut).collect()
}

/// Recovers what is on a copy of a point. Gives how much had to be redone.
fn recover(rig: &Rig, kind: &str, cut: &Cut) -> u64 {
    let point = rig.point("data", &cut.name);
    assert_eq!(point.kind.contains("app"), cut.is_app, "{point:?}");
    let recovered = Recovered::from(&rig.scratch, kind, &rig.copy("data", point.epoch));
    recovered.assert_within(cut.committed);
    println!("{kind} {}: {recovered:?}", cut.name);
    recovered.redone_bytes
}

/// What a cluster held after its recovery.
#[derive(Debug)]
struct Recovered {
    committed: i64,
    redone_bytes: u64,
}

impl Recovered {
    /// Mounts a copy of a disk, checks its filesystem, and starts what is on it.
    /// The copy is gone then.
    fn from(scratch: &Scratch, kind: &str, copy: &Path) -> Self {
        let device = LoopDevice::attach(copy, 512);
        let folder = scratch.folder("recovered");
        let mount = || Mount::new(device.path(), &folder, mount_options(kind));
        // The first mount replays the filesystem's own journal.
        drop(mount());
        let check: &[&str] = if kind == "ext4" { &["e2fsck", "-fn"] } else { &["xfs_repair", "-n"] };
        run(program(check[0]).arg(check[1]).arg(device.path()));
        let mounted = mount();
        let data = folder.join("data");
        // The copy is of a machine whose processes are not those of this one.
        fs::remove_file(data.join("postmaster.pid")).expect("it was running at the cut");
        let serving = Cluster::at(scratch, data, "socket-of-copy").start();
        serving.assert_balanced();
        let recovered = Self { committed: serving.committed(), redone_bytes: serving.redone_bytes() };
        serving.stop();
        drop(mounted);
        drop(device);
        fs::remove_file(copy).expect("it is ours");
        recovered
    }

    /// # Panics
    /// Where a transaction is missing, or there is one too many.
    fn assert_within(&self, [before, after]: [i64; 2]) {
        let Self { committed, .. } = self;
        assert!((before..=after).contains(committed), "{before} <= {committed} <= {after} transactions");
    }
}

#[test]
fn postgresql_on_ext4_recovers_from_each_point() {
    each_point_recovers("ext4");
}

#[test]
fn postgresql_on_xfs_recovers_from_each_point() {
    each_point_recovers("xfs");
}

/// The judgement itself: of a disk that was copied while it was frozen by hand.
#[test]
fn a_cluster_recovers_from_a_disk_that_was_copied_frozen() {
    let Some(()) = able(&["mkfs.ext4", "e2fsck", "fsfreeze", "unshare"]) else { return };
    let Some(()) = need(&[Need::PostgreSql]) else { return };
    let scratch = Scratch::new();
    let image = scratch.image("disk", 512 * MIB);
    let device = LoopDevice::attach(&image, 512);
    let filesystem = Filesystem::make("ext4", device.path(), scratch.folder("mounted"));
    let cluster = Cluster::at(&scratch, filesystem.point.join("data"), "socket");
    cluster.create();
    let serving = cluster.start();
    serving.fill();
    let load = serving.load();
    serving.wait_for_redo(FAR / 4);
    let before = serving.committed();
    let copy = scratch.path("copy");
    run(program("fsfreeze").arg("--freeze").arg(&filesystem.point));
    run(program("cp").arg("--sparse=always").arg(&image).arg(&copy));
    run(program("fsfreeze").arg("--unfreeze").arg(&filesystem.point));
    let after = serving.committed();
    load.kill();
    serving.stop();
    let recovered = Recovered::from(&scratch, "ext4", &copy);
    recovered.assert_within([before, after]);
    assert!(recovered.redone_bytes > 0, "nothing was redone: {recovered:?}");
}

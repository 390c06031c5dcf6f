//! Kill -9 at random moments; every point is then what it was.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use failback_datapath::ring;
use failback_datapath::sys::Arena;
use failback_datapath::unit::{Epoch, Extent, to_u64, to_usize};

use super::life::{Life, is_rewind};
use super::place::{DISK_BYTES, Home, Real};
use crate::fixture::Need::LoopDevices;
use crate::fixture::{LoopDevice, Random, Running, Scratch, need, supervised};

/// Says to [`stand_in`] where it lives: device, folder, seed, last epoch.
const STAND_IN: &str = "FAILBACK_REPLICA_STAND_IN";
const KILLS: u64 = 8;
/// Points that a process makes at most before it ends by itself.
const POINTS: u64 = 7;
const TIMEOUT: Duration = Duration::from_secs(120);

/// Does nothing, unless another test has started it to kill it.
#[test]
fn stand_in() {
    let Ok(text) = env::var(STAND_IN) else { return };
    let words: Vec<&str> = text.split('\t').collect();
    let [device, folder, seed, last] = words[..] else { panic!("{text} is no place to live") };
    let home = Home::new(&PathBuf::from(device), &PathBuf::from(folder));
    let mut life = Life::new(seed.parse().expect("a number"));
    let last = Epoch(last.parse().expect("a number"));
    let living = async {
        let mut replica = home.enter().await;
        println!("living");
        life.live(&mut replica, &home, last).await;
    };
    ring::run(living).expect("a ring");
    println!("lived");
}

fn stand_in_for(home: &Home, seed: u64, last: Epoch) -> Command {
    let mut command = supervised(&env::current_exe().expect("this test has a file"));
    command.args(["--exact", "replica::killed::stand_in", "--nocapture", "--test-threads", "1"]);
    let folder = home.journal.parent().expect("a folder").display();
    command.env(STAND_IN, format!("{}\t{folder}\t{seed}\t{last}", home.device.display()));
    command
}

/// Opens the replica and reads every point. Gives the newest.
async fn check(home: &Home, life: &mut Life) -> Epoch {
    if !home.journal.join("pair").exists() {
        return Epoch(0);
    }
    let mut replica = home.enter().await;
    let log = std::fs::read_to_string(&home.log).unwrap_or_default();
    let told = log.lines().last().map_or(0, |line| line.parse().expect("a number"));
    check_points(&replica, life, told).await;
    replica.resume().await.expect("resumed");
    check_points(&replica, life, told).await
}

async fn check_points(replica: &Real, life: &mut Life, told: u64) -> Epoch {
    let points: Vec<u64> = replica.journal().points().map(|point| point.epoch.0).collect();
    let newest = to_u64(points.len());
    assert_eq!(points, (1..=newest).collect::<Vec<_>>());
    assert!(newest >= told, "point {told} was acknowledged, and {newest} is the newest");
    for epoch in points.into_iter().map(Epoch) {
        let bytes = read_point(replica, epoch).await;
        let wrong = bytes.iter().zip(&life.content(epoch).bytes).position(|(is, should)| is != should);
        assert_eq!(wrong, None, "the first wrong byte of point {epoch} of {newest}");
    }
    Epoch(newest)
}

async fn read_point(replica: &Real, epoch: Epoch) -> Vec<u8> {
    const STEP: usize = 1 << 20;
    let size = std::num::NonZeroUsize::new(STEP).expect("not zero");
    let mut buffer = Arena::buffers(1, size).expect("memory").remove(0);
    let mut bytes = Vec::with_capacity(DISK_BYTES);
    while bytes.len() < DISK_BYTES {
        let end = DISK_BYTES.min(bytes.len() + STEP);
        let extent = Extent::between(to_u64(bytes.len()), to_u64(end));
        let (read, back) = replica.read_at(epoch, extent, buffer).await;
        read.expect("read");
        buffer = back;
        bytes.extend_from_slice(&buffer.bytes()[..to_usize(extent.length())]);
    }
    bytes
}

#[test]
fn a_killed_replica_has_all_its_points_and_goes_on() {
    let Some(()) = need(&[LoopDevices]) else { return };
    let scratch = Scratch::new();
    let device = LoopDevice::attach(&scratch.image("target", DISK_BYTES as u64), 512);
    let home = Home::new(device.path(), scratch.root());
    let mut random = Random::new();
    let seed = random.number();
    let mut life = Life::new(seed);
    let mut newest = Epoch(0);
    for _ in 0..KILLS {
        let last = end_after(Epoch(newest.0 + POINTS));
        let child = Running::start(&mut stand_in_for(&home, seed, last));
        // Some points first, so that the kills come all over its life.
        let made = random.below(5);
        let sign = if made == 0 { "living".to_owned() } else { format!("made {}", newest.0 + made) };
        child.wait_for(TIMEOUT, |line| line.ends_with(&sign).then_some(()));
        sleep(Duration::from_millis(random.below(60)));
        child.kill();
        newest = ring::run(check(&home, &mut life)).expect("a ring");
    }
    let last = end_after(Epoch(newest.0 + POINTS));
    Running::start(&mut stand_in_for(&home, seed, last)).finish(TIMEOUT).expect_success();
    assert_eq!(ring::run(check(&home, &mut life)).expect("a ring"), last);
    println!("{last} points");
}

/// `epoch`, or the one after it: a life ends with a point of a protected pair.
fn end_after(epoch: Epoch) -> Epoch {
    if is_rewind(epoch) { epoch.next() } else { epoch }
}

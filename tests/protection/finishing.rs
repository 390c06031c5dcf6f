//! The end of a failback, when something comes between the freeze and the fence:
//! either the machine stays frozen with its final point, or the point is void, is
//! said to be, and the machine goes on.

use std::net::Shutdown;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::ends::Ends;
use super::rig::{Rig, Setup, able, event};
use super::volume::fill;
use crate::fixture::{LONG, Outcome, Random, Running, assert_same_bytes};
use crate::network::proxy::Proxy;

const DISK_BYTES: u64 = 8 << 20;

/// A machine whose wire leads through a proxy, with its first point.
fn begun(random: &mut Random) -> (Rig, Proxy, Ends) {
    let proxy = Proxy::new();
    let mut rig = Rig::new(&[("data", DISK_BYTES)], Setup::default());
    rig.reached_at = proxy.address().to_owned();
    proxy.lead_to(rig.address());
    fill(rig.disks[0].source.path(), 0, 1 << 20, random);
    let ends = Ends::start(&rig);
    rig.wait_for_points();
    rig.wait_for_state("protecting");
    (rig, proxy, ends)
}

/// Whether the target takes nothing more.
fn is_fenced(rig: &Rig) -> bool {
    let status: Value = rig.master_target(&["status"]).summary();
    status["pairs"][0]["state"].as_str().is_some_and(|state| state.eq_ignore_ascii_case("fenced"))
}

/// Orders the end, and waits until the machine waits for its final point, which
/// cannot be told it: nothing passes the wire.
fn stuck(rig: &Rig, proxy: &Proxy) -> Running {
    proxy.freeze();
    let finish = rig.launch(&["finish"]);
    rig.wait_for_state("awaiting-final-point");
    finish
}

fn assert_void(rig: &Rig, ends: &Ends, finished: &Outcome) {
    assert!(finished.code() == Some(1), "{finished}");
    ends.agent().wait_for(LONG, |line| {
        event(line).filter(|event| event["event"] == "alarm" && line.contains("void"))
    });
    rig.wait_for_state("protecting");
    let status = rig.agent(&["status"]).summary();
    assert_eq!((&status["frozen"], &status["last_cut"]["void"]), (&false.into(), &true.into()), "{status}");
    assert!(!is_fenced(rig), "the target would take nothing of a machine that runs");
}

#[test]
fn a_network_that_is_pulled_before_the_final_point_is_confirmed_voids_it() {
    let Some(()) = able(&[]) else { return };
    let mut random = Random::new();
    let (rig, proxy, ends) = begun(&mut random);
    let finish = stuck(&rig, &proxy);
    proxy.close(Shutdown::Both);
    assert_void(&rig, &ends, &finish.finish(LONG));
    fill(rig.disks[0].source.path(), 4 << 20, 4096, &mut random);
    ends.finish(&rig);
}

#[test]
fn a_thaw_before_the_final_point_is_confirmed_voids_it_and_says_so() {
    let Some(()) = able(&[]) else { return };
    let mut random = Random::new();
    let (rig, proxy, ends) = begun(&mut random);
    let finish = stuck(&rig, &proxy);
    let thawed = rig.agent(&["thaw"]).expect_success().summary();
    assert_eq!(thawed["after_fence"], false, "{thawed}");
    let finished = finish.finish(LONG);
    assert!(finished.stderr.contains("thawed"), "{finished}");
    proxy.close(Shutdown::Both);
    assert_void(&rig, &ends, &finished);
    fill(rig.disks[0].source.path(), 4 << 20, 4096, &mut random);
    ends.finish(&rig);
}

/// Cuts the wire after ever more bytes of the end: before the final point is
/// confirmed it is void, from then on the machine stays frozen until the fence is
/// there. Nothing lies between.
#[test]
fn a_network_that_is_pulled_anywhere_leaves_a_void_point_or_a_fence() {
    let Some(()) = able(&[]) else { return };
    let mut random = Random::new();
    let (rig, proxy, ends) = begun(&mut random);
    let source = rig.disks[0].source.path();
    let mut voids = 0;
    for bytes in (100..).step_by(150) {
        fill(source, random.below(64) << 12, 4096, &mut random);
        rig.cut("between", &[]);
        proxy.cut_after(bytes);
        let finish = rig.launch(&["finish"]);
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline && rig.agent(&["status"]).stdout.contains("\"protecting\"") {
            sleep(Duration::from_millis(20));
        }
        sleep(Duration::from_millis(300));
        proxy.close(Shutdown::Both);
        let finished = finish.finish(LONG);
        if finished.code() == Some(0) {
            break;
        }
        let status = rig.agent(&["status"]).summary();
        assert!(status["frozen"] == false, "{finished} {status}");
        assert!(!is_fenced(&rig), "void, and fenced: {finished}");
        voids += 1;
        rig.wait_for_state("protecting");
    }
    let status = rig.agent(&["status"]).summary();
    assert_eq!(status["frozen"], true, "{status}");
    assert!(is_fenced(&rig) && voids > 0, "{voids} of the cuts came too early: {status}");
    ends.stop();
    assert_same_bytes(source, &rig.disks[0].target, DISK_BYTES);
}

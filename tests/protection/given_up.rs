//! What somebody asked for and gave up: it is not done later.

use std::fs;
use std::os::unix::fs::symlink;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::ends::Ends;
use super::rig::{Rig, Setup, able, path_text};
use crate::fixture::LONG;

const MIB: u64 = 1 << 20;

/// A point called `before-upgrade` must not be one of after the upgrade, and an
/// interrupted `finish` must not stop the machine a minute later.
#[test]
fn a_cut_whose_client_has_gone_is_not_made() {
    let Some(()) = able(&[]) else { return };
    let rig = Rig::new(&[("data", 4 * MIB)], Setup::default());
    let target = rig.start_target();
    let agent = rig.start_agent();
    rig.wait_for_points();
    // Without its target a cut waits.
    target.signal(Signal::SIGTERM);
    target.finish(LONG);
    for asked in [&["cut", "--name", "before-upgrade"][..], &["finish", "--power-off"]] {
        let client = rig.launch(asked);
        sleep(Duration::from_millis(300));
        client.kill();
    }
    let ends = Ends::of(agent, rig.start_target());
    rig.wait_for_state("protecting");
    rig.cut("after-upgrade", &[]);
    let points: Vec<String> = rig.points("data").into_iter().map(|point| point.name).collect();
    assert!(!points.iter().any(|name| name == "before-upgrade" || name == "final"), "{points:?}");
    ends.stop();
}

/// Two disks, of which one is not there when the agent starts.
#[test]
fn a_disk_that_is_away_does_not_keep_the_others_from_being_protected() {
    let Some(()) = able(&[]) else { return };
    let rig = Rig::new(&[("root", 4 * MIB), ("data", 4 * MIB)], Setup::default());
    let target = rig.start_target();
    // An agent that looks for it by a name that leads nowhere.
    let name = rig.scratch.path("data-disk");
    let (settings, device) = (rig.scratch.path("agent.toml"), rig.disk("data").source.path());
    let text = fs::read_to_string(&settings).expect("it was written");
    fs::write(&settings, text.replace(path_text(device), path_text(&name))).expect("it can be written");
    let agent = rig.start_agent();
    let status = || rig.agent(&["status"]).expect_success().summary();
    let until = Instant::now() + LONG;
    while status()["disks"][0]["state"] != "protecting" {
        assert!(Instant::now() < until, "{}", status());
        sleep(Duration::from_millis(50));
    }
    let told = status();
    assert_eq!(told["absent"][0]["disk"], "data", "{told}");
    let refused = rig.agent(&["cut"]).expect_code(1);
    assert!(refused.stderr.contains("data could not be taken up"), "{refused}");
    symlink(rig.disk("data").source.path(), &name).expect("it can be made");
    rig.wait_for_state("protecting");
    rig.cut("both", &[]);
    assert_eq!(rig.point("data", "both").name, "both");
    Ends::of(agent, target).finish(&rig);
}

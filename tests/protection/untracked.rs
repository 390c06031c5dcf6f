//! A disk without tracking beside one that is tracked: large, slow to read and
//! written all the time.

use std::time::Duration;

use serde_json::Value;

use super::ends::{Ends, judge_all};
use super::oracle::{Clock, History, Load, Way, Writer};
use super::rig::{Rig, Setup, able, event};
use crate::fixture::Need::Tracking;
use crate::fixture::{LONG, Random, need};

const MIB: u64 = 1 << 20;

/// Writes that never stop for long, and leave room for cuts.
const LOAD: Load = Load {
    way: Way::Direct,
    threads: 1,
    burst: 4,
    pause: Duration::from_millis(250),
    zero_percent: 0,
    unit_sectors: 1,
};

/// As slow as it has to be for the large disk to be compared for many seconds.
const SLOW: Setup = Setup {
    tracking: "ebpf",
    cycle: "200ms",
    points_every: "1s",
    hook: Vec::new(),
    freeze_budget: "5s",
    untracked: &["bulk"],
    limits: "read-rate = \"3MiB\"",
    machine: "",
    keep: "",
    more: "",
};

fn state_of(status: &Value, name: &str) -> String {
    let disks = status["disks"].as_array().expect("disks are listed");
    let disk = disks.iter().find(|disk| disk["disk"] == name).expect("it is protected");
    disk["state"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_large_and_busy_disk_without_tracking_holds_up_no_other() {
    let Some(()) = able(&[]) else { return };
    let Some(()) = need(&[Tracking]) else { return };
    let (mut random, clock) = (Random::new(), Clock::start());
    let rig = Rig::new(&[("root", 2 * MIB), ("bulk", 32 * MIB)], SLOW);
    let writers: Vec<Writer> = rig
        .disks
        .iter()
        .map(|disk| Writer::start(disk.source.path(), disk.bytes, LOAD, clock, &mut random))
        .collect();
    let ends = Ends::start(&rig);
    // Its policy makes points of the one while the other is still compared.
    let left_out = ends.agent().wait_for(LONG, |line| {
        event(line).filter(|event| event["event"] == "cut" && event["left_out"][0]["disk"] == "bulk")
    });
    assert_eq!(left_out["points"].as_array().map(Vec::len), Some(1), "{left_out}");
    let early = loop {
        let (status, points) = (rig.agent(&["status"]).summary(), rig.points("root").len());
        if state_of(&status, "bulk") == "protecting" {
            println!("{status}");
            break points;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(early >= 4, "{early} points in the ten seconds and more that the other one took");
    // Small enough to be read again in a freeze, it has points with the other one.
    while rig.points("bulk").len() < 3 {
        rig.agent(&["cut"]);
    }
    let last = rig.agent(&["cut", "--name", "last"]);
    println!("{last}");
    let histories: Vec<History> = writers.into_iter().map(Writer::stop).collect();
    ends.finish(&rig);
    for (disk, history) in rig.disks.iter().zip(&histories) {
        assert!(judge_all(&rig, &disk.name, history) >= 3);
    }
}

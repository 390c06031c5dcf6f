//! `failback inspect` beside an agent and a master target at work.

use crate::fixture::Need::{LoopDevices, Program};
use crate::fixture::{Outcome, need};
use crate::protection::agent::place::Place;
use crate::protection::event;

use super::{inspect, of_kind, text};

/// A look may fall between two changes; another one does not.
fn look(arguments: &[&str]) -> Outcome {
    let look = || inspect(arguments.iter().copied().chain(["--json"]));
    let found = std::iter::repeat_with(look).take(5).find(|outcome| outcome.code() == Some(0));
    found.unwrap_or_else(|| look().expect_success())
}

#[test]
fn what_is_at_work_can_be_looked_at() {
    let Some(()) = need(&[LoopDevices, Program("mkfs.ext4"), Program("fsfreeze")]) else { return };
    let mut place = Place::new();
    let disk = place.disk("root");
    let filesystem = disk.filesystem(&place.scratch);
    let _home = place.home(&[&disk]);
    place.settings(&[&disk], "");
    let _agent = place.start();
    place.reaches("protecting");
    let [journal, home, machine, pins, run] =
        ["retention/web/root", "home", "machine", "bpf", "run"].map(|name| place.scratch.path(name));
    for fill in 1..4 {
        filesystem.write("file", 64, fill);
        place.cut(&[]);
        for view in ["pair", "journal", "records", "points", "digests"] {
            look(&[view, text(&journal)]);
        }
        look(&["state", text(&home)]);
        look(&["state", text(&machine)]);
        look(&["freeze", text(&run)]);
    }
    let points = look(&["points", text(&journal)]).events();
    assert!(points.iter().all(|point| point["chain_follows"] == true), "{points:?}");
    assert!(points.last().is_some_and(|point| point["point"]["machine_cut"].is_object()), "{points:?}");
    let owner = event(&look(&["owner", text(disk.target.path()), "--state", text(&home)]));
    assert_eq!(owner["owner"]["pair"], "web/root", "{owner}");
    let state = look(&["state", text(&machine)]).events();
    assert!(state.iter().any(|file| file["content"]["stands"]["is"] == "continuing"), "{state:?}");
    // Where this kernel tracks, a map is pinned.
    if pins.join("failback").exists() {
        let map = look(&["bitmap", "root", "--pins", text(&pins)]).events();
        assert_eq!(of_kind(&map, "bitmap")[0]["phase"], "tracking", "{map:?}");
    }

    place.agent(&["finish"]).expect_success();
    let frozen = event(&look(&["freeze", text(&run)]));
    let record = &frozen["record"];
    assert!(record["is_watched"] == true && record["is_settled"] == false, "{frozen}");
    assert_eq!(record["filesystems"][0][1], "frozen", "{frozen}");
    place.agent(&["thaw"]).expect_success();
}

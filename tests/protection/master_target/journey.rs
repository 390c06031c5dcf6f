//! A disk comes home, and goes to any of its points.

use failback_datapath::ring;
use failback_datapath::unit::Epoch;
use failback_datapath::wire::{CutKind, Intent};
use serde_json::{Value, json};

use super::home::Home;
use super::visitor::{Visitor, anew, hello};
use crate::fixture::{Model, Random};

/// The last chunk is an odd one.
const BYTES: usize = (3 << 20) + 1536;
const KEEP: &str = "free = \"1MiB\"";

/// States of the disk, each a few changes after the one before.
fn states(count: usize, random: &mut Random) -> Vec<Model> {
    let mut states = vec![Model::mixed(BYTES, random)];
    while states.len() < count {
        let mut next = states[states.len() - 1].clone();
        next.scribble(20, random);
        states.push(next);
    }
    states
}

/// Makes a point of each state, the last one final, and fences the target there.
async fn live(home: &Home, states: &[Model]) {
    let mut visitor = Visitor::connect(&home.remote(), &hello(BYTES, anew(), None)).await.expect("welcome");
    assert!(visitor.must_synchronize());
    visitor.synchronize(&states[0].bytes).await;
    visitor.cut(CutKind::Crash, "").await;
    for (index, pair) in states.windows(2).enumerate() {
        visitor.send_changes(&pair[0].bytes, &pair[1].bytes).await;
        let is_last = index + 2 == states.len();
        let kind = if is_last { CutKind::Final } else { CutKind::App };
        let epoch = visitor.cut(kind, &format!("state {}", index + 1)).await;
        if is_last {
            visitor.fence(epoch).await;
        }
    }
}

fn assert_holds(found: &[u8], state: &Model, what: &str) {
    let wrong = found.iter().zip(&state.bytes).position(|(is, should)| is != should);
    assert_eq!((found.len(), wrong), (state.bytes.len(), None), "{what}: the first wrong byte");
}

fn points(home: &Home) -> Value {
    home.run(&["points", "list", "web-1/root"]).expect_success().summary()
}

#[test]
fn a_disk_comes_home_and_goes_to_any_of_its_points() {
    let mut home = Home::new(BYTES as u64, KEEP);
    let states = states(4, &mut Random::new());
    home.start();
    assert_eq!((&home.status()["state"], &home.status()["points"]), (&json!("Corrupted"), &json!(0)));
    ring::run(live(&home, &states)).expect("a ring");
    home.hears(|event| (event["event"] == "state" && event["state"] == "Fenced").then_some(()));
    assert_holds(&home.target(), &states[3], "the target after the final point");
    let listed = points(&home);
    assert_eq!(listed["points"].as_array().map(Vec::len), Some(4), "{listed}");
    assert_eq!(listed["points"][3]["machine_cut"], json!({"number": "0000000000c00004", "disks": 1}));
    let cut = home.run(&["points", "list", "--machine-cut", "0000000000c00002"]).expect_success().summary();
    assert_eq!(
        (&cut["whole"], &cut["points"][0]["point"]["name"]),
        (&json!(true), &json!("state 1")),
        "{cut}"
    );
    copies_are_exact(&home, &states);
    let would = home.run(&["points", "rewind", "web-1/root", "1", "--dry-run"]).expect_success();
    assert_holds(&home.target(), &states[3], "the target after a rehearsal");
    assert!(would.summary()["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{would}");
    for (point, state) in [("1", 0), ("state 2", 2), ("2", 1)] {
        home.run(&["points", "rewind", "web-1/root", point]).expect_success();
        assert_holds(&home.target(), &states[state], &format!("the target at point {point}"));
    }
    assert_eq!(home.status()["detail"], "rewound to point 2");
    copies_are_exact(&home, &states);
    let committed = home.run(&["points", "commit", "web-1/root"]).expect_success().summary();
    assert!(committed["generation"].as_str().is_some_and(|name| name.ends_with(".2")), "{committed}");
    assert_holds(&home.target(), &states[1], "the target after the commit");
    assert_eq!(home.status()["state"], "Committed");
}

/// Every point can be had as an image, whatever the target holds now.
fn copies_are_exact(home: &Home, states: &[Model]) {
    for (index, state) in states.iter().enumerate() {
        let (point, file) = ((index + 1).to_string(), home.path(&format!("copy-{index}.img")));
        let copied = home.run(&["points", "copy", "web-1/root", &point, &file]).expect_success();
        assert_holds(&std::fs::read(&file).expect("read"), state, &format!("{copied}"));
        let again = home.run(&["points", "copy", "web-1/root", &point, &file]).expect_code(3);
        assert!(again.stderr.contains("cannot be made"), "{again}");
        std::fs::remove_file(&file).expect("removed");
    }
}

#[test]
fn after_a_commit_the_disk_is_protected_again_only_when_that_is_meant() {
    let mut home = Home::new(BYTES as u64, KEEP);
    let states = states(3, &mut Random::new());
    home.start();
    ring::run(live(&home, &states)).expect("a ring");
    home.run(&["points", "rewind", "web-1/root", "1"]).expect_success();
    let copy = || {
        let _earlier = std::fs::remove_file(home.path("read.img"));
        home.run_plain(&["sync", &home.path("target.img"), &home.path("read.img"), "--create", "--json"])
            .expect_success()
            .stdout
    };
    assert!(copy().contains("owned-source"), "a rewound target is nobody's disk yet");
    home.run(&["points", "commit", "web-1/root"]).expect_success();
    assert!(!copy().contains("owned-source"), "a committed one is");
    ring::run(async {
        let refused = Visitor::connect(&home.remote(), &hello(BYTES, anew(), None)).await.err();
        assert!(refused.is_some_and(|error| error.to_string().contains("takes no agent now")));
        assert_holds(&home.target(), &states[0], "the target after a refusal");
        // The machine runs at home for a while, on a disk that is its own by now.
        let mut run = states[0].bytes.clone();
        run[..1 << 20].fill(0x77);
        std::fs::write(home.path("target.img"), run).expect("written");
        home.run(&["master-target", "unfence", "web-1/root"]).expect_success();
        let mut visitor =
            Visitor::connect(&home.remote(), &hello(BYTES, anew(), None)).await.expect("welcome");
        assert!(visitor.must_synchronize() && visitor.generation().number == 2);
        let sent = visitor.synchronize(&states[2].bytes).await;
        assert!(sent > 0 && sent < BYTES / 4096, "{sent} chunks were sent");
        visitor.cut(CutKind::Crash, "").await;
    })
    .expect("a ring");
    assert_holds(&home.target(), &states[2], "the target after all");
}

/// What differs from the last of `states` wherever one of them differs from the
/// one before: a chunk that was written and holds again what it did was written
/// all the same, and an agent sends it.
fn before_all_writes(states: &[Model]) -> Vec<u8> {
    let mut before = states[states.len() - 1].bytes.clone();
    for pair in states.windows(2) {
        for (index, (old, new)) in pair[0].bytes.iter().zip(&pair[1].bytes).enumerate() {
            if old != new {
                before[index] = !states[states.len() - 1].bytes[index];
            }
        }
    }
    before
}

#[test]
fn a_killed_master_target_goes_on_where_it_was_durable() {
    let mut home = Home::new(BYTES as u64, KEEP);
    let states = states(3, &mut Random::new());
    home.start();
    let position = ring::run(async {
        let mut visitor =
            Visitor::connect(&home.remote(), &hello(BYTES, anew(), None)).await.expect("welcome");
        visitor.synchronize(&states[0].bytes).await;
        visitor.cut(CutKind::Crash, "").await;
        visitor.send_changes(&states[0].bytes, &states[1].bytes).await;
        let position = visitor.position();
        home.kill();
        position
    })
    .expect("a ring");
    home.start();
    ring::run(async {
        let protect = hello(BYTES, Intent::Continue, Some(position));
        let mut visitor = Visitor::connect(&home.remote(), &protect).await.expect("welcome");
        assert!(!visitor.must_synchronize());
        assert!(visitor.position().landed <= position.landed && visitor.position().epoch == Epoch(2));
        // What was not called durable is sent again, with what came since.
        visitor.send_changes(&before_all_writes(&states), &states[2].bytes).await;
        visitor.cut(CutKind::Crash, "").await;
    })
    .expect("a ring");
    let stopped = home.stop().expect_success();
    assert!(stopped.stdout.contains("Disconnected"), "{stopped}");
    for (point, state) in [("1", 0), ("2", 2)] {
        let file = home.path("copy.img");
        home.run(&["points", "copy", "web-1/root", point, &file]).expect_success();
        assert_holds(&std::fs::read(&file).expect("read"), &states[state], point);
        std::fs::remove_file(&file).expect("removed");
    }
}

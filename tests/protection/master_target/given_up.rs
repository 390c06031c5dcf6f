//! A synchronization that an operator gives up.

use std::fs;

use failback_datapath::ring;
use failback_datapath::wire::{CutKind, Intent};
use serde_json::json;

use super::home::Home;
use super::visitor::{Visitor, anew, hello};
use crate::fixture::{Model, Random};

const BYTES: usize = (1 << 20) + 512;
const KEEP: &str = "free = \"1MiB\"";

async fn connect(home: &Home) -> Visitor {
    Visitor::connect(&home.remote(), &hello(BYTES, anew(), None)).await.expect("welcome")
}

/// Nobody gets the target as a disk, and who reads it is told.
fn assert_is_no_disk(home: &Home, state: &str) {
    let (target, copy) = (home.path("target.img"), home.path("fuzzy.img"));
    let refused = home.run_plain(&["image", "attach", &target]).expect_code(3);
    assert!(refused.stderr.contains(state) && refused.stderr.contains("points copy"), "{refused}");
    let read = home.run_plain(&["sync", &target, &copy, "--create", "--json"]).expect_success();
    assert!(read.stdout.contains("owned-source") && read.stdout.contains(state), "{read}");
    fs::remove_file(copy).expect("it was made");
}

#[test]
fn a_first_synchronization_that_is_given_up_leaves_no_disk() {
    let mut home = Home::new(BYTES as u64, KEEP);
    let content = Model::mixed(BYTES, &mut Random::new());
    home.start();
    let early = home.run(&["master-target", "cancel", "web-1/root"]).expect_code(1);
    assert!(early.stderr.contains("has no journal"), "{early}");
    ring::run(async {
        let mut visitor = connect(&home).await;
        visitor.synchronize(&content.bytes).await;
        let cancelled = home.run(&["master-target", "cancel", "web-1/root"]).expect_success().summary();
        assert_eq!(cancelled, json!({"event": "cancelled", "pair": "web-1/root", "is_disk": false}));
    })
    .expect("a ring");
    let status = home.status();
    assert_eq!(status["state"], "Corrupted", "{status}");
    assert!(status["detail"].as_str().is_some_and(|text| text.contains("given up")), "{status}");
    let file = home.path("copy.img");
    let refused = home.run(&["points", "copy", "web-1/root", "newest", &file]).expect_code(3);
    assert!(refused.stderr.contains("no such point"), "{refused}");
    home.run(&["master-target", "fence", "web-1/root"]).expect_code(3);
    assert_is_no_disk(&home, "corrupted");
    // What was given up may be given up again, and begins anew.
    home.run(&["master-target", "cancel", "web-1/root"]).expect_success();
    ring::run(async {
        let mut visitor = connect(&home).await;
        assert!(visitor.must_synchronize());
        visitor.synchronize(&content.bytes).await;
        visitor.cut(CutKind::Crash, "").await;
    })
    .expect("a ring");
    home.run(&["points", "copy", "web-1/root", "newest", &file]).expect_success();
    assert!(fs::read(&file).expect("read") == content.bytes);
    let none = home.run(&["master-target", "cancel", "web-1/root"]).expect_code(3);
    assert!(none.stderr.contains("none is running"), "{none}");
}

#[test]
fn a_resynchronization_that_is_given_up_goes_back_to_the_last_point() {
    let mut home = Home::new(BYTES as u64, KEEP);
    let mut random = Random::new();
    let (first, other) = (Model::mixed(BYTES, &mut random), Model::mixed(BYTES, &mut random));
    let mut second = first.clone();
    second.scribble(20, &mut random);
    home.start();
    let position = ring::run(async {
        let mut visitor = connect(&home).await;
        visitor.synchronize(&first.bytes).await;
        visitor.cut(CutKind::Crash, "").await;
        visitor.send_changes(&first.bytes, &second.bytes).await;
        visitor.cut(CutKind::App, "the last").await;
        visitor.position()
    })
    .expect("a ring");
    ring::run(async {
        let mut visitor = connect(&home).await;
        assert!(visitor.must_synchronize() && visitor.synchronize(&other.bytes).await > 0);
        home.hears(|event| {
            (event["state"] == "Resyncing").then(|| assert_eq!(event["reason"], "new", "{event}"))
        });
        assert!(home.status()["detail"].as_str().is_some_and(|detail| detail.contains("(new)")));
        let cancelled = home.run(&["master-target", "cancel", "web-1/root"]).expect_success().summary();
        assert_eq!(cancelled["is_disk"], json!(true), "{cancelled}");
    })
    .expect("a ring");
    assert!(home.target() == second.bytes, "the target does not hold its last point");
    let listed = home.run(&["points", "list", "web-1/root"]).expect_success().summary();
    assert_eq!(listed["points"].as_array().map(Vec::len), Some(2), "{listed}");
    ring::run(async {
        let stale = hello(BYTES, Intent::Continue, Some(position));
        assert!(Visitor::connect(&home.remote(), &stale).await.is_err(), "it is another generation");
        assert_eq!(connect(&home).await.generation().number, 2);
    })
    .expect("a ring");
}

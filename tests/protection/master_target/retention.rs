//! What is kept for how long, and what happens when there is no room.

use std::time::Duration;

use failback_datapath::ring;
use failback_datapath::wire::CutKind;
use serde_json::json;

use super::home::Home;
use super::visitor::{Visitor, anew, hello};
use crate::fixture::{Model, Random};

#[test]
fn points_that_are_too_old_go_and_the_newest_stays() {
    const BYTES: usize = 1 << 20;
    let mut home = Home::new(BYTES as u64, "time = \"1s\"\nfree = \"1MiB\"");
    home.start();
    let mut content = Model::mixed(BYTES, &mut Random::new());
    ring::run(async {
        let mut visitor =
            Visitor::connect(&home.remote(), &hello(BYTES, anew(), None)).await.expect("welcome");
        visitor.synchronize(&content.bytes).await;
        visitor.cut(CutKind::Crash, "").await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let before = content.clone();
        content.scribble(3, &mut Random::new());
        visitor.send_changes(&before.bytes, &content.bytes).await;
        visitor.cut(CutKind::Crash, "").await;
    })
    .expect("a ring");
    let points = home.hears(|event| (event["event"] == "expired").then(|| event["points"].clone()));
    assert_eq!(points, json!([1]));
    assert_eq!(home.status()["newest"]["epoch"], 2);
    assert!(home.target() == content.bytes);
}

#[test]
fn a_full_journal_holds_the_agent_back_with_an_alarm_and_loses_nothing() {
    const BYTES: usize = 64 << 20;
    // Room for the smallest segments, and for less than the whole disk changes.
    let mut home = Home::new(BYTES as u64, "space = \"24MiB\"\nfree = \"1MiB\"");
    home.start();
    let mut random = Random::new();
    let first = Model::random(BYTES, &mut random);
    let second = Model::random(BYTES, &mut random);
    ring::run(async {
        let mut visitor =
            Visitor::connect(&home.remote(), &hello(BYTES, anew(), None)).await.expect("welcome");
        visitor.synchronize(&first.bytes).await;
        visitor.cut(CutKind::Crash, "").await;
        let chunks: Vec<u64> = (0..(BYTES as u64 / 4096)).collect();
        // As many as an agent has credit for share one look at the room there is.
        let much = async {
            for some in chunks.chunks(1000) {
                visitor.submit(&second.bytes, some).await;
            }
        };
        // It stops reading, unless what is left fits between the two.
        let _taken = tokio::time::timeout(Duration::from_secs(3), much).await;
        home.alarms("until there is room");
    })
    .expect("a ring");
    home.stop().expect_success();
    let file = home.path("copy.img");
    home.run(&["points", "copy", "web-1/root", "1", &file]).expect_success();
    assert!(std::fs::read(&file).expect("read") == first.bytes, "point 1 is not what it was");
}

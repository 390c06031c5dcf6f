//! What is kept for how long, and what happens when there is no room.

use std::time::Duration;

use failback_datapath::ring;
use failback_datapath::wire::{CutKind, Protect};
use serde_json::json;

use super::home::Home;
use super::visitor::{Visitor, anew, hello};
use crate::fixture::{LoopDevice, Model, Random};
use crate::protection::rig::{Filesystem, able};

const MIB: usize = 1 << 20;

/// A disk, and what goes on there: each epoch changes the most of it.
const DISK: usize = 8 * MIB;
const EPOCH: usize = 6 * MIB;

/// Makes points of a disk that changes all the time.
async fn make_points(visitor: &mut Visitor, content: &mut Model, random: &mut Random, count: usize) {
    for _ in 0..count {
        let before = content.bytes.clone();
        random.fill(&mut content.bytes[..EPOCH]);
        visitor.send_changes(&before, &content.bytes).await;
        visitor.cut(CutKind::Crash, "").await;
    }
}

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

/// A retention volume of its own, with less room than points of a day take, and a
/// floor that is far below what one more segment takes.
fn on_a_small_volume() -> Option<(Home, Filesystem, LoopDevice)> {
    able(&["mkfs.ext4", "fsfreeze"])?;
    let home = Home::new(DISK as u64, "free = \"64KiB\"");
    let below = LoopDevice::attach(&home.scratch().image("volume", 64 * MIB as u64), 512);
    let volume = Filesystem::make("ext4", below.path(), home.scratch().path("retention"));
    Some((home, volume, below))
}

#[test]
fn a_volume_that_refuses_a_segment_gets_it_from_the_oldest_points() {
    let Some((mut home, _volume, _below)) = on_a_small_volume() else { return };
    home.start();
    let mut random = Random::new();
    let mut content = Model::random(DISK, &mut random);
    ring::run(async {
        let mut visitor =
            Visitor::connect(&home.remote(), &hello(DISK, anew(), None)).await.expect("welcome");
        visitor.synchronize(&content.bytes).await;
        visitor.cut(CutKind::Crash, "").await;
        make_points(&mut visitor, &mut content, &mut random, 16).await;
    })
    .expect("a ring");
    let points = home.hears(|event| (event["event"] == "expired").then(|| event["points"].clone()));
    assert_eq!(points[0], 1, "the oldest goes first: {points}");
    let status = home.status();
    assert_eq!(status["newest"]["epoch"], 17);
    assert!(status["points"].as_u64().is_some_and(|points| (2..16).contains(&points)), "{status}");
    assert_eq!(status["alarms"], json!([]), "it went on by itself");
    home.stop().expect_success();
    let file = home.path("copy.img");
    home.run(&["points", "copy", "web-1/root", "17", &file]).expect_success();
    assert!(std::fs::read(&file).expect("read") == content.bytes);
}

#[test]
fn a_journal_without_points_to_give_gets_room_from_the_others() {
    let Some((mut home, _volume, _below)) = on_a_small_volume() else { return };
    home.scratch().image("data.img", DISK as u64);
    let settings = std::fs::read_to_string(home.config()).expect("read");
    let more = format!("[[pair]]\nname = \"web-1/data\"\ntarget = \"{}\"\n", home.path("data.img"));
    std::fs::write(home.config(), settings + &more).expect("written");
    home.start();
    let mut random = Random::new();
    let mut content = Model::random(DISK, &mut random);
    let before = ring::run(async {
        let mut first = Visitor::connect(&home.remote(), &hello(DISK, anew(), None)).await.expect("welcome");
        first.synchronize(&content.bytes).await;
        first.cut(CutKind::Crash, "").await;
        make_points(&mut first, &mut content, &mut random, 16).await;
        let before = points_of_both(&home);
        drop(first);
        // Its journal has no room to begin with, either.
        let disk = Protect { disk: "data".to_owned(), ..hello(DISK, anew(), None) };
        let mut second = loop {
            match Visitor::connect(&home.remote(), &disk).await {
                Ok(visitor) => break visitor,
                Err(refused) => println!("{refused}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        second.synchronize(&content.bytes).await;
        second.cut(CutKind::Crash, "").await;
        make_points(&mut second, &mut content, &mut random, 4).await;
        before
    })
    .expect("a ring");
    let after = points_of_both(&home);
    assert!(before[1] > after[1] && after[1] >= 1, "{before:?}, then {after:?}");
    let file = home.path("copy.img");
    home.stop().expect_success();
    home.run(&["points", "copy", "web-1/data", "5", &file]).expect_success();
    assert!(std::fs::read(&file).expect("read") == content.bytes);
    home.run(&["points", "copy", "web-1/root", "17", &home.path("root.img")]).expect_success();
}

/// How many points each pair has, by name.
fn points_of_both(home: &Home) -> Vec<u64> {
    let status = home.run(&["master-target", "status"]).expect_success().summary();
    let pairs = status["pairs"].as_array().expect("there are two");
    pairs.iter().map(|pair| pair["points"].as_u64().expect("a number")).collect()
}

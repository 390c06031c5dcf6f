//! Targets that somebody writes to while no agent is there: points that hold what
//! they wrote are never taken for what was cut.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use failback_datapath::ring;
use failback_datapath::wire::{CutKind, Intent, Position};

use super::home::Home;
use super::visitor::{Visitor, hello};
use crate::fixture::{Model, Outcome, Random};

const BYTES: usize = 2 << 20;
const PAIR: &str = "web-1/root";

/// A pair with the points `first` and `last`, whose agent has gone; its newest content.
fn left(random: &mut Random) -> (Home, Model, Position) {
    let mut home = Home::new(BYTES as u64, "free = \"1MiB\"");
    let first = Model::mixed(BYTES, random);
    let mut last = first.clone();
    last.scribble(20, random);
    home.start();
    let position = ring::run(async {
        let mut visitor = Visitor::connect(&home.remote(), &hello(BYTES, super::visitor::anew(), None))
            .await
            .expect("welcome");
        visitor.synchronize(&first.bytes).await;
        visitor.cut(CutKind::Crash, "first").await;
        visitor.send_changes(&first.bytes, &last.bytes).await;
        visitor.cut(CutKind::App, "last").await;
        visitor.position()
    })
    .expect("a ring");
    home.stop().expect_success();
    (home, last, position)
}

/// As a mount does, in a place that no point knows of.
fn write(home: &Home, random: &mut Random) {
    let mut bytes = [0; 4096];
    random.fill(&mut bytes);
    let file = OpenOptions::new().write(true).open(home.path("target.img")).expect("it is there");
    file.write_all_at(&bytes, 1 << 20).and_then(|()| file.sync_all()).expect("it can be written");
}

fn is_exact(home: &Home, point: usize) -> bool {
    let listed = home.run(&["points", "list", PAIR]).expect_success().summary();
    listed["points"][point]["exact"].as_bool().expect("it says so")
}

fn expect_not_exact(refused: Outcome) {
    let refused = refused.expect_code(3);
    assert!(refused.stderr.contains("not exact") && refused.stderr.contains("--accept-writes"), "{refused}");
}

#[test]
fn a_point_that_was_written_into_is_refused_wherever_it_is_asked_for() {
    let mut random = Random::new();
    let (mut home, last, _) = left(&mut random);
    let copy = home.path("copy.img");
    write(&home, &mut random);
    // Nobody has opened it since, and nothing is noted yet.
    expect_not_exact(home.run(&["points", "copy", PAIR, "last", &copy]));
    home.start();
    home.run(&["master-target", "fence", PAIR]).expect_success();
    for asked in [
        &["points", "rewind", PAIR, "first"][..],
        &["points", "rewind", PAIR, "last", "--dry-run"],
        &["points", "copy", PAIR, "first", &copy],
        &["points", "commit", PAIR],
    ] {
        expect_not_exact(home.run(asked));
    }
    assert!(!is_exact(&home, 0) && !is_exact(&home, 1));
    let shown = home.run_plain(&["points", "show", PAIR, "last", "--retention", &home.path("retention")]);
    assert!(shown.expect_success().stdout.contains("others wrote"));
    // Whoever knows what it is may have it.
    home.run(&["points", "copy", PAIR, "last", &copy, "--accept-writes"]).expect_success();
    let (held, sound) = (fs::read(&copy).expect("read"), &last.bytes);
    assert!(held[..1 << 20] == sound[..1 << 20] && held != *sound);
    home.run(&["points", "rewind", PAIR, "first", "--accept-writes"]).expect_success();
    assert!(!is_exact(&home, 2), "a rewind is no better than where it went");
    expect_not_exact(home.run(&["points", "commit", PAIR]));
    home.run(&["points", "commit", PAIR, "--accept-writes"]).expect_success();
}

#[test]
fn a_fence_does_not_hide_that_the_disks_must_be_compared() {
    let mut random = Random::new();
    let (mut home, last, position) = left(&mut random);
    write(&home, &mut random);
    home.start();
    home.run(&["master-target", "fence", PAIR]).expect_success();
    home.run(&["master-target", "unfence", PAIR]).expect_success();
    ring::run(async {
        let again = hello(BYTES, Intent::Continue, Some(position));
        let mut visitor = Visitor::connect(&home.remote(), &again).await.expect("welcome");
        assert!(visitor.must_synchronize(), "it would go on with a target that is not its source");
        assert!(visitor.synchronize(&last.bytes).await > 0);
        visitor.cut(CutKind::Crash, "compared").await;
    })
    .expect("a ring");
    assert!(home.target() == last.bytes);
    assert!(!is_exact(&home, 1) && is_exact(&home, 2), "what is cut from now on is exact");
    home.run(&["master-target", "fence", PAIR]).expect_success();
    expect_not_exact(home.run(&["points", "rewind", PAIR, "last"]));
    home.run(&["points", "commit", PAIR]).expect_success();
}

#[test]
fn a_journal_that_was_cut_off_is_found_out() {
    let mut random = Random::new();
    let (home, _, _) = left(&mut random);
    let folder = home.scratch().path("retention").join(PAIR);
    let mut segments: Vec<_> = fs::read_dir(&folder)
        .expect("a journal")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("segment-")))
        .collect();
    segments.sort();
    let file = OpenOptions::new().write(true).open(segments.last().expect("one")).expect("it opens");
    let whole = file.metadata().expect("a size").len();
    file.set_len(whole - 4096).expect("cut off");
    let refused = home.run(&["points", "copy", PAIR, "last", &home.path("copy.img")]).expect_code(3);
    assert!(refused.stderr.contains("was made") && refused.stderr.contains("segment-"), "{refused}");
}

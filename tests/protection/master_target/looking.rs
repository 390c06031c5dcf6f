//! Looking at points changes no byte: of target, journal or state.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use failback_datapath::ring;
use failback_datapath::wire::CutKind;

use super::home::Home;
use super::visitor::{Visitor, anew, hello};
use crate::fixture::{Model, Random};

const BYTES: usize = (2 << 20) + 512;

/// Everything below a folder: when it changed, and what it holds.
type Snapshot = BTreeMap<PathBuf, (i64, i64, Vec<u8>)>;

fn snapshot(folder: &Path) -> Snapshot {
    let mut found = Snapshot::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let metadata = fs::symlink_metadata(&path).expect("there");
            let bytes = if metadata.is_file() { fs::read(&path).expect("read") } else { Vec::new() };
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path, (metadata.mtime(), metadata.mtime_nsec(), bytes));
        }
    }
    found
}

/// Runs `look`, and holds it to its word.
fn changes_nothing(home: &Home, what: &str, look: impl FnOnce()) {
    let folders = ["retention", "state"].map(|name| PathBuf::from(home.path(name)));
    let all = || {
        let mut all: Snapshot = folders.iter().flat_map(|folder| snapshot(folder)).collect();
        let target = fs::metadata(home.path("target.img")).expect("there");
        all.insert("target.img".into(), (target.mtime(), target.mtime_nsec(), home.target()));
        all
    };
    let before = all();
    look();
    let after = all();
    let names = |snapshot: &Snapshot| snapshot.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before), "{what}: files came or went");
    let changed = before.iter().filter(|(path, was)| after.get(*path) != Some(*was));
    let changed: Vec<_> = changed.map(|(path, _)| path).collect();
    assert!(changed.is_empty(), "{what} changed {changed:?}");
}

fn copies(home: &Home, point: &str, content: &[u8]) {
    let file = home.path("copy.img");
    changes_nothing(home, "points copy", || {
        home.run(&["points", "copy", "web-1/root", point, &file]).expect_success();
    });
    let copy = fs::read(&file).expect("read");
    let wrong = copy.iter().zip(content).position(|(is, should)| is != should);
    assert_eq!((copy.len(), wrong), (content.len(), None), "point {point}: the first wrong byte");
    fs::remove_file(&file).expect("removed");
}

fn rehearses(home: &Home, code: i32) {
    changes_nothing(home, "points rewind --dry-run", || {
        home.run(&["points", "rewind", "web-1/root", "1", "--dry-run"]).expect_code(code);
    });
}

#[test]
fn a_copy_and_a_rehearsal_change_no_byte_and_no_time() {
    let mut home = Home::new(BYTES as u64, "free = \"1MiB\"");
    let mut random = Random::new();
    let first = Model::mixed(BYTES, &mut random);
    let mut second = first.clone();
    second.scribble(20, &mut random);
    let mut third = second.clone();
    third.scribble(20, &mut random);
    home.start();
    ring::run(async {
        let mut visitor =
            Visitor::connect(&home.remote(), &hello(BYTES, anew(), None)).await.expect("welcome");
        visitor.synchronize(&first.bytes).await;
        visitor.cut(CutKind::Crash, "").await;
        visitor.send_changes(&first.bytes, &second.bytes).await;
        visitor.cut(CutKind::Crash, "").await;
        // An epoch in its middle, for which nothing was brought in order.
        visitor.send_changes(&second.bytes, &third.bytes).await;
        home.kill();
    })
    .expect("a ring");
    copies(&home, "1", &first.bytes);
    copies(&home, "2", &second.bytes);
    rehearses(&home, 3);
    home.run(&["master-target", "fence", "web-1/root"]).expect_success();
    rehearses(&home, 0);
    home.run(&["points", "rewind", "web-1/root", "1"]).expect_success();
    copies(&home, "2", &second.bytes);
    rehearses(&home, 0);
    home.run(&["points", "commit", "web-1/root"]).expect_success();
    copies(&home, "2", &second.bytes);
}

#[test]
fn nobody_looks_while_somebody_writes_and_several_look_at_once() {
    use failback_datapath::journal::{Directory, DirectoryError};
    let mut home = Home::new(BYTES as u64, "free = \"1MiB\"");
    let content = Model::mixed(BYTES, &mut Random::new());
    home.start();
    ring::run(async {
        let mut visitor =
            Visitor::connect(&home.remote(), &hello(BYTES, anew(), None)).await.expect("welcome");
        visitor.synchronize(&content.bytes).await;
        visitor.cut(CutKind::Crash, "").await;
        let file = home.path("copy.img");
        let refused = home.run(&["points", "copy", "web-1/root", "1", &file]).expect_code(3);
        assert!(refused.stderr.contains("in use by"), "{refused}");
    })
    .expect("a ring");
    home.stop().expect_success();
    let journal = PathBuf::from(home.path("retention")).join("web-1/root");
    let _looks = Directory::open_shared(&journal).expect("nobody writes");
    copies(&home, "1", &content.bytes);
    let Err(DirectoryError::InUse { holder, .. }) = Directory::open(&journal, "a test") else {
        panic!("somebody writes what is looked at");
    };
    assert_eq!(holder, "a command that reads it");
}

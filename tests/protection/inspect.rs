//! `failback inspect` over journals, maps and state folders that were really
//! written.

mod alive;
mod hostile;
mod tracked;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use failback_datapath::disk::storage::{Identity, identity};
use failback_datapath::journal::Directory;
use failback_datapath::landing::{MarkBody, Owner, StateDirectory};
use failback_datapath::ring;
use failback_datapath::unit::Epoch;
use serde_json::{Value, json};

use crate::fixture::{Outcome, Random, Scratch};
use crate::replica::life::Life;
use crate::replica::place::{DISK_BYTES, Home};

use super::{event, failback};

/// Points of the journals here: enough for an index that was merged, and for
/// rewinds.
const POINTS: u64 = 18;

/// Runs `failback inspect`.
fn inspect<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Outcome {
    let arguments: Vec<&str> = ["inspect"].into_iter().chain(arguments).collect();
    failback(&arguments)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("in UTF-8")
}

/// The journal of a replica that lived for a while.
fn journal(scratch: &Scratch, points: u64, random: &mut Random) -> PathBuf {
    let home = Home::new(&scratch.image("target", DISK_BYTES as u64), scratch.root());
    let mut life = Life::new(random.number());
    let lived = async {
        let mut replica = home.enter().await;
        life.live(&mut replica, &home, Epoch(points)).await;
    };
    ring::run(lived).expect("there is io_uring");
    home.journal
}

/// Names, sizes, times and bytes of all files in a folder.
fn everything(folder: &Path) -> Vec<(PathBuf, i64, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("it can be read").flatten();
    let mut files: Vec<_> = entries
        .map(|entry| {
            let path = entry.path();
            let changed = entry.metadata().expect("it is there").mtime_nsec();
            let bytes = fs::read(&path).expect("it can be read");
            (path, changed, bytes)
        })
        .collect();
    files.sort();
    files
}

/// The events of one kind.
fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

#[test]
fn every_file_of_a_journal_is_shown_and_none_is_changed() {
    let (scratch, mut random) = (Scratch::new(), Random::new());
    let journal = journal(&scratch, POINTS, &mut random);
    // Whoever writes the journal holds its lock.
    let _held = Directory::open(&journal, "a master target").expect("the lock is free");
    let before = everything(&journal);
    let folder = text(&journal);

    let pair = event(&inspect(["pair", folder, "--json"]).expect_success());
    assert_eq!((&pair["pair"]["machine"], &pair["pair"]["state"]), (&json!("web"), &json!("protected")));

    let files = inspect(["journal", folder, "--json"]).expect_success().events();
    let shown = of_kind(&files, "file");
    assert_eq!(shown.len(), before.len(), "{files:?}");
    assert!(shown.iter().all(|file| file["good"] == true), "{files:?}");
    let points = of_kind(&files, "journal")[0]["journal"]["points"].as_array().expect("points").len();
    assert!(points as u64 >= POINTS);

    let records = inspect(["records", folder, "--limit", "100000", "--json"]).expect_success().events();
    let is_point = |event: &&Value| event.pointer("/record/body/point").is_some();
    assert_eq!(records.iter().filter(is_point).count(), points);
    assert!(
        records.iter().any(|event| event.pointer("/record/body/batch/entries").is_some_and(Value::is_u64))
    );
    assert_eq!(of_kind(&records, "log")[0]["whole"], true);

    let recorded = inspect(["points", folder, "--json"]).expect_success().events();
    assert_eq!(recorded.len(), points);
    assert!(recorded.iter().all(|point| point["chain_follows"] == true), "{recorded:?}");

    let digests = inspect(["digests", folder, "--limit", "100000", "--json"]).expect_success().events();
    let known = of_kind(&digests, "digest").len();
    let digests = of_kind(&digests, "digests")[0];
    assert_eq!((&digests["torn_pages"], &digests["known"]), (&json!(0), &json!(known)));
    assert!(known > 0 && digests["chunks"].as_u64().is_some_and(|chunks| known as u64 <= chunks));

    let all: Vec<Outcome> = ["pair", "journal", "records", "points", "digests"]
        .into_iter()
        .flat_map(|view| [inspect([view, folder]), inspect([view, folder, "--json"])])
        .collect();
    assert!(all.iter().all(|outcome| !outcome.to_string().contains(&"09".repeat(16))), "the key is shown");
    assert!(all.iter().all(|outcome| outcome.code() == Some(0)));
    assert_eq!(everything(&journal), before);
}

#[test]
fn every_entry_of_an_index_is_shown() {
    let (scratch, mut random) = (Scratch::new(), Random::new());
    let journal = journal(&scratch, POINTS, &mut random);
    let mut kinds = Vec::new();
    for (path, ..) in everything(&journal) {
        if path.extension().is_none_or(|extension| extension != "index") {
            continue;
        }
        let events = inspect(["index", text(&path), "--limit", "100000", "--json"]).expect_success().events();
        let header = &of_kind(&events, "index")[0]["header"];
        assert_eq!(header["entries"], of_kind(&events, "entry").len(), "{}", path.display());
        assert_eq!(of_kind(&events, "whole")[0]["verified"], true);
        let chunks = of_kind(&events, "entry")
            .iter()
            .map(|event| event["entry"]["chunk"].as_u64())
            .collect::<Vec<_>>();
        assert!(chunks.is_sorted());
        let unverified = inspect(["index", text(&path), "--unverified", "--limit", "2", "--json"]);
        assert_eq!(unverified.expect_success().events().last().expect("a verdict")["verified"], false);
        kinds.push(header["kind"].as_str().expect("text").to_owned());
    }
    assert!(kinds.contains(&"merged".to_owned()) && kinds.contains(&"epoch".to_owned()), "{kinds:?}");
}

#[test]
fn rows_are_passed_over_and_bounded() {
    let (scratch, mut random) = (Scratch::new(), Random::new());
    let journal = journal(&scratch, 4, &mut random);
    let folder = text(&journal);
    let all = inspect(["records", folder, "--limit", "100000", "--json"]).expect_success().events();
    let all = of_kind(&all, "record").into_iter().cloned().collect::<Vec<_>>();
    let some =
        inspect(["records", folder, "--skip", "2", "--limit", "3", "--json"]).expect_success().events();
    assert_eq!(of_kind(&some, "record").into_iter().cloned().collect::<Vec<_>>(), all[2..5]);
    assert_eq!(of_kind(&some, "more"), [&json!({"event": "more", "skip": 5})]);
    let people = inspect(["records", folder, "--limit", "1"]).expect_success();
    assert!(people.stdout.contains("there is more: --skip 1 goes on"), "{people}");
    let entries = inspect(["records", folder, "--entries", "--limit", "100000"]).expect_success();
    assert!(entries.stdout.contains("before: segment 1 at "), "{entries}");
    let none = inspect(["records", folder, "--segment", "99"]).expect_code(3);
    assert!(none.stderr.contains("segment-00000099"), "{none}");
}

#[test]
fn what_is_damaged_is_told_with_its_place() {
    let (scratch, mut random) = (Scratch::new(), Random::new());
    let journal = journal(&scratch, POINTS, &mut random);
    let folder = text(&journal);
    let flip = |name: &str, at: usize| {
        let path = journal.join(name);
        let mut bytes = fs::read(&path).expect("it is there");
        bytes[at] ^= 1;
        fs::write(&path, bytes).expect("it can be written");
    };

    // Some epoch changed nothing: its index is a header.
    let names = (1..=POINTS).map(|epoch| format!("epoch-{epoch:012}.index"));
    let is_long = |name: &String| journal.join(name).metadata().is_ok_and(|file| file.len() > 4096);
    let index = &names.into_iter().find(is_long).expect("an epoch changed something");
    flip(index, 4096 + 100);
    let damaged = inspect(["index", text(&journal.join(index))]).expect_code(1);
    assert!(damaged.stderr.contains("at byte 4096: its checksum does not fit"), "{damaged}");
    flip(index, 4096 + 100);

    flip("digests", 2 * 4096 + 100);
    let torn = inspect(["digests", folder, "--json"]).expect_success().events();
    assert_eq!(of_kind(&torn, "digests")[0]["torn_pages"], 1);
    flip("digests", 2 * 4096 + 100);

    let records = inspect(["records", folder, "--segment", "1", "--json"]).expect_success().events();
    let second = of_kind(&records, "record")[1]["record"]["position"].as_u64().expect("a number");
    flip("segment-00000001", usize::try_from(second).expect("small") + 90);
    let gap = inspect(["records", folder, "--segment", "1", "--json"]).expect_success().events();
    assert_eq!(
        (&gap[1]["event"], &gap[1]["from"], &gap[1]["zeroes"]),
        (&json!("gap"), &json!(second), &json!(false))
    );
    assert_eq!(of_kind(&gap, "record")[1], of_kind(&records, "record")[2], "what lies behind is still shown");
    flip("segment-00000001", usize::try_from(second).expect("small") + 90);

    flip("pair", 60);
    let lost = inspect(["journal", folder]).expect_code(1);
    assert!(lost.stdout.contains("not verified: the pair cannot be read"), "{lost}");
    let unverified = inspect(["records", folder, "--unverified", "--json"]).expect_success().events();
    assert!(of_kind(&unverified, "record").len() > 1);
    inspect(["records", folder]).expect_code(1);
    flip("pair", 60);

    let newest = fs::read_dir(&journal).expect("it can be read").flatten().map(|entry| entry.path());
    let newest = newest.filter(|path| text(path).contains("/epoch-")).max().expect("an index");
    fs::rename(journal.join(index), journal.join("epoch-000000000900.index")).expect("it can be renamed");
    let renamed = inspect(["journal", folder]).expect_code(1);
    assert!(renamed.stderr.contains(index), "{renamed}");
    assert!(renamed.stdout.contains(newest.file_name().and_then(|name| name.to_str()).expect("a name")));
}

#[test]
fn what_is_no_journal_is_refused() {
    let scratch = Scratch::new();
    let empty = scratch.folder("empty");
    for view in ["pair", "journal", "records", "points", "digests"] {
        inspect([view, text(&empty)]).expect_code(3);
        inspect([view, text(&scratch.path("missing"))]).expect_code(3);
        inspect([view, text(&scratch.file("file", "letters"))]).expect_code(3);
    }
    inspect(["index", text(&empty)]).expect_code(3);
    inspect(["freeze", text(&scratch.file("file", "letters"))]).expect_code(1);
    let none = inspect(["freeze", text(&empty)]).expect_success();
    assert!(none.stdout.contains("no freeze is recorded"), "{none}");
}

fn identity_of(path: &Path) -> Identity {
    identity(path, &File::open(path).expect("it is there")).expect("an image has an identity")
}

#[test]
fn marks_and_owners_are_shown() {
    let scratch = Scratch::new();
    let (unfinished, owned) = (scratch.image("unfinished", 1 << 20), scratch.image("owned", 1 << 20));
    let folder = scratch.path("state");
    let state = StateDirectory::new(folder.clone());
    let mark = MarkBody::new(text(&unfinished).to_owned(), "/dev/vda".to_owned(), 1 << 20, true);
    state.begin(&identity_of(&unfinished), mark).expect("a mark");
    let retention = scratch.path("retention/web-1/root");
    let owner = Owner::new(&identity_of(&owned), 1 << 20, owned.clone(), retention, ("web-1", "root"));
    let _owned = state.own(&identity_of(&owned), &owner).expect("nobody owns it");

    let shown = inspect(["state", text(&folder), "--json"]).expect_success().events();
    assert_eq!(shown.len(), 2);
    let sources: Vec<&Value> = shown.iter().map(|event| &event["content"]["source"]).collect();
    assert!(sources.contains(&&json!("/dev/vda")), "{shown:?}");
    let people = inspect(["state", text(&folder)]).expect_success();
    assert!(people.stdout.contains("owner of a disk") && people.stdout.contains("/dev/vda"), "{people}");

    let state = ["--state", text(&folder)];
    let of = |disk: &Path| {
        event(&inspect(["owner", text(disk), "--json"].into_iter().chain(state)).expect_success())
    };
    assert_eq!(of(&owned)["owner"]["pair"], "web-1/root");
    assert!(of(&unfinished)["owner"].is_null() && of(&unfinished)["unfinished"].is_string());
    let people = inspect(["owner", text(&unfinished)].into_iter().chain(state)).expect_success();
    assert!(
        people.stdout.contains("nobody") && people.stdout.contains("only what lies before byte 0"),
        "{people}"
    );
    inspect(["owner", text(&folder)]).expect_code(3);
}

#[test]
fn what_makes_no_sense_in_a_state_folder_hides_nothing_else() {
    let scratch = Scratch::new();
    let folder = scratch.folder("state");
    scratch.folder("state/targets");
    scratch.folder("state/disks");
    scratch.file("state/targets/a.json", "{");
    scratch.file("state/targets/long.json", vec![b' '; 1 << 20]);
    nix::unistd::mkfifo(&folder.join("targets/pipe.json"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    scratch.file("state/disks/root.json", "{\"state\":\"protecting\"}");
    scratch.file("state/disks/later.json", "{\"version\":2}");
    scratch.file(
        "state/binding.json",
        "{\"firmware\":null,\"machine\":\"0123\",\"disks\":{\"root\":\"wwid:5\"}}",
    );
    scratch.folder("state/agent");
    scratch.file("state/agent/binding.json", "{\"version\":9,\"disks\":{}}");
    let shown = inspect(["state", text(&folder), "--json"]).expect_code(1).events();
    assert_eq!(of_kind(&shown, "damaged").len(), 5, "{shown:?}");
    assert_eq!(of_kind(&shown, "state").len(), 2, "{shown:?}");
    let nothing = inspect(["state", text(&scratch.folder("nothing"))]).expect_success();
    assert!(nothing.stdout.contains("no target is unfinished"), "{nothing}");
    inspect(["state", text(&scratch.path("missing"))]).expect_code(3);
}

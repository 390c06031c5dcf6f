//! What a master target refuses, and that nothing is changed by it.

use std::fs;
use std::time::SystemTime;

use failback_datapath::error::{Remediable, Remedy};
use failback_datapath::ring;
use failback_datapath::unit::{ChunkSize, Generation};
use failback_datapath::wire::identity::Identity;
use failback_datapath::wire::peers::{KnownPeers, Peer};
use failback_datapath::wire::{CutKind, Intent, Position, Protect};
use serde_json::json;

use super::home::Home;
use super::visitor::{HAS_A_SESSION, Visitor, anew, hello};
use crate::fixture::{LONG, Model, Random, Running, binary, program, run, supervised};

const BYTES: usize = 1 << 20;
const KEEP: &str = "free = \"1MiB\"";

/// A home whose pair has a point, with what it holds.
fn protected() -> (Home, Model, Position) {
    let mut home = Home::new(BYTES as u64, KEEP);
    home.start();
    let content = Model::mixed(BYTES, &mut Random::new());
    let position = ring::run(async {
        let mut visitor =
            Visitor::connect(&home.remote(), &hello(BYTES, anew(), None)).await.expect("welcome");
        visitor.synchronize(&content.bytes).await;
        visitor.cut(CutKind::Crash, "").await;
        visitor.position()
    })
    .expect("a ring");
    home.hears(|event| (event["event"] == "state" && event["state"] == "Disconnected").then_some(()));
    (home, content, position)
}

/// Why `protect` is refused for good.
fn refusal(home: &Home, protect: &Protect) -> String {
    let refused = ring::run(Visitor::connect(&home.remote(), protect)).expect("a ring");
    let error = refused.err().expect("it is refused");
    assert_eq!(error.remedy(), Remedy::Refused, "{error}");
    error.to_string()
}

#[test]
fn an_agent_that_does_not_fit_changes_nothing() {
    let (home, content, position) = protected();
    let other = Generation { incarnation: 1, number: 1 };
    let fits = hello(BYTES, Intent::Continue, Some(position));
    let cases = [
        (Protect { machine_identity: "dmi:2".to_owned(), ..fits.clone() }, "another machine protects"),
        (Protect { size_bytes: 2 << 20, ..fits.clone() }, "2097152 bytes"),
        (Protect { disk: "data".to_owned(), ..fits.clone() }, "needs a [[pair]] called web-1/data"),
        (Protect { disk: "../root".to_owned(), ..fits.clone() }, "no target for disk"),
        (Protect { chunk: ChunkSize::MAX, ..fits.clone() }, "is tracked by"),
        (
            Protect { position: Some(Position { generation: other, ..position }), ..fits.clone() },
            "generation",
        ),
    ];
    for (protect, reason) in cases {
        let told = refusal(&home, &protect);
        assert!(told.contains(reason), "{told}");
    }
    home.alarms("another machine protects");
    assert!(home.target() == content.bytes);
    let welcome = ring::run(Visitor::connect(&home.remote(), &fits)).expect("a ring");
    assert!(!welcome.expect("it fits").must_synchronize());
}

#[test]
fn a_second_session_is_kept_out_with_an_alarm() {
    let (home, _, position) = protected();
    let fits = hello(BYTES, Intent::Continue, Some(position));
    ring::run(async {
        let _first = Visitor::connect(&home.remote(), &fits).await.expect("welcome");
        let second = Visitor::connect_at_once(&home.remote(), &fits).await.err().expect("one too many");
        assert!(second.to_string().contains(HAS_A_SESSION), "{second}");
    })
    .expect("a ring");
    home.alarms("wants a second session");
}

#[test]
fn a_new_pair_is_not_made_on_a_target_of_another_size() {
    let mut home = Home::new(BYTES as u64, KEEP);
    home.start();
    let told = refusal(&home, &hello(BYTES / 2, anew(), None));
    assert!(told.contains("give the target the size of the disk"), "{told}");
    assert!(home.target().iter().all(|byte| *byte == 0));
    assert!(!home.scratch().path("retention/web-1/root/pair").exists());
    let owners = fs::read_dir(home.scratch().path("state/owners")).map_or(0, Iterator::count);
    assert_eq!(owners, 0, "the target is nobody's");
}

#[test]
fn an_owned_target_is_nobody_elses_whether_its_master_target_runs_or_not() {
    let (mut home, content, _) = protected();
    let other = home.scratch().file("other.img", vec![7; BYTES]);
    let (other, target) = (other.to_str().expect("in UTF-8").to_owned(), home.path("target.img"));
    let running = home.run_plain(&["sync", &other, &target]).expect_code(3);
    assert!(running.stderr.contains("master target"), "{running}");
    let second = home.run(&["master-target", "run"]).expect_code(3);
    assert!(second.stderr.contains("in use by a master target"), "{second}");
    home.stop().expect_success();
    let stopped = home.run_plain(&["sync", &other, &target]).expect_code(3);
    assert!(stopped.stderr.contains("belongs to the master target"), "{stopped}");
    assert!(home.target() == content.bytes);
    let removed = home.run(&["master-target", "remove", "web-1/root"]).expect_success().summary();
    assert_eq!(removed["was_owned"], json!(true), "{removed}");
    assert!(home.scratch().path("retention/web-1/root/pair").exists(), "its journal stays");
    home.run_plain(&["sync", &other, &target]).expect_success();
    assert!(home.target() == vec![7; BYTES]);
    home.run(&["master-target", "remove", "web-1/root", "--journal"]).expect_success();
    assert!(!home.scratch().path("retention/web-1").exists());
}

#[test]
fn another_retention_directory_does_not_get_an_owned_target() {
    let (mut home, content, _) = protected();
    home.stop();
    let settings = fs::read_to_string(home.config()).expect("read");
    home.scratch().folder("elsewhere");
    fs::write(home.config(), settings.replace("/retention\"", "/elsewhere\"")).expect("written");
    home.start();
    let refused = ring::run(Visitor::connect(&home.remote(), &hello(BYTES, anew(), None))).expect("a ring");
    let error = refused.err().expect("it is refused").to_string();
    assert!(error.contains("belongs to the master target that keeps its journal in"), "{error}");
    assert!(home.target() == content.bytes);
    assert!(!home.scratch().path("elsewhere/web-1/root/pair").exists());
}

#[test]
fn sync_is_told_that_a_master_target_is_no_server_of_disks() {
    let (home, _, _) = protected();
    // Its key is known there as an agent's.
    fs::create_dir_all(home.scratch().path("away")).expect("made");
    run(program("cp").args(["-a", &home.path("client"), &home.path("away/identity")]));
    let server = Identity::load_or_create(&home.scratch().path("state/identity")).expect("a key");
    let address = home.address().parse().expect("an address");
    let peer = Peer::server("home", server.fingerprint(), address, SystemTime::now());
    KnownPeers::remember(&home.scratch().path("away/identity"), &peer).expect("remembered");
    let url = format!("failback://{}/root", home.address());
    let source = home.scratch().file("source.img", vec![1; BYTES]).display().to_string();
    let mut command = supervised(binary());
    command.args(["sync", &source, &url, "--state", &home.path("away")]);
    let told = Running::start(&mut command).finish(LONG).expect_code(3);
    assert!(told.stderr.contains("a master target listens here"), "{told}");
}

#[test]
fn a_rewind_needs_a_fence_and_no_session() {
    let (home, content, position) = protected();
    let unfenced = home.run(&["points", "rewind", "web-1/root", "1"]).expect_code(3);
    assert!(unfenced.stderr.contains("fence the pair first"), "{unfenced}");
    let uncommitted = home.run(&["points", "commit", "web-1/root"]).expect_code(3);
    assert!(uncommitted.stderr.contains("fence the pair"), "{uncommitted}");
    ring::run(async {
        let fits = hello(BYTES, Intent::Continue, Some(position));
        let mut visitor = Visitor::connect(&home.remote(), &fits).await.expect("welcome");
        let busy = home.run(&["points", "rewind", "web-1/root", "1"]).expect_code(3);
        assert!(busy.stderr.contains("master-target fence web-1/root"), "{busy}");
        home.run(&["master-target", "fence", "web-1/root"]).expect_success();
        let ended = visitor.end().await;
        assert!(ended.to_string().contains("stopped"), "{ended}");
        assert!(Visitor::connect(&home.remote(), &fits).await.is_err(), "it is fenced");
    })
    .expect("a ring");
    home.run(&["points", "rewind", "web-1/root", "9"]).expect_code(3);
    assert!(home.target() == content.bytes);
    home.run(&["master-target", "unfence", "web-1/root"]).expect_success();
    assert_eq!(home.status()["state"], "Disconnected");
}

#[test]
fn a_master_target_that_runs_has_its_targets_whatever_the_state_folder() {
    let (home, content, position) = protected();
    let mut other = Home::new(BYTES as u64, KEEP);
    let settings = fs::read_to_string(other.config()).expect("settings");
    let (theirs, ours) = (other.path("target.img"), home.path("target.img"));
    fs::write(other.config(), settings.replace(&theirs, &ours)).expect("written");
    other.start();
    let refused = ring::run(Visitor::connect(&other.remote(), &hello(BYTES, anew(), None))).expect("a ring");
    let refused = refused.err().expect("it is taken").to_string();
    assert!(refused.contains("master target that runs"), "{refused}");
    other.alarms("master target that runs");
    let source = other.scratch().image("source.img", BYTES as u64);
    let state = other.path("another state");
    let mut command = supervised(binary());
    command.args(["sync", source.to_str().expect("in UTF-8"), &ours, "--state", &state]);
    let refused = Running::start(&mut command).finish(LONG).expect_code(3);
    assert!(refused.stderr.contains("master target that runs"), "{refused}");
    assert!(home.target() == content.bytes);
    let fits = hello(BYTES, Intent::Continue, Some(position));
    let welcome = ring::run(Visitor::connect(&home.remote(), &fits)).expect("a ring");
    assert!(!welcome.expect("it fits").must_synchronize());
}

#[test]
fn a_journal_that_is_gone_is_not_made_anew() {
    let (home, content, position) = protected();
    let (here, away) = (home.path("retention/web-1/root"), home.path("away"));
    fs::rename(&here, &away).expect("moved");
    for intent in [anew(), Intent::Continue] {
        let refused = ring::run(Visitor::connect(&home.remote(), &hello(BYTES, intent, Some(position))));
        let told = refused.expect("a ring").err().expect("it is refused").to_string();
        assert!(told.contains("is the retention volume mounted?"), "{told}");
    }
    assert!(home.target() == content.bytes);
    assert!(!std::path::Path::new(&here).join("pair").exists());
    home.alarms("is the retention volume mounted?");
    let status = home.status();
    assert!(status["detail"].as_str().is_some_and(|detail| detail.contains("mounted?")), "{status}");
    drop(fs::remove_dir_all(&here));
    fs::rename(&away, &here).expect("moved back");
    let fits = hello(BYTES, Intent::Continue, Some(position));
    let welcome = ring::run(Visitor::connect(&home.remote(), &fits)).expect("a ring");
    assert!(!welcome.expect("it fits").must_synchronize());
}

#[test]
fn a_target_that_was_given_up_is_read_before_it_is_trusted() {
    let (home, content, position) = protected();
    home.run(&["master-target", "remove", "web-1/root"]).expect_success();
    // Nobody's, so that somebody may write it.
    let mut foreign = content.bytes.clone();
    foreign[5000..90_000].fill(0xa5);
    fs::write(home.path("target.img"), &foreign).expect("written");
    home.run(&["master-target", "reload"]).expect_success();
    ring::run(async {
        let fits = hello(BYTES, Intent::Continue, Some(position));
        let mut visitor = Visitor::connect(&home.remote(), &fits).await.expect("welcome");
        assert!(visitor.must_synchronize(), "its digests are trusted");
        visitor.synchronize(&content.bytes).await;
        visitor.cut(CutKind::Crash, "").await;
    })
    .expect("a ring");
    assert!(home.target() == content.bytes);
}

//! What is refused over the wire, before a byte is written.

use std::path::Path;

use crate::fixture::{
    Failback, LONG, LoopDevice, Model, Mount, Need, Outcome, Random, Scratch, Server, assert_same_bytes,
    export, need, program, run,
};

use super::hosts::{Hosts, assert_message, error, pair, path_text, sync, token};

const SIZE: u64 = 3 << 20;
const LENGTH: usize = 3 << 20;

/// A run that must be refused, with the target as it was.
fn refused(hosts: &Hosts, source: &Path, url: &str, target: &Model, far: &Path) -> Outcome {
    let outcome = hosts.sync(path_text(source), url, &[]).run().expect_code(3);
    assert!(error(&outcome)["target_state"] == "untouched", "{outcome}");
    target.assert_starts(far);
    outcome
}

#[test]
fn exports_that_do_not_fit_are_refused() {
    let (hosts, mut random) = (Hosts::new(), Random::new());
    let model = Model::random(LENGTH, &mut random);
    let far = hosts.home.path("far");
    model.save(&far);
    let source = hosts.away.image("source", SIZE);
    let large = hosts.away.image("large", SIZE + 512);
    let server = hosts.serve(&[export("far", &far), export("only", &far) + ",ro"]);
    let outcome = refused(&hosts, &source, &server.url("none"), &model, &far);
    assert_message(&outcome, &["none", "--export"]);
    // A path is no name.
    refused(&hosts, &source, &server.url(path_text(&far)), &model, &far);
    let outcome = refused(&hosts, &source, &server.url("only"), &model, &far);
    assert_message(&outcome, &["exported for reading only"]);
    let outcome = refused(&hosts, &large, &server.url("far"), &model, &far);
    assert_message(&outcome, &["smaller", "512 bytes"]);
    // It is there to be read.
    hosts
        .sync(&server.url("only"), path_text(&hosts.away.path("copy")), &["--create"])
        .run()
        .expect_success();
    model.assert_starts(&hosts.away.path("copy"));
}

#[test]
fn a_mounted_target_at_the_far_end_is_refused() {
    let Some(()) = need(&[Need::LoopDevices, Need::Program("mkfs.ext4")]) else { return };
    let hosts = Hosts::new();
    let device = LoopDevice::attach(&hosts.home.image("back", 16 << 20), 512);
    run(program("mkfs.ext4").arg("-q").arg(device.path()));
    let mount = Mount::new(device.path(), &hosts.home.folder("mount"), "");
    let source = hosts.away.image("source", 16 << 20);
    let server = hosts.serve(&[export("far", device.path())]);
    let outcome = hosts.sync(path_text(&source), &server.url("far"), &[]).run().expect_code(3);
    assert_message(&outcome, &["mounted"]);
    // To be read it needs the word.
    let copy = hosts.away.path("copy");
    let pull = |options: &[&str]| hosts.sync(&server.url("far"), path_text(&copy), options).run();
    let outcome = pull(&["--create"]).expect_code(3);
    assert_message(&outcome, &["--live"]);
    let outcome = pull(&["--create", "--live"]).expect_success();
    assert!(outcome.summary()["fuzzy"] == true, "{outcome}");
    drop(mount);
    hosts.sync(path_text(&source), &server.url("far"), &["--whole"]).run().expect_success();
    assert_same_bytes(&source, device.path(), 16 << 20);
}

#[test]
fn one_storage_from_both_sides_is_refused() {
    let (hosts, mut random) = (Hosts::new(), Random::new());
    let model = Model::random(LENGTH, &mut random);
    let far = hosts.home.path("far");
    model.save(&far);
    let server = hosts.serve(&[export("far", &far), export("read", &far) + ",ro"]);
    refused(&hosts, &far, &server.url("far"), &model, &far);
    let outcome = hosts.sync(&server.url("read"), path_text(&far), &[]).run().expect_code(3);
    assert!(error(&outcome)["target_state"] == "untouched", "{outcome}");
    let outcome = hosts.sync(&server.url("read"), &server.url("far"), &[]).run().expect_code(3);
    assert!(error(&outcome)["target_state"] == "untouched", "{outcome}");
    model.assert_starts(&far);
    let Some(()) = need(&[Need::LoopDevices]) else { return };
    let device = LoopDevice::attach(&far, 512);
    let outcome = refused(&hosts, device.path(), &server.url("far"), &model, &far);
    assert!(!outcome.stdout.is_empty());
    drop(device);
    hosts.sync(&server.url("read"), path_text(&hosts.away.image("copy", SIZE)), &[]).run().expect_success();
}

#[test]
fn a_stranger_learns_how_to_pair_and_nothing_else() {
    let hosts = Hosts::new();
    let (far, source) = (hosts.home.image("far", SIZE), hosts.away.image("source", SIZE));
    let server = Server::start(&hosts.home, &[export("far", &far)]);
    let outcome = hosts.sync(path_text(&source), &server.url("far"), &[]).run().expect_code(3);
    assert_message(&outcome, &["failback pair", "--token-file"]);
    pair(&hosts.home, server.address(), &hosts.away);
    hosts.sync(path_text(&source), &server.url("far"), &[]).run().expect_success();
    // The server forgets the peer, and the peer must not notice more than that.
    let listed = Failback::new(&hosts.home, ["pair", "--list", "--json"]).run().expect_success();
    let fingerprint = listed.summary()["fingerprint"].as_str().expect("it has one").to_owned();
    Failback::new(&hosts.home, ["pair", "--forget", &fingerprint]).run().expect_success();
    let outcome = hosts.sync(path_text(&source), &server.url("far"), &[]).run().expect_code(3);
    assert_message(&outcome, &["failback pair", "does not accept this machine's certificate"]);
    assert!(!outcome.stdout.contains(path_text(&far)), "{outcome}");
    // Whether the export exists is none of its business either.
    let other = hosts.sync(path_text(&source), &server.url("none"), &[]).run().expect_code(3);
    assert_eq!(error(&other)["message"], error(&outcome)["message"]);
    Failback::new(&hosts.home, ["pair", "--forget", &fingerprint]).run().expect_code(3);
    pair(&hosts.home, server.address(), &hosts.away);
    hosts.sync(path_text(&source), &server.url("far"), &[]).run().expect_success();
}

#[test]
fn tokens_are_spent_once_and_end() {
    let (hosts, third) = (Hosts::new(), Scratch::new());
    let server = Server::start(&hosts.home, &[export("far", &hosts.home.image("far", SIZE))]);
    let spend =
        |host: &Scratch, token: &Path| Failback::new(host, ["pair", "--spend", path_text(token)]).run();
    let first = token(&hosts.home, server.address(), &hosts.away);
    spend(&hosts.away, &first).expect_success();
    let outcome = spend(&third, &first).expect_code(3);
    assert!(outcome.stderr.contains("already spent"), "{outcome}");
    // As if a quarter of an hour had passed, on the server's side.
    let second = token(&hosts.home, server.address(), &third);
    let ledger = hosts.home.path("state/identity/pairing.json");
    let mut tokens: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&ledger).expect("it was issued")).expect("the ledger is JSON");
    for token in tokens["tokens"].as_array_mut().expect("a list") {
        token["expires_unix_seconds"] = 1_000.into();
    }
    std::fs::write(&ledger, tokens.to_string()).expect("it is ours");
    let outcome = spend(&third, &second).expect_code(3);
    assert!(outcome.stderr.contains("15 minutes"), "{outcome}");
    // Not a token at all, one of another server, one with a letter changed.
    let nonsense = third.file("nonsense", "not a token");
    spend(&third, &nonsense).expect_code(3);
    let text = std::fs::read_to_string(token(&hosts.home, server.address(), &third)).expect("it was written");
    let text = text.trim();
    let (start, end) = text.split_at(text.len() - 6);
    let changed = format!("{start}{}", if end == "aaaaaa" { "bbbbbb" } else { "aaaaaa" });
    assert_ne!(spend(&third, &third.file("changed", changed)).code(), Some(0));
    let outcome = spend(&third, &third.path("missing")).expect_code(3);
    assert!(outcome.stderr.contains("missing"), "{outcome}");
}

#[test]
fn a_second_run_onto_one_export_is_refused_and_the_first_ends_well() {
    let (hosts, third, mut random) = (Hosts::new(), Scratch::new(), Random::new());
    let model = Model::random(12 << 20, &mut random);
    let source = hosts.away.path("source");
    model.save(&source);
    let far = hosts.home.image("far", 12 << 20);
    let server = hosts.serve(&[export("far", &far)]);
    pair(&hosts.home, server.address(), &third);
    let first = hosts.sync(path_text(&source), &server.url("far"), &["--limit-rate", "6M"]).start();
    server.process().wait_for(LONG, |line| line.contains("begun").then_some(()));
    let other = third.image("other", 12 << 20);
    for options in [&[][..], &["--whole"], &["--dry-run"]] {
        let outcome = sync(&third, path_text(&other), &server.url("far"), options).run();
        // A rehearsal only reads.
        let code = if options == ["--dry-run"] { outcome.code() } else { Some(3) };
        assert!(outcome.code() == code, "{outcome}");
    }
    let outcome = sync(&third, &server.url("far"), path_text(&other), &[]).run().expect_code(3);
    assert!(error(&outcome)["target_state"] == "untouched", "{outcome}");
    first.finish(LONG).expect_success();
    model.assert_starts(&far);
}

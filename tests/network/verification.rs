//! A far target whose bytes change after they were written: verification finds
//! it, whoever began the run, and the cursor goes back to where it is wrong.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::fixture::Need::LoopDevices;

use super::hosts::{Hosts, counter, error, is_unfinished, pair, path_text};
use crate::fixture::{
    Failback, LONG, LoopDevice, Model, Outcome, Random, Scratch, Server, assert_same_bytes, eventually,
    export, need,
};

const MIB: usize = 1 << 20;
const SEGMENT: usize = 64 << 20;
/// Two segments; most of the first is zero.
const SIZE: usize = SEGMENT + 8 * MIB;

fn content() -> Model {
    let mut random = Random::new();
    let mut model = Model::zeroes(SIZE);
    random.fill(&mut model.bytes[..4 * MIB]);
    random.fill(&mut model.bytes[SEGMENT..]);
    model
}

/// Waits until the window at `offset` lies behind the device, and spoils it there.
fn rot(backing: &Path, model: &Model, offset: usize) {
    let file = OpenOptions::new().read(true).write(true).open(backing);
    let file = file.expect("nobody locks what lies behind");
    let is_written = || {
        let mut found = vec![0; MIB];
        file.read_exact_at(&mut found, offset as u64).expect("it is as long");
        found == model.bytes[offset..offset + MIB]
    };
    eventually("the window is written", is_written);
    file.write_all_at(b"rot", offset as u64 + 777).expect("the filesystem has room");
    file.sync_all().expect("the filesystem works");
}

/// A run found its target wrong: exit code, words, and the cursor in the mark.
fn assert_found(outcome: Outcome, host: &Scratch, target: &Path, cursor: usize) {
    let outcome = outcome.expect_code(5);
    let event = error(&outcome);
    assert_eq!(event["code"], "differs", "{outcome}");
    assert_eq!(event["target_state"], "unfinished", "{outcome}");
    assert_eq!(event["target_cursor_bytes"], cursor, "{outcome}");
    assert!(outcome.stderr.contains("verification failed"), "{outcome}");
    let arguments = ["image", "info", "--json", path_text(target)];
    let info = Failback::new(host, arguments).run().expect_success().summary();
    assert_eq!(info["unfinished"]["cursor_bytes"], cursor, "{info}");
}

/// Rot at `offset` of a pushed or relayed target, found; then mended.
fn is_found(is_relay: bool, offset: usize, cursor: usize) {
    let Some(()) = need(&[LoopDevices]) else { return };
    let (hosts, third, model) = (Hosts::new(), Scratch::new(), content());
    let backing = hosts.home.image("far.back", SIZE as u64);
    let far = LoopDevice::attach(&backing, 512);
    let source = third.path("source");
    model.save_sparse(&source);
    let server = hosts.serve(&[export("far", far.path())]);
    let sender = Server::start(&third, &[export("disk", &source)]);
    pair(&third, sender.address(), &hosts.away);
    let from = if is_relay { sender.url("disk") } else { path_text(&source).to_owned() };
    let options = ["--verify", "--streams", "1", "--limit-rate", "5M"];
    let running = hosts.sync(&from, &server.url("far"), &options).start();
    rot(&backing, &model, offset);
    assert_found(running.finish(LONG), &hosts.home, far.path(), cursor);
    // The same command again: one chunk is wrong.
    let outcome = hosts.sync(&from, &server.url("far"), &["--verify"]).run().expect_success();
    assert_eq!(counter(&outcome, "chunks_differing"), 1, "{outcome}");
    assert_eq!(outcome.summary()["verified"], true, "{outcome}");
    assert_same_bytes(&source, far.path(), SIZE as u64);
    assert!(!is_unfinished(&hosts.home, far.path()), "the mark stays");
}

#[test]
fn a_push_finds_its_first_segment_wrong() {
    is_found(false, 0, 0);
}

#[test]
fn a_push_finds_a_later_segment_wrong() {
    is_found(false, SEGMENT, SEGMENT);
}

#[test]
fn a_relay_finds_its_first_segment_wrong() {
    is_found(true, 0, 0);
}

#[test]
fn a_relay_finds_a_later_segment_wrong() {
    is_found(true, SEGMENT, SEGMENT);
}

//! What a server gives its peers at most, time and memory, and what a run tells meanwhile.

use std::path::PathBuf;
use std::time::Duration;

use failback_datapath::ring;
use serde_json::Value;

use crate::fixture::{Model, Random, assert_same_bytes, export};

use super::hostile_client::MEMORY_MAX;
use super::hosts::{Hosts, counter, memory_peak, path_text};
use super::raw::{HELLO, OPEN, RawPeer, control, hello, open};

/// Twice what a request may take, in drops.
const DROPS: usize = 100;
const DROP_EVERY: Duration = Duration::from_millis(200);

#[test]
fn a_request_that_drips_is_not_waited_for() {
    let hosts = Hosts::new();
    let server = hosts.serve(&[export("far", &hosts.home.image("far", 1 << 20))]);
    let reason = ring::run(async {
        let mut peer = RawPeer::connect(&hosts.away, server.address()).await.expect("it is paired");
        peer.expect(HELLO).await;
        let request = control(OPEN, &open("far", 1 << 20));
        let (begin, rest) = request.split_at(25);
        peer.say(&[&hello(2, 2)[..], begin].concat()).await;
        for byte in rest.iter().take(DROPS) {
            peer.say(&[*byte]).await;
            tokio::time::sleep(DROP_EVERY).await;
        }
        peer.reason().await
    });
    let reason = reason.expect("there is io_uring").expect("the server says why");
    assert!(reason["message"].to_string().contains("not the rest of it"), "{reason}");
}

/// What the program itself may take beside the windows of all runs.
const PROGRAM_MAX: u64 = 16 << 20;
const RUNS: usize = 8;
const ALL_WITHIN: Duration = Duration::from_secs(120);

#[test]
fn runs_share_the_memory_of_a_server() {
    let (hosts, mut random) = (Hosts::new(), Random::new());
    let source = hosts.home.path("source");
    let model = Model::random(24 << 20, &mut random);
    model.save(&source);
    let server = hosts.serve(&[export("golden", &source) + ",ro"]);
    let copies: Vec<_> = (0..RUNS).map(|run| hosts.away.path(&format!("copy{run}"))).collect();
    // Slow enough that all of them go on at once.
    let options = ["--create", "--streams", "2", "--limit-rate", "8M", "--compression", "none"];
    let start = |copy: &PathBuf| hosts.sync(&server.url("golden"), path_text(copy), &options).start();
    let runs: Vec<_> = copies.iter().map(start).collect();
    for (run, copy) in runs.into_iter().zip(&copies) {
        run.finish(ALL_WITHIN).expect_success();
        assert_same_bytes(&source, copy, 24 << 20);
    }
    let peak = memory_peak(server.process().identifier());
    assert!(peak < MEMORY_MAX + PROGRAM_MAX, "the server held {peak} bytes for {RUNS} runs");
}

#[test]
fn a_pull_and_a_relay_tell_how_far_they_are_within_a_segment() {
    let (hosts, mut random) = (Hosts::new(), Random::new());
    let source = hosts.home.path("source");
    Model::random(24 << 20, &mut random).save(&source);
    let relayed = hosts.home.image("relayed", 24 << 20);
    let server = hosts.serve(&[export("disk", &source) + ",ro", export("far", &relayed)]);
    let pulled = hosts.away.path("pulled");
    for target in [path_text(&pulled).to_owned(), server.url("far")] {
        let options = ["--create", "--limit-rate", "8M"];
        let outcome = hosts.sync(&server.url("disk"), &target, &options).run().expect_success();
        let done = |event: &Value| event["bytes_done"].as_u64().filter(|_| event["event"] == "progress");
        let seen: Vec<_> = outcome.events().iter().filter_map(done).collect();
        assert!(seen.iter().any(|done| (1..24 << 20).contains(done)), "{seen:?}: {outcome}");
        assert!(counter(&outcome, "bytes_done") == 24 << 20, "{outcome}");
    }
}

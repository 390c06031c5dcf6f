//! `--limit-rate` is a limit: so many bytes take at least so long, on every way
//! and however many streams share it. Nothing is said of how long at most.

use std::path::Path;

use crate::fixture::{Model, Outcome, Random, Scratch, Server, export};

use super::hosts::{Hosts, pair, path_text};

const SEGMENT: usize = 64 << 20;
/// Of each of four segments, so many bytes are no zeroes.
const DATA: usize = 3 << 19;
const BYTES: usize = 4 * DATA;
const RATE: usize = 4 << 20;
/// What may go at once, in tenths of a second of the rate: see `pipeline::Throttle`.
const BURST_SECONDS: f64 = 0.1;

fn content() -> Model {
    let mut random = Random::new();
    let mut model = Model::zeroes(3 * SEGMENT + DATA);
    for segment in 0..4 {
        random.fill(&mut model.bytes[segment * SEGMENT..][..DATA]);
    }
    model
}

/// An empty target.
fn empty(host: &Scratch, name: &str, model: &Model) -> std::path::PathBuf {
    host.image(name, model.bytes.len() as u64)
}

fn assert_slow(outcome: Outcome, model: &Model, target: &Path, way: &str) {
    let outcome = outcome.expect_success();
    model.assert_starts(target);
    let least = BYTES as f64 / RATE as f64 - BURST_SECONDS;
    let told = outcome.summary()["seconds"].as_f64().expect("a summary tells its time");
    println!("{way}: {told} s, at least {least} s");
    assert!(told >= least, "{way}: {told} s for what takes at least {least} s: {outcome}");
    assert!(outcome.elapsed.as_secs_f64() >= least, "{way}: {outcome}");
}

fn a_rate_is_kept(streams: &str) {
    let (hosts, third) = (Hosts::new(), Scratch::new());
    let model = content();
    let (source, from) = (hosts.away.path("source"), hosts.home.path("from"));
    model.save_sparse(&source);
    model.save_sparse(&from);
    let make = |host, name| empty(host, name, &model);
    let (near, pulled) = (make(&hosts.away, "near"), make(&hosts.away, "pulled"));
    let (far, relayed) = (make(&hosts.home, "far"), make(&third, "relayed"));
    let server = hosts.serve(&[export("far", &far), export("from", &from)]);
    let other = Server::start(&third, &[export("relayed", &relayed)]);
    pair(&third, other.address(), &hosts.away);
    let rate = RATE.to_string();
    let options = ["--limit-rate", &rate, "--streams", streams, "--compression", "none"];
    let source = path_text(&source);
    let ways = [
        ("local", source.to_owned(), path_text(&near).to_owned(), &near),
        ("push", source.to_owned(), server.url("far"), &far),
        ("pull", server.url("from"), path_text(&pulled).to_owned(), &pulled),
        ("relay", server.url("from"), other.url("relayed"), &relayed),
    ];
    for (way, from, to, target) in ways {
        assert_slow(hosts.sync(&from, &to, &options).run(), &model, target, way);
    }
}

#[test]
fn one_stream_keeps_to_a_rate() {
    a_rate_is_kept("1");
}

#[test]
fn several_streams_share_a_rate() {
    a_rate_is_kept("4");
}

//! Random disks pushed and pulled with random options, stopped at random bytes
//! and continued, against the obvious reference: the bytes in memory.

use std::net::Shutdown;
use std::path::PathBuf;

use crate::fixture::{Model, Outcome, Random, Server, export};

use super::hosts::{Hosts, counter, pair, path_text};
use super::proxy::Proxy;

const CASES: usize = 16;
const SEGMENT: usize = 64 << 20;

/// What is tried, besides the bytes.
#[derive(Debug)]
struct Case {
    is_push: bool,
    bytes: usize,
    /// By how much the target is larger.
    tail: usize,
    options: Vec<String>,
    /// After how many bytes on the wire a run is cut; the next one goes on.
    cuts: Vec<u64>,
}

impl Case {
    fn new(random: &mut Random) -> Self {
        let small = 1 + random.index_below(5 << 20);
        // Several segments, so that several lanes have some.
        let bytes = if random.happens(30) { (1 + random.index_below(2)) * SEGMENT + small } else { small };
        let one_of = |random: &mut Random, words: &[&str]| words[random.index_below(words.len())].to_owned();
        let mut options = vec![
            "--streams".to_owned(),
            (1 + random.below(4)).to_string(),
            "--compression".to_owned(),
            one_of(random, &["auto", "none", "lz4", "zstd"]),
            "--digest".to_owned(),
            one_of(random, &["xxh3", "blake3"]),
        ];
        if random.happens(40) {
            options.push("--whole".to_owned());
        }
        if random.happens(40) {
            options.push("--verify".to_owned());
        }
        let cuts = (0..random.below(4)).map(|_| random.below(600 << 10)).collect();
        let tail = if random.happens(50) { random.index_below(300_000) } else { 0 };
        Self { is_push: random.happens(50), bytes, tail, options, cuts }
    }
}

/// Two hosts and a wire; disks are made anew for each case.
struct Wire {
    hosts: Hosts,
    proxy: Proxy,
    _server: Server,
}

impl Wire {
    fn new() -> Self {
        let (hosts, proxy) = (Hosts::new(), Proxy::new());
        let server = Server::start(&hosts.home, &[export("far", &hosts.home.path("far"))]);
        proxy.lead_to(server.address());
        pair(&hosts.home, proxy.address(), &hosts.away);
        Self { hosts, proxy, _server: server }
    }

    /// The source's and the target's file.
    fn disks(&self, is_push: bool) -> [PathBuf; 2] {
        let (near, far) = (self.hosts.away.path("near"), self.hosts.home.path("far"));
        if is_push { [near, far] } else { [far, near] }
    }

    fn run(&self, case: &Case, extra: &[&str]) -> Outcome {
        let (near, far) = (self.hosts.away.path("near"), self.proxy.url("far"));
        let options: Vec<&str> =
            case.options.iter().map(String::as_str).chain(extra.iter().copied()).collect();
        let (from, to) = if case.is_push { (path_text(&near), &*far) } else { (&*far, path_text(&near)) };
        self.hosts.sync(from, to, &options).run()
    }

    /// Once more while the server still leaves its disk in order.
    fn run_soon(&self, case: &Case, extra: &[&str]) -> Outcome {
        for _ in 0..100 {
            let outcome = self.run(case, extra);
            if outcome.code() != Some(3) {
                return outcome;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        self.run(case, extra)
    }
}

/// Where two disks of one size differ, in chunks.
fn differing(source: &[u8], target: &[u8]) -> u64 {
    source
        .chunks(65_536)
        .zip(target.chunks(65_536))
        .filter(|(mine, theirs)| *mine != &theirs[..mine.len()])
        .count() as u64
}

fn holds(wire: &Wire, case: &Case, random: &mut Random) -> usize {
    let [source, target] = wire.disks(case.is_push);
    let mut before = Model::zeroes(case.bytes + case.tail);
    before.scribble(60, random);
    let mut model = Model { bytes: before.bytes[..case.bytes].to_vec() };
    model.scribble(1 + random.index_below(60), random);
    model.save_sparse(&source);
    before.save_sparse(&target);
    let rehearsed = wire.run_soon(case, &["--dry-run"]).expect_success();
    before.assert_starts(&target);
    // What copies whole does not compare.
    let is_whole = case.options.iter().any(|option| option == "--whole");
    let counted = counter(&rehearsed, "chunks_differing");
    assert!(is_whole || counted == differing(&model.bytes, &before.bytes), "{case:?}: {rehearsed}");
    let mut interruptions = 0;
    for cut in &case.cuts {
        wire.proxy.cut_after(*cut);
        let outcome = wire.run_soon(case, &[]);
        wire.proxy.close(Shutdown::Both);
        assert!(matches!(outcome.code(), Some(0 | 6)), "{case:?}: {outcome}");
        interruptions += usize::from(outcome.code() == Some(6));
        // The machine works on until the next run.
        if random.happens(60) {
            model.scribble(5, random);
            model.write_over(&source);
        }
    }
    let outcome = wire.run_soon(case, &[]).expect_success();
    let mut expected = model.clone();
    expected.bytes.extend(&before.bytes[case.bytes..]);
    expected.assert_starts(&target);
    model.assert_starts(&source);
    assert_eq!(counter(&outcome, "bytes_total"), case.bytes as u64, "{outcome}");
    let again = Case { options: Vec::new(), cuts: Vec::new(), ..*case };
    let outcome = wire.run_soon(&again, &[]).expect_success();
    assert_eq!(counter(&outcome, "chunks_differing"), 0, "{case:?}: {outcome}");
    interruptions
}

#[test]
fn any_target_becomes_its_source_over_the_wire() {
    let (wire, mut random) = (Wire::new(), Random::new());
    let mut interruptions = 0;
    for number in 0..CASES {
        let case = Case::new(&mut random);
        println!("case {number}: {case:?}");
        interruptions += holds(&wire, &case, &mut random);
    }
    println!("{interruptions} runs were cut");
    assert!(interruptions > 0, "no run was cut");
}

//! Whoever goes away in the middle: the other side ends, says what is so, and
//! the same command again makes the disks equal.

use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::hosts::{Hosts, error, is_unfinished, pair, path_text};
use super::proxy::Proxy;
use crate::fixture::{LONG, Model, Random, Running, Server, assert_same_bytes, eventually, export};

/// A peer that says nothing for a minute is gone.
const BEFORE_A_SILENT_PEER_IS_GIVEN_UP: Duration = Duration::from_secs(45);
const SIZE: usize = 24 << 20;

/// A push that takes some seconds, over a wire that can be cut.
struct Push {
    hosts: Hosts,
    server: Option<Server>,
    proxy: Proxy,
    source: PathBuf,
    far: PathBuf,
}

impl Push {
    fn new() -> Self {
        let (hosts, proxy) = (Hosts::new(), Proxy::new());
        let (source, far) = (hosts.away.path("source"), hosts.home.image("far", SIZE as u64));
        Model::random(SIZE, &mut Random::new()).save(&source);
        let mut push = Self { hosts, server: None, proxy, source, far };
        push.serve();
        pair(&push.hosts.home, push.proxy.address(), &push.hosts.away);
        push
    }

    fn serve(&mut self) {
        let server = Server::start(&self.hosts.home, &[export("far", &self.far)]);
        self.proxy.lead_to(server.address());
        self.server = Some(server);
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("it is served")
    }

    /// Starts, and waits until some of the disk has passed.
    fn start(&self) -> Running {
        let running = self.sync(&["--limit-rate", "8M"]).start();
        let before = self.proxy.passed();
        eventually("data passes", || self.proxy.passed() > before + (4 << 20));
        running
    }

    fn sync(&self, options: &[&str]) -> crate::fixture::Failback {
        self.hosts.sync(path_text(&self.source), &self.proxy.url("far"), options)
    }

    fn failed_at_server(&self) {
        self.server().process().wait_for(LONG, |line| line.contains("\"failed\"").then_some(()));
    }

    /// The target is marked; the same command again continues, and takes the mark away.
    fn ends_equal(&self) {
        assert!(is_unfinished(&self.hosts.home, &self.far), "no mark");
        let outcome = self.sync(&[]).run().expect_success();
        assert!(
            outcome.stdout.contains("\"resuming\"") && !outcome.summary()["resumed_from"].is_null(),
            "{outcome}"
        );
        assert_same_bytes(&self.source, &self.far, SIZE as u64);
        assert!(!is_unfinished(&self.hosts.home, &self.far), "the mark stays");
    }
}

#[test]
fn a_killed_server() {
    let mut push = Push::new();
    let running = push.start();
    push.server.take().expect("it is served").kill();
    let outcome = running.finish(LONG).expect_code(6);
    assert!(outcome.stderr.contains("marked as unfinished"), "{outcome}");
    // Nobody answers.
    let outcome = push.sync(&[]).run().expect_code(6);
    assert!(!outcome.stdout.is_empty());
    push.serve();
    push.ends_equal();
}

#[test]
fn a_killed_client() {
    let push = Push::new();
    push.start().kill();
    push.failed_at_server();
    push.ends_equal();
}

#[test]
fn an_interrupted_client() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let push = Push::new();
        let running = push.start();
        running.signal(signal);
        let outcome = running.finish(LONG).expect_code(4);
        assert!(outcome.stderr.contains("unfinished"), "{outcome}");
        push.failed_at_server();
        push.ends_equal();
    }
}

#[test]
fn a_server_that_is_asked_to_stop() {
    let mut push = Push::new();
    let running = push.start();
    let server = push.server.take().expect("it is served");
    server.process().signal(Signal::SIGTERM);
    let outcome = running.finish(LONG).expect_code(6);
    assert!(error(&outcome)["target_state"] == "unfinished", "{outcome}");
    eventually("the server ends", || std::net::TcpStream::connect(server.address()).is_err());
    drop(server);
    push.serve();
    push.ends_equal();
}

#[test]
fn a_wire_that_is_closed_or_half_closed() {
    for how in [Shutdown::Both, Shutdown::Write, Shutdown::Read] {
        let push = Push::new();
        let running = push.start();
        push.proxy.close(how);
        running.finish(LONG).expect_code(6);
        push.failed_at_server();
        push.ends_equal();
    }
}

#[test]
fn a_frozen_wire_does_not_hold_up_whoever_stops() {
    let push = Push::new();
    let running = push.start();
    push.proxy.freeze();
    std::thread::sleep(Duration::from_millis(300));
    running.signal(Signal::SIGINT);
    let outcome = running.finish(BEFORE_A_SILENT_PEER_IS_GIVEN_UP).expect_code(4);
    assert!(outcome.stderr.contains("unfinished"), "{outcome}");
    push.proxy.close(Shutdown::Both);
    push.failed_at_server();
    push.ends_equal();
}

#[test]
fn a_wire_that_is_cut_anywhere() {
    let mut random = Random::new();
    let (hosts, proxy) = (Hosts::new(), Proxy::new());
    let size = (1 << 26) + (4 << 20);
    let mut model = Model::zeroes(size);
    model.scribble(60, &mut random);
    let (source, far) = (hosts.away.path("source"), hosts.home.image("far", size as u64));
    let near = hosts.away.image("near", size as u64);
    model.save_sparse(&source);
    let server = Server::start(&hosts.home, &[export("far", &far)]);
    proxy.lead_to(server.address());
    pair(&hosts.home, proxy.address(), &hosts.away);
    let mut cuts = 0;
    for round in 0..16 {
        // A run is a few MiB, its handshakes a few KiB.
        let limit = if round % 4 == 0 { 12 << 10 } else { 2 << 20 };
        proxy.cut_after(random.below(limit));
        let url = proxy.url("far");
        let push = round % 2 == 0;
        let (from, to) =
            if push { (path_text(&source), url.as_str()) } else { (url.as_str(), path_text(&near)) };
        let outcome = hosts.sync(from, to, &["--streams", "2"]).run();
        assert!(matches!(outcome.code(), Some(0 | 6)), "{outcome}");
        cuts += u32::from(outcome.code() == Some(6));
        proxy.close(Shutdown::Both);
        ends_equal_soon(
            &hosts,
            from,
            to,
            &[&source, &far, &near][if push { 0..2 } else { 1..3 }],
            size as u64,
        );
        model.scribble(20, &mut random);
        model.write_over(&source);
    }
    assert!(cuts > 4, "only {cuts} of the runs were cut");
    // A whole run at the end.
    hosts.sync(path_text(&source), &proxy.url("far"), &["--verify"]).run().expect_success();
    assert_same_bytes(&source, &far, size as u64);
}

/// The same command again; the server may still be leaving the target in order.
fn ends_equal_soon(hosts: &Hosts, from: &str, to: &str, disks: &[&PathBuf], size: u64) {
    let mut outcome = hosts.sync(from, to, &[]).run();
    for _ in 0..20 {
        if outcome.code() != Some(3) {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        outcome = hosts.sync(from, to, &[]).run();
    }
    outcome.expect_success();
    let [first, second] = disks else { panic!("two disks") };
    assert_same_bytes(Path::new(first), Path::new(second), size);
}

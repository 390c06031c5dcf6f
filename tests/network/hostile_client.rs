//! Paired clients that say nonsense: the server gives the reason, writes
//! nothing, stays small, and serves the next one.

use failback_datapath::pipeline::{DigestAlgorithm, Digester};
use failback_datapath::ring;
use serde_json::{Value, json};

use super::hosts::{Hosts, is_unfinished, memory_peak, path_text};
use super::raw::{
    ALIVE, CREDIT, DATA, DIGESTS, END, FINISHED, HELLO, HOLE, JOIN, OPEN, OPENED, RawPeer, SEGMENT_DONE,
    START, STARTED, ZERO, control, end, facts, frame, header, hello, open, start,
};
use crate::fixture::{Model, Random, Server, assert_same_bytes, eventually, export};

const CHUNK: u64 = 64 << 10;
const SEGMENT: u64 = 64 << 20;
/// Two segments.
pub const SIZE: u64 = SEGMENT + (2 << 20);
/// What a server may hold at most.
pub const MEMORY_MAX: u64 = 64 << 20;

/// A server with an export of noise, and what the export must stay.
pub struct Victim {
    pub hosts: Hosts,
    pub server: Server,
    model: Model,
}

impl Victim {
    pub fn new() -> Self {
        let hosts = Hosts::new();
        let mut model = Model::zeroes(usize::try_from(SIZE).expect("small"));
        model.scribble(100, &mut Random::new());
        model.save_sparse(&hosts.home.path("far"));
        model.save_sparse(&hosts.away.path("source"));
        let server = hosts.serve(&[export("far", &hosts.home.path("far"))]);
        Self { hosts, server, model }
    }

    pub fn assert_untouched(&self) {
        self.model.assert_starts(&self.hosts.home.path("far"));
    }

    /// The server lives, is small, and serves.
    pub fn assert_well(&self) {
        self.assert_untouched();
        let peak = memory_peak(self.server.process().identifier());
        assert!(peak < MEMORY_MAX, "the server held {peak} bytes");
        let (source, far) = (self.hosts.away.path("source"), self.hosts.home.path("far"));
        let push = self.hosts.sync(path_text(&source), &self.server.url("far"), &["--verify"]);
        push.run().expect_success();
        assert_same_bytes(&source, &far, SIZE);
        assert!(!is_unfinished(&self.hosts.home, &far));
    }

    /// A run that has begun.
    async fn begin(&self) -> RawPeer {
        let mut peer = RawPeer::open_soon(&self.hosts.away, self.server.address(), &open("far", SIZE)).await;
        peer.say(&control(START, &start(SIZE))).await;
        peer.expect(STARTED).await;
        peer
    }
}

/// A data frame whose digests are right.
pub fn data(offset: u64, bytes: &[u8]) -> Vec<u8> {
    packed_data(0, offset, bytes, bytes)
}

fn packed_data(codec: u8, offset: u64, bytes: &[u8], packed: &[u8]) -> Vec<u8> {
    let digester = Digester::new(DigestAlgorithm::Xxh3, super::raw::KEY);
    let chunks = bytes.chunks(usize::try_from(CHUNK).expect("small"));
    let digests: Vec<u8> = chunks.flat_map(|chunk| digester.digest(chunk).0).collect();
    frame(DATA, codec, offset, bytes.len() as u64, &[&digests, packed].concat())
}

/// The end of a segment, without a digest.
pub fn segment_done(index: u64) -> Vec<u8> {
    let (start, end) = (index * SEGMENT, SIZE.min((index + 1) * SEGMENT));
    frame(SEGMENT_DONE, 0, start, end - start, &[])
}

/// Frames that have no place after `Started`, with a part of the reason.
fn nonsense() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let noise = vec![0xa5; 65_536];
    let two = vec![0xa5; 131_072];
    let protocol = "broke the protocol";
    let mut wrong_digest = data(0, &noise);
    wrong_digest[24] ^= 1;
    let mut wrong_bytes = data(0, &noise);
    wrong_bytes[70] ^= 1;
    let mut reserved = header(ZERO, 0, 0, 0, CHUNK);
    reserved[2] = 1;
    let done = [segment_done(0), segment_done(1)].concat();
    vec![
        ("data past the end", data(SIZE, &noise), protocol),
        ("data far past the end", data(u64::MAX - CHUNK + 1 - CHUNK, &noise), protocol),
        ("data across windows", data((1 << 20) - CHUNK, &two), protocol),
        ("data off the chunks", data(512, &noise), protocol),
        ("data of half a chunk", data(0, &noise[..512]), protocol),
        ("data of another segment", data(SEGMENT, &noise), protocol),
        ("data of no bytes", data(0, &[]), protocol),
        ("data after the last segment", [done.clone(), data(0, &noise)].concat(), protocol),
        ("a wrong digest", wrong_digest, "do not have their digest"),
        ("wrong bytes", wrong_bytes, "do not have their digest"),
        ("lz4 that is none", packed_data(1, 0, &noise, &[0xff; 100]), "do not have their digest"),
        ("zstd that is none", packed_data(2, 0, &noise, &[0xff; 100]), "do not have their digest"),
        ("too few raw bytes", packed_data(0, 0, &noise, &noise[..100]), protocol),
        ("too many raw bytes", packed_data(0, 0, &noise, &two), protocol),
        ("an unknown codec", packed_data(3, 0, &noise, &noise), protocol),
        ("zeroes past the end", frame(ZERO, 0, 0, SIZE + CHUNK, &[]), protocol),
        ("zeroes across segments", frame(ZERO, 0, 0, SIZE, &[]), protocol),
        ("zeroes of nothing", frame(ZERO, 0, 0, 0, &[]), protocol),
        ("zeroes with a payload", header(ZERO, 0, 1, 0, CHUNK).to_vec(), protocol),
        ("zeroes past the numbers", header(ZERO, 0, 0, u64::MAX, 2).to_vec(), protocol),
        ("the second segment first", segment_done(1), protocol),
        ("a segment twice", [segment_done(0), segment_done(0)].concat(), protocol),
        ("one segment too many", [&done[..], &segment_done(1)].concat(), protocol),
        ("a segment with half a digest", frame(SEGMENT_DONE, 1, 0, SEGMENT, &[0; 8]), protocol),
        ("a segment with an unannounced digest", frame(SEGMENT_DONE, 0, 0, SEGMENT, &[0; 16]), protocol),
        ("the end too early", end(), protocol),
        ("the end after one segment", [segment_done(0), end()].concat(), protocol),
        ("an end that cannot be read", [&done[..], &frame(END, 0, 0, 0, b"{]")].concat(), "cannot be read"),
        ("an end of nothing", [&done[..], &frame(END, 0, 0, 0, b"")].concat(), "cannot be read"),
        ("an unknown kind", header(99, 0, 0, 0, 0).to_vec(), "unknown kind 99"),
        ("no kind", header(0, 0, 0, 0, 0).to_vec(), "unknown kind 0"),
        ("reserved bytes", reserved.to_vec(), protocol),
        ("a huge payload", header(DATA, 0, u32::MAX, 0, CHUNK).to_vec(), protocol),
        ("a huge control frame", header(END, 0, (64 << 10) + 1, 0, 0).to_vec(), protocol),
        ("a greeting", hello(2, 2), protocol),
        ("a second start", control(START, &start(SIZE)), protocol),
        ("a second open", control(OPEN, &open("far", SIZE)), protocol),
        ("what only a target says", frame(DIGESTS, 0, 0, 1 << 20, &[0; 256]), protocol),
        ("a hole", frame(HOLE, 0, 0, 1 << 20, &[]), protocol),
        ("what only a server says", control(FINISHED, &json!({})), protocol),
        ("what a server opened", control(OPENED, &json!({})), protocol),
        ("garbage", vec![0xff; 4096], "unknown kind 255"),
    ]
}

#[test]
fn nonsense_in_a_run_is_refused_with_the_reason() {
    let victim = Victim::new();
    for (name, bytes, wanted) in nonsense() {
        let reason = ring::run(async {
            let mut peer = victim.begin().await;
            peer.say(&bytes).await;
            peer.reason().await
        });
        let reason = reason.expect("there is io_uring").unwrap_or_else(|| panic!("{name}: no reason"));
        let message = reason["message"].to_string();
        assert!(message.contains(wanted) && reason["code"] == "protocol", "{name}: {reason}");
    }
    victim.assert_well();
}

#[test]
fn credit_and_signs_of_life_without_end_do_no_harm() {
    let victim = Victim::new();
    let finished = ring::run(async {
        let mut peer = victim.begin().await;
        for _ in 0..200 {
            let credit = [frame(CREDIT, 0, 0, u64::MAX, &[]), frame(ALIVE, 0, 0, 0, &[])].concat();
            peer.say(&credit.repeat(50)).await;
        }
        peer.say(&[segment_done(0), segment_done(1), end()].concat()).await;
        while peer.hear().await.expect("the server ends well").kind != FINISHED {}
    });
    finished.expect("there is io_uring");
    victim.assert_well();
}

#[test]
fn absurd_openings_are_refused() {
    let victim = Victim::new();
    let with = |mut value: Value, changes: &[(&str, Value)]| {
        for (name, change) in changes {
            value[*name] = change.clone();
        }
        value
    };
    let good = open("far", SIZE);
    let large: Vec<Value> = (0..20_000).map(Value::from).collect();
    let opens = [
        with(good.clone(), &[("export", json!("../far"))]),
        with(good.clone(), &[("export", json!(""))]),
        with(good.clone(), &[("export", json!("x".repeat(60_000)))]),
        with(good.clone(), &[("role", json!("owner"))]),
        with(good.clone(), &[("source", Value::Null)]),
        with(good.clone(), &[("source", facts(SIZE + 1))]),
        with(good.clone(), &[("source", facts(u64::MAX))]),
        with(good.clone(), &[("source", json!({"size_bytes": -1}))]),
        json!({}),
        json!(large[..9000]),
        Value::Null,
    ];
    for open in opens {
        let reason = ring::run(RawPeer::open(&victim.hosts.away, victim.server.address(), &open));
        assert!(reason.expect("there is io_uring").is_err(), "opened: {open}");
    }
    let good = start(SIZE);
    let starts = [
        with(good.clone(), &[("lanes", json!(0))]),
        with(good.clone(), &[("lanes", json!(17))]),
        with(good.clone(), &[("lanes", json!(u32::MAX))]),
        with(good.clone(), &[("lanes", json!(-1))]),
        with(good.clone(), &[("size_bytes", json!(0))]),
        with(good.clone(), &[("size_bytes", json!(SIZE - 512))]),
        with(good.clone(), &[("size_bytes", json!(u64::MAX))]),
        with(good.clone(), &[("key", json!([1, 2, 3]))]),
        with(good.clone(), &[("digest", json!("crc32"))]),
        with(good.clone(), &[("compare_until", json!(1.5))]),
        json!({}),
    ];
    for start in starts {
        let reason = ring::run(async {
            let open = open("far", SIZE);
            let mut peer = RawPeer::open_soon(&victim.hosts.away, victim.server.address(), &open).await;
            peer.say(&control(START, &start)).await;
            peer.reason().await
        });
        assert!(reason.expect("there is io_uring").is_some(), "no reason for {start}");
        assert!(!is_unfinished(&victim.hosts.home, &victim.hosts.home.path("far")), "{start}");
    }
    victim.assert_well();
}

#[test]
fn an_image_made_for_a_run_that_never_begins_is_taken_away() {
    let hosts = Hosts::new();
    let far = hosts.home.path("new");
    let server = hosts.serve(&[export("new", &far)]);
    let gone = ring::run(async {
        let mut open = open("new", SIZE);
        open["create"] = json!("raw");
        let mut peer = RawPeer::open_soon(&hosts.away, server.address(), &open).await;
        assert!(far.exists(), "the image is there while its run may begin");
        let mut absurd = start(SIZE);
        absurd["lanes"] = json!(0);
        peer.say(&control(START, &absurd)).await;
        peer.reason().await
    });
    assert!(gone.expect("there is io_uring").is_some(), "no reason");
    assert!(!far.exists(), "an empty image is left");
}

#[test]
fn a_start_that_trusts_what_an_earlier_run_left_is_refused() {
    let victim = Victim::new();
    let far = victim.hosts.home.path("far");
    let reason = ring::run(async {
        let mut peer = victim.begin().await;
        // One whole segment, rightly written, and then gone.
        let bytes = victim.model.bytes[..65_536].to_vec();
        peer.say(&[data(0, &bytes), segment_done(0)].concat()).await;
        // What a connection that breaks has not brought yet is lost with it.
        eventually("its target is marked", || is_unfinished(&victim.hosts.home, &far));
        drop(peer);
        let open = open("far", SIZE);
        let mut peer = RawPeer::open_soon(&victim.hosts.away, victim.server.address(), &open).await;
        let mut trusting = start(SIZE);
        trusting["compare_until"] = json!(0);
        peer.say(&control(START, &trusting)).await;
        peer.reason().await
    });
    let reason = reason.expect("there is io_uring").expect("it is refused");
    assert!(reason["message"].to_string().contains("earlier run left"), "{reason}");
    assert!(is_unfinished(&victim.hosts.home, &far));
    victim.assert_well();
}

#[test]
fn strange_beginnings_of_a_session_are_refused() {
    let victim = Victim::new();
    let deep = "[".repeat(60_000);
    let session = json!({"session": vec![9; 16], "lane": 1});
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![0xff; 100], "unknown kind"),
        (frame(HELLO, 0, 0, 0, b"FALLBACK\x01\0\x01\0"), "does not speak"),
        (frame(HELLO, 0, 0, 0, b"FAIL"), "does not speak"),
        (control(OPEN, &open("far", SIZE)), "does not speak"),
        (hello(1, 1), "versions 1 to 1"),
        (hello(3, 7), "versions 3 to 7"),
        (hello(0, 0), "versions 0 to 0"),
        (hello(7, 2), "does not speak"),
        ([hello(2, 2), control(START, &start(SIZE))].concat(), "Open or Join"),
        ([hello(2, 2), control(JOIN, &session)].concat(), "no such run"),
        (
            [hello(2, 2), control(JOIN, &json!({"session": vec![9; 15], "lane": 1}))].concat(),
            "cannot be read",
        ),
        ([hello(2, 2), frame(OPEN, 0, 0, 0, deep.as_bytes())].concat(), "cannot be read"),
        ([hello(2, 2), frame(OPEN, 0, 0, 0, &[0xff; 60_000])].concat(), "cannot be read"),
        ([hello(2, 2), header(OPEN, 0, 65_537, 0, 0).to_vec()].concat(), "broke the protocol"),
        ([hello(2, 2), frame(OPEN, 1, 0, 0, b"{}")].concat(), "broke the protocol"),
    ];
    for (bytes, wanted) in cases {
        let reason = ring::run(async {
            let connected = RawPeer::connect(&victim.hosts.away, victim.server.address()).await;
            let mut peer = connected.expect("the server lets a paired client in");
            peer.expect(HELLO).await;
            peer.say(&bytes).await;
            peer.reason().await
        });
        let reason = reason
            .expect("there is io_uring")
            .unwrap_or_else(|| panic!("no reason where {wanted:?} was due"));
        assert!(reason["message"].to_string().contains(wanted), "no {wanted:?} in {reason}");
    }
    victim.assert_well();
}

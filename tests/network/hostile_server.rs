//! Paired servers that say nonsense: the client ends with the reason, and its
//! own disk is as it was.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::{Model, Outcome, Random, Scratch};

use super::hosts::{assert_message, error, path_text, sync};
use super::raw::{
    ALIVE, CREDIT, DATA, DIGESTS, FINISHED, HELLO, HOLE, OPEN, OPENED, REFUSED, RawPeer, RawServer,
    SEGMENT_DONE, START, STARTED, ZERO, control, end, facts, frame, header, hello,
};

const SIZE: u64 = 4 << 20;
const MIB: u64 = 1 << 20;

/// Where a script leaves the path of a good server.
enum Script {
    /// In place of the greeting.
    Hello(Vec<u8>),
    /// In place of what was opened.
    Opened(Vec<u8>),
    /// Once the run has begun.
    Run(Vec<u8>),
}

impl Script {
    async fn play(self, mut peer: RawPeer) {
        match self {
            Self::Hello(bytes) => peer.say(&bytes).await,
            Self::Opened(bytes) => {
                peer.say(&hello(2, 2)).await;
                peer.expect(HELLO).await;
                peer.expect(OPEN).await;
                peer.say(&bytes).await;
            }
            Self::Run(bytes) => {
                peer.say(&hello(2, 2)).await;
                peer.expect(HELLO).await;
                peer.expect(OPEN).await;
                peer.say(&opened(SIZE)).await;
                peer.expect(START).await;
                peer.say(&control(STARTED, &json!({"session": vec![1; 16]}))).await;
                peer.say(&bytes).await;
            }
        }
        // Not before the client has left: it must not need our end for its own.
        peer.reason().await;
    }
}

fn opened(size: u64) -> Vec<u8> {
    control(OPENED, &json!({"disk": facts(size), "resumed_from": null}))
}

fn refusal(code: &str, message: &str, cursor: Option<u64>) -> Vec<u8> {
    control(REFUSED, &json!({"code": code, "message": message, "unfinished_cursor": cursor}))
}

fn digests(offset: u64, length: u64) -> Vec<u8> {
    frame(DIGESTS, 0, offset, length, &vec![1; usize::try_from(length.div_ceil(65_536) * 16).expect("small")])
}

/// Beginnings that are wrong whichever way the disk shall go.
fn beginnings() -> Vec<(&'static str, Script, i32, &'static str)> {
    vec![
        ("garbage", Script::Hello(vec![0xff; 100]), 1, "unknown kind"),
        ("another greeting", Script::Hello(frame(HELLO, 0, 0, 0, b"SSH-2.0-abcd")), 3, "does not speak"),
        ("newer versions only", Script::Hello(hello(7, 9)), 3, "versions 7 to 9"),
        ("no greeting", Script::Hello(opened(SIZE)), 3, "does not speak"),
        ("an opened that cannot be read", Script::Opened(frame(OPENED, 0, 0, 0, b"{")), 1, "cannot be read"),
        ("a deep one", Script::Opened(frame(OPENED, 0, 0, 0, &[b'['; 60_000])), 1, "cannot be read"),
        ("a huge one", Script::Opened(header(OPENED, 0, u32::MAX, 0, 0).to_vec()), 1, "broke the protocol"),
        ("a start instead", Script::Opened(control(STARTED, &json!({}))), 1, "broke the protocol"),
        ("a refusal", Script::Opened(refusal("refused", "not today", None)), 3, "not today"),
        ("a newer refusal", Script::Opened(refusal("too-warm", "not today", None)), 1, "not today"),
        ("a colourful refusal", Script::Opened(refusal("refused", "\u{1b}[2J\u{7}red", None)), 3, "red"),
        ("an unknown kind", Script::Run(header(200, 0, 0, 0, 0).to_vec()), 1, "unknown kind 200"),
        ("a huge payload", Script::Run(header(DATA, 0, u32::MAX, 0, MIB).to_vec()), 1, "broke the protocol"),
        ("the end of all", Script::Run(control(FINISHED, &json!({}))), 1, "broke the protocol"),
    ]
}

fn play(name: &str, script: Script, pull: bool, own: &std::path::Path, hosts: &[Scratch; 2]) -> Outcome {
    let server = RawServer::start(&hosts[0], &hosts[1], async move |peer| script.play(peer).await);
    let url = server.url();
    let (from, to) = if pull { (url.as_str(), path_text(own)) } else { (path_text(own), url.as_str()) };
    println!("{name}");
    let run = sync(&hosts[1], from, to, &["--streams", "1"]).timeout(Duration::from_secs(15)).run();
    server.finish();
    run
}

#[test]
fn a_push_to_a_hostile_server_ends_with_the_reason() {
    let hosts = [Scratch::new(), Scratch::new()];
    let source = hosts[1].path("source");
    let model = Model::random(usize::try_from(SIZE).expect("small"), &mut Random::new());
    model.save(&source);
    let protocol = "broke the protocol";
    let holes = frame(HOLE, 0, 0, SIZE, &[]).repeat(5000);
    let early = [digests(0, MIB), end()].concat();
    let mut cases = beginnings();
    cases.extend([
        ("a smaller disk", Script::Opened(opened(SIZE - 512)), 3, "smaller"),
        ("digests of another window", Script::Run(digests(MIB, MIB)), 1, protocol),
        ("digests of half a window", Script::Run(digests(0, MIB / 2)), 1, protocol),
        ("digests past the end", Script::Run(digests(SIZE, MIB)), 1, protocol),
        ("too few digests", Script::Run(frame(DIGESTS, 0, 0, MIB, &[0; 16])), 1, protocol),
        ("a hole somewhere", Script::Run(frame(HOLE, 0, MIB, MIB, &[])), 1, protocol),
        ("an empty hole", Script::Run(frame(HOLE, 0, 0, 0, &[])), 1, protocol),
        ("half a hole", Script::Run(frame(HOLE, 0, 0, MIB / 2, &[])), 1, protocol),
        ("more than was granted", Script::Run(holes), 1, protocol),
        ("the end at once", Script::Run(end()), 1, protocol),
        ("the end after one window", Script::Run(early), 1, protocol),
        ("data", Script::Run(frame(DATA, 0, 0, 65_536, &[0; 17])), 1, protocol),
        ("credit", Script::Run(frame(CREDIT, 0, 0, 1, &[])), 1, protocol),
        ("a failure", Script::Run(refusal("failed", "no space", Some(7 << 20))), 1, "no space"),
        ("an interruption", Script::Run(refusal("interrupted", "stopped", Some(7 << 20))), 6, "stopped"),
        ("a difference", Script::Run(refusal("differs", "not equal", Some(0))), 5, "not equal"),
    ]);
    for (name, script, code, wanted) in cases {
        let outcome = play(name, script, false, &source, &hosts).expect_code(code);
        assert_message(&outcome, &[wanted]);
        assert!(!outcome.stderr.contains('\u{1b}'), "{outcome:#}");
        model.assert_starts(&source);
    }
}

#[test]
fn a_pull_from_a_hostile_server_leaves_the_target_as_it_was() {
    let hosts = [Scratch::new(), Scratch::new()];
    let target = hosts[1].path("target");
    let model = Model::random(usize::try_from(SIZE).expect("small"), &mut Random::new());
    model.save(&target);
    let protocol = "broke the protocol";
    let data = |offset, length: u64, payload: usize| frame(DATA, 0, offset, length, &vec![5; payload]);
    let done = frame(SEGMENT_DONE, 0, 0, SIZE, &[]);
    let mut cases = beginnings();
    cases.extend([
        ("a larger disk", Script::Opened(opened(SIZE + 512)), 3, "smaller"),
        ("the largest disk", Script::Opened(opened(u64::MAX)), 3, "smaller"),
        ("no facts", Script::Opened(control(OPENED, &Value::Null)), 1, "cannot be read"),
        ("a wrong digest", Script::Run(data(0, 65_536, 65_552)), 6, "do not have their digest"),
        ("data past the end", Script::Run(data(SIZE, 65_536, 65_552)), 1, protocol),
        ("too little data", Script::Run(data(0, 65_536, 100)), 1, protocol),
        ("zeroes past the end", Script::Run(frame(ZERO, 0, 0, 2 * SIZE, &[])), 1, protocol),
        ("a segment of another size", Script::Run(frame(SEGMENT_DONE, 0, 0, SIZE + 1, &[])), 1, protocol),
        ("the end at once", Script::Run(end()), 1, protocol),
        ("a segment too many", Script::Run([done.clone(), done].concat()), 1, protocol),
        ("digests", Script::Run(digests(0, MIB)), 1, protocol),
        ("a failure", Script::Run(refusal("failed", "cannot read", None)), 1, "cannot read"),
        (
            "signs of life",
            Script::Run([frame(ALIVE, 0, 0, 0, &[]).repeat(9999), end()].concat()),
            1,
            protocol,
        ),
    ]);
    for (name, script, code, wanted) in cases {
        let outcome = play(name, script, true, &target, &hosts).expect_code(code);
        assert_message(&outcome, &[wanted]);
        assert!(!error(&outcome)["target_state"].is_null(), "{outcome}");
        assert!(!outcome.stderr.contains('\u{1b}'), "{outcome:#}");
        model.assert_starts(&target);
    }
}

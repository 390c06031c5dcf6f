//! A good session that ends early, after every frame and within each: of a
//! source, of a target, and of a second lane.

use failback_datapath::ring;
use serde_json::{Value, json};

use super::hostile_client::{SIZE, Victim, data, segment_done};
use super::lanes::{begin, join};
use super::raw::{
    DIGESTS, END, FINISHED, HELLO, HOLE, JOIN, OPEN, RawPeer, START, STARTED, control, end, frame, hello,
    open, start,
};

/// Where to cut a session: after each frame, at every byte of its header, and
/// at some bytes of its body.
fn cuts(session: &[Vec<u8>]) -> Vec<usize> {
    let (mut cuts, mut at) = (Vec::new(), 0);
    for frame in session {
        let length = frame.len();
        let body = [25, 39, 40, 41, length / 3, length / 2, length - 1, length];
        cuts.extend((0..=24).chain(body).map(|cut| at + cut.min(length)));
        at += length;
    }
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

#[test]
fn a_client_that_leaves_at_any_byte_does_no_harm() {
    let victim = Victim::new();
    let (away, address) = (&victim.hosts.away, victim.server.address());
    // It writes what is there already, so whatever came is right.
    let source = std::fs::read(away.path("source")).expect("it was saved");
    let opening = [hello(2, 2), control(OPEN, &open("far", SIZE))];
    let run = [
        control(START, &start(SIZE)),
        data(0, &source[..65_536]),
        data(65_536, &source[65_536..3 * 65_536]),
        segment_done(0),
        segment_done(1),
        end(),
    ];
    for cut in cuts(&opening) {
        let left = ring::run(async {
            let mut peer = RawPeer::connect(away, address).await.expect("the server lets a paired client in");
            peer.expect(HELLO).await;
            peer.say(&opening.concat()[..cut]).await;
        });
        left.expect("there is io_uring");
    }
    for cut in cuts(&run) {
        let left = ring::run(async {
            let mut peer = RawPeer::open_soon(away, address, &open("far", SIZE)).await;
            peer.say(&run.concat()[..cut]).await;
        });
        left.expect("there is io_uring");
    }
    // And all of it.
    let finished = ring::run(async {
        let mut peer = RawPeer::open_soon(away, address, &open("far", SIZE)).await;
        peer.say(&run.concat()).await;
        while peer.hear().await.expect("the server ends well").kind != FINISHED {}
    });
    finished.expect("there is io_uring");
    victim.assert_well();
}

/// An `Open` of the export as the source.
fn open_source() -> Value {
    let mut open = open("far", SIZE);
    (open["role"], open["source"]) = (json!("source"), Value::Null);
    open
}

#[test]
fn a_client_that_pulls_and_leaves_at_any_byte_does_no_harm() {
    let victim = Victim::new();
    let (away, address) = (&victim.hosts.away, victim.server.address());
    // A target that holds nothing, and noise at its end: much is sent to it.
    let (segment, window) = (64 << 20, 1 << 20);
    let noise = |offset| frame(DIGESTS, 0, offset, window, &[0x5a; 256]);
    let run = [
        control(START, &start(SIZE)),
        frame(HOLE, 0, 0, segment, &[]),
        noise(segment),
        noise(segment + window),
        end(),
    ];
    for cut in cuts(&run) {
        let left = ring::run(async {
            let mut peer = RawPeer::open_soon(away, address, &open_source()).await;
            peer.say(&run.concat()[..cut]).await;
        });
        left.expect("there is io_uring");
    }
    // And all of it: the source ends its lane.
    let ended = ring::run(async {
        let mut peer = RawPeer::open_soon(away, address, &open_source()).await;
        peer.say(&run[0]).await;
        peer.expect(STARTED).await;
        peer.say(&run[1..].concat()).await;
        while peer.hear().await.expect("the server ends well").kind != END {}
    });
    ended.expect("there is io_uring");
    victim.assert_well();
}

#[test]
fn a_second_lane_that_leaves_at_any_byte_does_no_harm() {
    let victim = Victim::new();
    let (away, address) = (&victim.hosts.away, victim.server.address());
    let source = std::fs::read(away.path("source")).expect("it was saved");
    let segment = 64 << 20;
    let first = [segment_done(0), end()].concat();
    let second = [
        data(segment, &source[64 << 20..][..65_536]),
        data(segment + 65_536, &source[(64 << 20) + 65_536..][..196_608]),
    ];
    let second = [&second[..], &[segment_done(1), end()]].concat();
    // While it joins.
    for cut in cuts(&[hello(2, 2), control(JOIN, &json!({"session": vec![0; 16], "lane": 1}))]) {
        let left = ring::run(async {
            let (_leader, session) = begin(&victim).await;
            let mut peer = RawPeer::connect(away, address).await.expect("the server lets a paired client in");
            peer.expect(HELLO).await;
            let joining = [hello(2, 2), control(JOIN, &json!({"session": session, "lane": 1}))].concat();
            peer.say(&joining[..cut.min(joining.len())]).await;
        });
        left.expect("there is io_uring");
    }
    // Once it has joined: the first lane, which did all of its own, hears no
    // good end, and is not left waiting for one.
    let whole = second.concat();
    let run = async |cut: usize| {
        let (mut leader, session) = begin(&victim).await;
        let mut peer = join(away, &victim, &session, 1).await;
        leader.say(&first).await;
        peer.say(&whole[..cut]).await;
        let peer = (cut == whole.len()).then_some(peer);
        let mut has_finished = false;
        while let Ok(received) = leader.hear().await {
            has_finished |= received.kind == FINISHED;
            if has_finished {
                break;
            }
        }
        drop(peer);
        has_finished
    };
    for cut in cuts(&second) {
        let has_finished = ring::run(run(cut)).expect("there is io_uring");
        assert_eq!(has_finished, cut == whole.len(), "a lane that was cut at byte {cut} of {}", whole.len());
    }
    victim.assert_well();
}

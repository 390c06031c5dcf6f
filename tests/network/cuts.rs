//! A good session that ends early, after every frame and within each.

use failback_datapath::ring;

use super::hostile_client::{SIZE, Victim, data, segment_done};
use super::raw::{FINISHED, HELLO, OPEN, RawPeer, START, control, end, hello, open, start};

/// Where to cut a session: after each frame, and at some bytes within it.
fn cuts(session: &[Vec<u8>]) -> Vec<usize> {
    let (mut cuts, mut at) = (vec![0], 0);
    for frame in session {
        let length = frame.len();
        let within = [1, 8, 23, 24, 25, length / 2, length - 1, length].map(|cut| at + cut.min(length));
        cuts.extend(within);
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
    let opening = [hello(1, 1), control(OPEN, &open("far", SIZE))];
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

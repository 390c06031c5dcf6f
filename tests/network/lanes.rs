//! Runs of several connections: who may join, and what one that is missing or
//! talks nonsense does to the others.

use std::time::Duration;

use failback_datapath::ring;
use serde_json::{Value, json};

use crate::fixture::Scratch;

use super::hostile_client::{SIZE, Victim, data};
use super::hosts::pair;
use super::raw::{HELLO, JOIN, RawPeer, START, STARTED, control, hello, open, start};

/// The first connection of a run of two, and the run's number.
pub(super) async fn begin(victim: &Victim) -> (RawPeer, Value) {
    let open = open("far", SIZE);
    let mut peer = RawPeer::open_soon(&victim.hosts.away, victim.server.address(), &open).await;
    let mut start = start(SIZE);
    start["lanes"] = json!(2);
    peer.say(&control(START, &start)).await;
    let started = peer.expect(STARTED).await.json();
    (peer, started["session"].clone())
}

pub(super) async fn join(host: &Scratch, victim: &Victim, session: &Value, lane: u32) -> RawPeer {
    let connected = RawPeer::connect(host, victim.server.address()).await;
    let mut peer = connected.expect("the server lets a paired client in");
    peer.expect(HELLO).await;
    peer.say(&[hello(2, 2), control(JOIN, &json!({"session": session, "lane": lane}))].concat()).await;
    peer
}

async fn refusal(mut peer: RawPeer) -> String {
    peer.reason().await.expect("it is told why")["message"].to_string()
}

#[test]
fn only_missing_lanes_of_ones_own_run_may_be_joined() {
    let (victim, third) = (Victim::new(), Scratch::new());
    pair(&victim.hosts.home, victim.server.address(), &third);
    let away = &victim.hosts.away;
    let joined = ring::run(async {
        let (first, session) = begin(&victim).await;
        let stranger = join(&third, &victim, &session, 1).await;
        assert!(refusal(stranger).await.contains("no such run of yours"));
        for lane in [0, 2, u32::MAX] {
            let peer = join(away, &victim, &session, lane).await;
            assert!(refusal(peer).await.contains("is taken, or there is none"), "{lane}");
        }
        let second = join(away, &victim, &session, 1).await;
        std::thread::sleep(Duration::from_millis(100));
        let again = join(away, &victim, &session, 1).await;
        assert!(refusal(again).await.contains("is taken, or there is none"));
        drop((first, second));
    });
    joined.expect("there is io_uring");
    victim.assert_untouched();
}

#[test]
fn a_run_whose_lanes_never_came_lets_go_of_its_target() {
    let victim = Victim::new();
    ring::run(async {
        let (first, session) = begin(&victim).await;
        drop(first);
        drop(RawPeer::open_soon(&victim.hosts.away, victim.server.address(), &open("far", SIZE)).await);
        // And nobody joins it any more.
        let late = join(&victim.hosts.away, &victim, &session, 1).await;
        assert!(refusal(late).await.contains("no such run"));
    })
    .expect("there is io_uring");
    victim.assert_untouched();
}

#[test]
fn a_lane_that_talks_nonsense_ends_its_run_with_the_reason() {
    let victim = Victim::new();
    let reason = ring::run(async {
        let (first, session) = begin(&victim).await;
        let mut second = join(&victim.hosts.away, &victim, &session, 1).await;
        // Of the other lane's segment.
        second.say(&data(0, &[1; 65_536])).await;
        assert!(second.reason().await.is_some());
        refusal(first).await
    });
    let reason = reason.expect("there is io_uring");
    assert!(reason.contains("broke the protocol"), "{reason}");
    victim.assert_well();
}

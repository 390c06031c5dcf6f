//! What a server gives a peer at most: time.

use std::time::Duration;

use failback_datapath::ring;

use crate::fixture::export;

use super::hosts::Hosts;
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
        peer.say(&[&hello(1, 1)[..], begin].concat()).await;
        for byte in rest.iter().take(DROPS) {
            peer.say(&[*byte]).await;
            tokio::time::sleep(DROP_EVERY).await;
        }
        peer.reason().await
    });
    let reason = reason.expect("there is io_uring").expect("the server says why");
    assert!(reason["message"].to_string().contains("not the rest of it"), "{reason}");
}

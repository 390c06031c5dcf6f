//! Peers that are there, and bring nothing about; with limits short enough to wait for.

use std::future::pending;

use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::ring;
use crate::wire::tls;

const MOMENT: Duration = Duration::from_millis(20);

/// A link, and what its peer writes to it and reads from it.
fn linked(patience: Patience) -> (LinkSender, LinkReceiver, DuplexStream, DuplexStream) {
    let (theirs_in, ours_in) = duplex(1 << 16);
    let (ours_out, theirs_out) = duplex(1 << 16);
    let (sender, receiver) = tls::pipe(ours_in, ours_out, "a peer");
    let (sender, receiver) = link(sender, receiver, "a peer");
    (sender, LinkReceiver { patience, ..receiver }, theirs_in, theirs_out)
}

fn short(frame: u32, idle: Option<u32>) -> Patience {
    Patience { frame: MOMENT * frame, payload_kib: MOMENT, idle: idle.map(|moments| MOMENT * moments) }
}

/// Does both until the first has ended.
fn against<T>(work: impl Future<Output = T>, peer: impl Future<Output = ()>) -> T {
    let both = async {
        tokio::select! {
            done = work => done,
            () = async { peer.await; pending().await } => unreachable!("it waits for ever"),
        }
    };
    ring::run(both).expect("there is io_uring")
}

async fn drip(stream: &mut DuplexStream, bytes: &[u8]) {
    for byte in bytes {
        stream.write_all(&[*byte]).await.expect("it is read");
        tokio::time::sleep(MOMENT / 4).await;
    }
}

#[test]
fn a_frame_that_drips_is_not_waited_for() {
    let body = serde_json::to_vec(&vec!["x"; 100]).expect("it is JSON");
    let length = u32::try_from(body.len()).expect("it is short");
    let header = Header::with_payload(Kind::Started, length).encode();
    let (_sender, mut receiver, mut peer, _kept) = linked(short(20, None));
    let work = async { receiver.receive_message::<Vec<String>>(Kind::Started).await };
    let ended = against(work, async {
        peer.write_all(&header).await.expect("it is read");
        drip(&mut peer, &body).await;
    });
    assert!(matches!(ended, Err(Error::Slow { .. })), "{ended:?}");
    // Nor is a header.
    let (_sender, mut receiver, mut peer, _kept) = linked(short(4, None));
    let ended = against(receiver.receive(), async { drip(&mut peer, &header).await });
    assert!(matches!(ended, Err(Error::Slow { .. })), "{ended:?}");
}

#[test]
fn a_slow_frame_is_taken_and_so_is_one_that_waits_for_this_end() {
    let body = serde_json::to_vec(&["x"]).expect("it is JSON");
    let length = u32::try_from(body.len()).expect("it is short");
    let header = Header::with_payload(Kind::Started, length).encode();
    let (_sender, mut receiver, mut peer, _kept) = linked(short(20, None));
    let work = async {
        let header = receiver.receive().await?;
        // A disk that is slow here is not the peer's doing.
        tokio::time::sleep(MOMENT * 30).await;
        receiver.body::<Vec<String>>(header).await
    };
    let ended = against(work, async {
        drip(&mut peer, &header).await;
        drip(&mut peer, &body).await;
    });
    assert_eq!(ended.expect("it came"), ["x"]);
}

async fn live(peer: &mut DuplexStream, count: usize) {
    let alive = Header::bare(Kind::Alive, Extent::between(0, 0)).encode();
    for _ in 0..count {
        peer.write_all(&alive).await.expect("it is read");
        tokio::time::sleep(MOMENT).await;
    }
}

#[test]
fn signs_of_life_alone_keep_no_lane() {
    let (_sender, mut receiver, mut peer, _kept) = linked(short(20, Some(10)));
    let ended = against(receiver.receive(), live(&mut peer, 1000));
    assert!(matches!(ended, Err(Error::Idle { .. })), "{ended:?}");
}

#[test]
fn a_lane_that_moves_the_other_way_is_kept_and_so_is_a_verification() {
    let zero = Header::bare(Kind::Zero, Extent::between(0, 1 << 16));
    let (sender, mut receiver, mut peer, _kept) = linked(short(20, Some(15)));
    let work = async {
        let sends = async {
            loop {
                sender.send(zero, &[]).await.expect("it is taken");
                tokio::time::sleep(MOMENT).await;
            }
        };
        tokio::select! {
            received = receiver.receive() => received,
            () = sends => unreachable!("it sends for ever"),
        }
    };
    let ended = against(work, async {
        live(&mut peer, 30).await;
        peer.write_all(&zero.encode()).await.expect("it is read");
    });
    assert_eq!(ended.expect("it came").kind, Kind::Zero);
    let (_sender, mut receiver, mut peer, _kept) = linked(short(20, Some(5)));
    receiver.limit_idleness(None);
    let ended = against(receiver.receive(), async {
        live(&mut peer, 20).await;
        peer.write_all(&zero.encode()).await.expect("it is read");
    });
    assert_eq!(ended.expect("it came").kind, Kind::Zero);
}

//! Bytes through an open channel, in good times and bad.

use super::*;

/// Sends messages of many sizes each way at once, and compares.
async fn exchange(client: (Sender, Receiver), server: (Sender, Receiver), sizes: &[usize], header: usize) {
    async fn send(mut sender: Sender, sizes: &[usize], header: usize, seed: u64) -> Sender {
        for (number, size) in sizes.iter().enumerate() {
            let bytes = pattern(seed + number as u64, header + size);
            sender.send(&[&bytes[..header], &bytes[header..]]).await.unwrap();
        }
        sender.close().await.unwrap();
        sender
    }
    async fn receive(mut receiver: Receiver, sizes: &[usize], header: usize, seed: u64) {
        for (number, size) in sizes.iter().enumerate() {
            let mut bytes = vec![0; header + size];
            receiver.read_exact(&mut bytes[..header]).await.unwrap();
            receiver.read_exact(&mut bytes[header..]).await.unwrap();
            assert!(bytes == pattern(seed + number as u64, header + size), "message {number} of {size}");
        }
        assert!(matches!(receiver.read_exact(&mut [0]).await, Err(Error::Closed { .. })));
        assert!(matches!(receiver.read_exact(&mut [0]).await, Err(Error::Closed { .. })), "it stays closed");
    }
    let (mut up, _, mut down, _) = tokio::join!(
        send(client.0, sizes, header, 1_000),
        receive(server.1, sizes, header, 1_000),
        send(server.0, sizes, header, 2_000),
        receive(client.1, sizes, header, 2_000),
    );
    assert!(matches!(up.send(&[b"x"]).await, Err(Error::Finished { .. })));
    assert!(matches!(down.close().await, Err(Error::Finished { .. })));
}

const SIZES: [usize; 16] = [
    1,
    0,
    31,
    4095,
    4096,
    16_383,
    16_384,
    16_385,
    65_536,
    131_071,
    131_072,
    131_073,
    1 << 20,
    (1 << 20) + 17,
    5,
    300_000,
];

#[test]
fn messages_of_every_size_arrive_both_ways_at_once() {
    run(async {
        let (client, server) = Hosts::paired().channel().await;
        exchange(client, server, &SIZES.repeat(3), 32).await;
    });
}

#[test]
fn messages_arrive_however_the_network_cuts_them() {
    for piece in [1, 2, 3, 7, 100, 1449] {
        run(async {
            let (client, server) = Hosts::paired().channel_over(Relay { piece, ..Relay::default() }).await;
            exchange(client, server, &[1, 500, 17_000, 40_000], 3).await;
        });
    }
}

#[test]
fn keys_are_renewed_in_the_middle_of_everything() {
    for (records, piece) in [(2, 0), (3, 0), (8, 0), (64, 0), (3, 1), (5, 7)] {
        let mut hosts = Hosts::paired();
        let (provider, keys) = worn_out_after(records);
        hosts.client = hosts.client.with_provider(provider);
        hosts.server = hosts.server.with_provider(worn_out_after(records).0);
        let sizes: &[usize] = if piece == 0 { &SIZES } else { &[1, 500, 17_000, 40_000, 3, 9] };
        run(async {
            let (client, server) = hosts.channel_over(Relay { piece, ..Relay::default() }).await;
            exchange(client, server, sizes, 32).await;
        });
        // One for the handshake, one for the session, the rest in its course: at
        // most one for the eight records that are encrypted at a time.
        let records_sent = sizes.iter().map(|size| 1 + size.div_ceil(16 << 10)).sum::<usize>() as u64;
        let renewed = keys.load(Ordering::Relaxed) - 2;
        assert!(
            renewed as u64 >= records_sent / records.max(8) / 2,
            "{renewed} keys for {records_sent} records"
        );
    }
}

#[test]
fn keys_are_renewed_for_a_side_that_only_listens() {
    let mut hosts = Hosts::paired();
    hosts.client = hosts.client.with_provider(worn_out_after(4).0);
    run(async {
        let (mut client, mut server) = hosts.channel().await;
        let bytes = pattern(1, 4 << 20);
        let mut received = vec![0; bytes.len()];
        let pieces = [&bytes[..]];
        let (sent, got) = tokio::join!(client.0.send(&pieces), server.1.read_exact(&mut received));
        sent.unwrap();
        got.unwrap();
        assert!(received == bytes);
        server.0.send(&[b"its own keys were due for renewal too"]).await.unwrap();
        let mut answer = [0; 37];
        client.1.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"its own keys were due for renewal too");
    });
}

/// More than 2^24 records with the keys of the real suites: takes a minute.
#[test]
#[ignore = "sends 17 million records"]
fn keys_are_renewed_where_aes_demands_it() {
    run_long(async {
        let (mut client, mut server) = Hosts::paired().channel().await;
        let total: u32 = (1 << 24) + 100_000;
        let send = async {
            for number in 0..total {
                client.0.send(&[&[number.to_le_bytes()[0]]]).await.unwrap();
            }
        };
        let receive = async {
            let mut bytes = vec![0; 100_000];
            let mut number = 0_u32;
            while number < total {
                let count = bytes.len().min((total - number) as usize);
                server.1.read_exact(&mut bytes[..count]).await.unwrap();
                for byte in &bytes[..count] {
                    assert_eq!(*byte, number.to_le_bytes()[0]);
                    number += 1;
                }
            }
        };
        tokio::join!(send, receive);
    });
}

fn run_long(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(LocalSet::new().run_until(work));
}

#[test]
fn the_channel_works_on_the_runtime_of_the_ring() {
    tokio_uring::start(async {
        let (client, server) = Hosts::paired().channel().await;
        exchange(client, server, &SIZES, 32).await;
    });
}

#[test]
fn a_cut_is_told_from_an_end() {
    run(async {
        let hosts = Hosts::paired();
        let (client, mut server) = hosts.channel().await;
        drop(client);
        assert!(matches!(server.1.read_exact(&mut [0]).await, Err(Error::Truncated { .. })), "no farewell");

        let (mut client, mut server) = hosts.channel().await;
        client.0.send(&[b"half"]).await.unwrap();
        client.0.close().await.unwrap();
        let cut = server.1.read_exact(&mut [0; 8]).await;
        assert!(matches!(cut, Err(Error::Truncated { .. })), "a farewell in the middle of a message");
    });
}

#[test]
fn a_changed_byte_is_noticed_and_never_delivered() {
    run(async {
        let hosts = Hosts::paired();
        let flip_to_server = Some(100_000);
        let relay = Relay { flip_to_server, ..Relay::default() };
        let (mut client, mut server) = hosts.channel_over(relay).await;
        let bytes = pattern(1, 200_000);
        client.0.send(&[&bytes]).await.unwrap();
        let mut received = vec![0; bytes.len()];
        let failed = server.1.read_exact(&mut received).await;
        assert!(matches!(failed, Err(Error::Record { .. })), "{failed:?}");
        let told = client.1.read_exact(&mut [0]).await;
        assert!(matches!(told, Err(Error::Record { .. } | Error::Truncated { .. })), "{told:?}");
        assert!(server.1.read_exact(&mut [0]).await.is_err(), "nothing works after that");
        assert!(server.0.send(&[b"x"]).await.is_err());
    });
}

#[test]
fn silence_ends_a_receive_and_a_full_peer_a_send() {
    run(async {
        let (mut client, mut server) = Hosts::paired().channel().await;
        let limit = Duration::from_millis(200);
        server.1.limit_silence(limit);
        let silent = server.1.read_exact(&mut [0]).await;
        assert!(matches!(silent, Err(Error::Silent { .. })), "{silent:?}");
        client.0.send(&[b"late"]).await.unwrap();
        server.1.read_exact(&mut [0; 4]).await.unwrap();

        client.0.limit_silence(limit);
        let bytes = vec![0; 1 << 20];
        let mut sent = Ok(());
        for _ in 0..100 {
            sent = client.0.send(&[&bytes]).await;
            if sent.is_err() {
                break;
            }
        }
        assert!(matches!(sent, Err(Error::Stalled { .. })), "{sent:?}");
        assert!(matches!(client.0.send(&[b"x"]).await, Err(Error::Abandoned { .. })));
    });
}

#[test]
fn a_dropped_call_never_shifts_the_stream() {
    run(async {
        let (mut client, mut server) = Hosts::paired().channel().await;
        let moment = Duration::from_millis(50);
        let mut four = [0; 4];
        assert!(tokio::time::timeout(moment, server.1.read_exact(&mut four)).await.is_err());
        client.0.send(&[b"ab"]).await.unwrap();
        assert!(tokio::time::timeout(moment, server.1.read_exact(&mut four)).await.is_err());
        let next = server.1.read_exact(&mut four).await;
        assert!(matches!(next, Err(Error::Abandoned { .. })), "two bytes are gone: {next:?}");

        let bytes = vec![0; 64 << 20];
        assert!(tokio::time::timeout(moment, client.0.send(&[&bytes])).await.is_err());
        assert!(matches!(client.0.send(&[b"x"]).await, Err(Error::Abandoned { .. })));
    });
}

#[test]
fn pipes_carry_the_same_messages() {
    run(async {
        let (ours, theirs) = tokio::io::duplex(1000);
        let (ours_in, ours_out) = tokio::io::split(ours);
        let (theirs_in, theirs_out) = tokio::io::split(theirs);
        exchange(pipe(ours_in, ours_out, "ours"), pipe(theirs_in, theirs_out, "theirs"), &SIZES, 32).await;
    });
}

#[test]
fn pipes_fail_as_sockets_do() {
    run(async {
        let (ours, theirs) = tokio::io::duplex(1000);
        let (ours_in, ours_out) = tokio::io::split(ours);
        let (theirs_in, theirs_out) = tokio::io::split(theirs);
        let (mut sender, _receiver) = pipe(ours_in, ours_out, "host b");
        let (_sender, mut receiver) = pipe(theirs_in, theirs_out, "host a");
        let limit = Duration::from_millis(100);
        receiver.limit_silence(limit);
        sender.limit_silence(limit);
        assert!(matches!(receiver.read_exact(&mut [0]).await, Err(Error::Silent { .. })));
        sender.send(&[b"half"]).await.unwrap();
        let stalled = sender.send(&[&[0; 10_000]]).await;
        assert!(matches!(&stalled, Err(Error::Stalled { peer, .. }) if peer == "host b"), "{stalled:?}");
        assert!(matches!(sender.close().await, Err(Error::Abandoned { .. })));
        drop((sender, _receiver));
        assert!(matches!(receiver.read_exact(&mut [0; 20_000]).await, Err(Error::Truncated { .. })));
    });
}

#[test]
fn a_child_process_is_a_peer_over_its_pipes() {
    run(async {
        let mut child = tokio::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (mut sender, mut receiver) = pipe(output, input, "cat");
        let bytes = pattern(5, 3 << 20);
        let mut echoed = vec![0; bytes.len()];
        let pieces = [&bytes[..]];
        let (sent, got) = tokio::join!(sender.send(&pieces), receiver.read_exact(&mut echoed));
        sent.unwrap();
        got.unwrap();
        assert!(echoed == bytes);
        sender.close().await.unwrap();
        assert!(matches!(receiver.read_exact(&mut [0]).await, Err(Error::Closed { .. })));
        assert!(child.wait().await.unwrap().success());
    });
}

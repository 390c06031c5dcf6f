//! Peers that are slow, broken or hostile: an error in bounded time, no panic.

use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::wire::pairing;
use crate::wire::peers::{PinnedServer, Shown};

#[test]
fn anything_but_tls_is_refused_at_once() {
    let openings: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &[0; 5],
        &[0xff; 20_000],
        &[22, 3, 1, 0xff, 0xff, 1, 0, 0, 0],
        &[22, 3, 1, 0, 4, 2, 0, 0, 0],
        &[21, 3, 3, 0, 2, 2, 40],
    ];
    run(async {
        let hosts = Hosts::paired();
        for opening in openings {
            let (address, served) = hosts.serve().await;
            let mut stream = dial(&address).await;
            let begun = Instant::now();
            let _ = stream.write_all(opening).await;
            stream.shutdown().await.unwrap();
            let error = served.await.unwrap().unwrap_err();
            assert!(
                matches!(error, Error::Handshake { .. } | Error::HandshakeInterrupted { .. }),
                "{opening:?}: {error:?}"
            );
            assert!(begun.elapsed() < Duration::from_secs(3));
        }
    });
}

#[test]
fn a_first_message_without_end_is_cut_off() {
    run(async {
        let hosts = Hosts::paired();
        let (address, served) = hosts.serve().await;
        let mut stream = dial(&address).await;
        // A first message of nearly 64 KiB, in records of 1000 bytes.
        let mut message = vec![1, 0, 0xff, 0xf0];
        message.extend_from_slice(&[3, 3]);
        message.resize(0xfff0, 0);
        for part in message.chunks(1000) {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            if stream.write_all(&[&[22, 3, 1][..], &length, part].concat()).await.is_err() {
                break;
            }
        }
        assert!(matches!(served.await.unwrap(), Err(Error::Handshake { .. })));
    });
}

/// Ends of a conversation that never comes.
async fn ends_in_time(hosts: &Hosts, act: impl AsyncFnOnce(Address)) {
    let limit = Duration::from_millis(400);
    let (address, served) = hosts.serve_within(limit).await;
    let begun = Instant::now();
    let (ended, ()) = tokio::join!(served, async { act(address).await });
    let ended = ended.unwrap();
    assert!(matches!(ended, Err(Error::HandshakeTimeout { .. })), "{ended:?}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

const LINGER: Duration = Duration::from_millis(800);

#[test]
fn a_client_that_never_comes_to_an_end_is_dropped_by_the_deadline() {
    let hello = recorded_hello(PROTOCOL);
    let half = hello[..hello.len() / 2].to_vec();
    run(async {
        let hosts = Hosts::paired();
        for opening in [&b""[..], &hello[..1], &half, &hello, &recorded_hello(pairing::PROTOCOL)] {
            ends_in_time(&hosts, async |address| {
                let mut stream = dial(&address).await;
                stream.write_all(opening).await.unwrap();
                tokio::time::sleep(LINGER).await;
            })
            .await;
        }
        // One byte at a time is no way to gain time either.
        ends_in_time(&hosts, async |address| {
            let mut stream = dial(&address).await;
            for byte in &hello {
                if stream.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    });
}

#[test]
fn a_client_that_stops_in_the_middle_of_pairing_is_dropped_by_the_deadline() {
    run(async {
        let hosts = Hosts::strangers();
        let verifier = || Arc::new(PinnedServer::new(hosts.server.fingerprint(), Shown::default()));
        for said in [0, 1, 16, 48] {
            let configuration = hosts.client.client_configuration(verifier(), pairing::PROTOCOL).unwrap();
            ends_in_time(&hosts, async |address| {
                let connector = tokio_rustls::TlsConnector::from(configuration);
                let name = pairing::server_name();
                let mut stream = connector.connect(name, dial(&address).await).await.unwrap();
                stream.write_all(&vec![0; said]).await.unwrap();
                tokio::time::sleep(LINGER).await;
            })
            .await;
        }
    });
}

/// The first message that a client of `protocol` sends.
fn recorded_hello(protocol: &[u8]) -> Vec<u8> {
    let hosts = Hosts::strangers();
    let verifier = Arc::new(PinnedServer::new(hosts.server.fingerprint(), Shown::default()));
    let configuration = hosts.client.client_configuration(verifier, protocol).unwrap();
    let mut connection = rustls::ClientConnection::new(configuration, pairing::server_name()).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    run(async {
        let hosts = Hosts::paired();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::from(listener.local_addr().unwrap());
        let limit = Duration::from_millis(200);
        let ended = connect_within(limit, &address, &hosts.client, &hosts.server.fingerprint()).await;
        assert!(matches!(ended, Err(Error::HandshakeTimeout { .. })), "{ended:?}");
    });
}

/// Cuts a session after each number of bytes, one way or the other. The session:
/// a handshake, four bytes to the server, four back, farewells.
#[test]
fn a_cut_at_any_byte_is_an_error_on_both_sides_and_never_a_wrong_byte() {
    async fn client(hosts: &Hosts, address: &Address) -> Result<(), Error> {
        let (mut sender, mut receiver) = hosts.connect(address).await?;
        let mut answer = [0; 4];
        sender.send(&[b"ping"]).await?;
        receiver.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"pong");
        sender.close().await
    }
    async fn server(served: JoinHandle<Result<Accepted, Error>>) -> Result<(), Error> {
        let Accepted::Session { mut sender, mut receiver, .. } = served.await.unwrap()? else {
            panic!("no session");
        };
        let mut question = [0; 4];
        receiver.read_exact(&mut question).await?;
        assert_eq!(&question, b"ping");
        sender.send(&[b"pong"]).await?;
        match receiver.read_exact(&mut [0]).await {
            Err(Error::Closed { .. }) => Ok(()),
            Err(other) => Err(other),
            Ok(()) => panic!("a byte that nobody sent"),
        }
    }
    /// Whether the whole session went through before the cut.
    async fn session(hosts: &Hosts, relay: Relay) -> bool {
        let (address, served) = hosts.serve().await;
        let address = relay.start(address).await;
        let both = async { tokio::join!(client(hosts, &address), server(served)) };
        let (asked, answered) = tokio::time::timeout(Duration::from_secs(4), both).await.unwrap();
        // The server hears all that the client says before its last byte.
        assert!(asked.is_ok() || answered.is_err(), "{asked:?} {answered:?}");
        asked.is_ok() && answered.is_ok()
    }
    run(async {
        let hosts = Hosts::paired();
        let mut length = 0;
        while !session(&hosts, Relay { cut_to_server: Some(length), ..Relay::default() }).await {
            length += 1;
        }
        assert!((500..3000).contains(&length), "to the server: {length}");
        let mut length = 0;
        while !session(&hosts, Relay { cut_to_client: Some(length), ..Relay::default() }).await {
            length += 1;
        }
        assert!((500..3000).contains(&length), "to the client: {length}");
    });
}

/// Changes each byte that a client sends, one session at a time: the server
/// neither panics nor hangs nor takes a changed message for the true one.
#[test]
fn a_changed_byte_anywhere_never_changes_what_is_heard() {
    run(async {
        let hosts = Hosts::paired();
        for at in (0..1200).step_by(3) {
            let (address, served) = hosts.serve_within(Duration::from_millis(500)).await;
            let relay = Relay { flip_to_server: Some(at), ..Relay::default() };
            let address = relay.start(address).await;
            let said = spawn_local({
                let (client, expected) = (hosts.client.clone(), hosts.server.fingerprint());
                async move {
                    let limit = Duration::from_millis(600);
                    let (mut sender, _receiver) = connect_within(limit, &address, &client, &expected).await?;
                    sender.send(&[b"the true message"]).await?;
                    sender.close().await
                }
            });
            if let Ok(Accepted::Session { mut receiver, .. }) = served.await.unwrap() {
                receiver.limit_silence(Duration::from_millis(300));
                let mut heard = [0; 16];
                if receiver.read_exact(&mut heard).await.is_ok() {
                    assert_eq!(&heard, b"the true message", "byte {at}");
                }
            }
            said.abort();
        }
    });
}

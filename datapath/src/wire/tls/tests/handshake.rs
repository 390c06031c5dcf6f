//! Who is let in, who is not, and what each of them learns.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use super::*;
use crate::error::{Remediable, Remedy};
use crate::wire::peers::{PinnedServer, Shown};

#[test]
fn a_paired_client_gets_in_and_is_named() {
    run(async {
        let hosts = Hosts::paired();
        let (address, served) = hosts.serve().await;
        let (mut client, _) = hosts.connect(&address).await.unwrap();
        client.send(&[b"hello"]).await.unwrap();
        let Accepted::Session { mut receiver, peer, .. } = served.await.unwrap().unwrap() else {
            panic!("no session");
        };
        assert_eq!((peer.name.as_str(), peer.fingerprint), ("client", hosts.client.fingerprint()));
        let mut hello = [0; 5];
        receiver.read_exact(&mut hello).await.unwrap();
        assert_eq!(&hello, b"hello", "sent before the server was done with its handshake");
    });
}

#[test]
fn a_stranger_is_refused_and_told_to_pair() {
    run(async {
        let hosts = Hosts::strangers();
        let (address, served) = hosts.serve().await;
        // The trap of TLS 1.3: this side's handshake is over before it is refused.
        let (_sender, mut receiver) = hosts.connect(&address).await.unwrap();
        let refused = receiver.read_exact(&mut [0]).await.unwrap_err();
        assert!(
            matches!(&refused, Error::CertificateRefused { own, .. } if *own == hosts.client.fingerprint())
        );
        assert_eq!(refused.remedy(), Remedy::Refused);
        let text = refused.to_string();
        assert!(text.contains("failback pair") && text.contains(&address.to_string()), "{text}");
        let seen = served.await.unwrap().unwrap_err();
        assert!(matches!(&seen, Error::UnknownPeer { seen, .. } if *seen == hosts.client.fingerprint()));
    });
}

#[test]
fn a_stranger_that_sends_at_once_is_told_the_same() {
    run(async {
        let hosts = Hosts::strangers();
        let (address, _served) = hosts.serve().await;
        let (mut sender, mut receiver) = hosts.connect(&address).await.unwrap();
        let _ = sender.send(&[&[0; 10_000]]).await;
        let refused = receiver.read_exact(&mut [0]).await;
        assert!(matches!(refused, Err(Error::CertificateRefused { .. })), "{refused:?}");
    });
}

#[test]
fn a_peer_that_was_removed_is_out_at_once() {
    run(async {
        let hosts = Hosts::paired();
        hosts.channel().await;
        KnownPeers::forget(&hosts.server_directory(), &hosts.client.fingerprint()).unwrap();
        let (address, served) = hosts.serve().await;
        let _client = hosts.connect(&address).await;
        assert!(matches!(served.await.unwrap(), Err(Error::UnknownPeer { .. })));
    });
}

#[test]
fn a_server_we_know_may_not_connect_to_us_for_that() {
    run(async {
        let hosts = Hosts::strangers();
        let server = Peer::server("s", hosts.client.fingerprint(), "a:1".parse().unwrap(), SystemTime::now());
        KnownPeers::remember(&hosts.server_directory(), &server).unwrap();
        let (address, served) = hosts.serve().await;
        let _client = hosts.connect(&address).await;
        assert!(matches!(served.await.unwrap(), Err(Error::UnknownPeer { .. })));
    });
}

#[test]
fn another_server_at_the_address_is_refused_before_anything_is_sent() {
    run(async {
        let hosts = Hosts::paired();
        let (address, served) = hosts.serve().await;
        let expected = hosts.client.fingerprint();
        let wrong = connect(&address, &hosts.client, &expected).await.unwrap_err();
        let seen_and_expected = matches!(&wrong, Error::WrongServer { expected: e, seen, .. } if *e == expected && *seen == hosts.server.fingerprint());
        assert!(seen_and_expected, "{wrong:?}");
        assert!(matches!(served.await.unwrap(), Err(Error::Handshake { .. })));
    });
}

#[test]
fn nobody_at_the_address_is_said_so() {
    run(async {
        let hosts = Hosts::paired();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::from(listener.local_addr().unwrap());
        drop(listener);
        assert!(matches!(hosts.connect(&address).await, Err(Error::Unreachable { .. })));
    });
}

/// A client of rustls' own, without our rules.
async fn foreign(
    address: &Address,
    configuration: ClientConfig,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let name = ServerName::try_from("failback").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(configuration)).connect(name, dial(address).await).await
}

fn configuration(hosts: &Hosts, protocol: &[u8]) -> ClientConfig {
    let verifier = Arc::new(PinnedServer::new(hosts.server.fingerprint(), Shown::default()));
    Arc::unwrap_or_clone(hosts.client.client_configuration(verifier, protocol).unwrap())
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    run(async {
        let hosts = Hosts::paired();
        let (address, served) = hosts.serve().await;
        let mut anonymous = ClientConfig::builder_with_provider(Arc::new(suites()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let verifier = PinnedServer::new(hosts.server.fingerprint(), Shown::default());
        anonymous.dangerous().set_certificate_verifier(Arc::new(verifier));
        anonymous.alpn_protocols = vec![PROTOCOL.to_vec()];
        let mut stream = foreign(&address, anonymous).await.unwrap();
        let refused = stream.read_u8().await.unwrap_err();
        assert!(refused.to_string().contains("CertificateRequired"), "{refused}");
        assert!(matches!(served.await.unwrap(), Err(Error::Handshake { .. })));
    });
}

#[test]
fn other_protocols_over_tls_are_refused() {
    run(async {
        let hosts = Hosts::paired();
        let (address, served) = hosts.serve().await;
        assert!(foreign(&address, configuration(&hosts, b"http/1.1")).await.is_err());
        assert!(matches!(served.await.unwrap(), Err(Error::Handshake { .. })));

        let (address, served) = hosts.serve().await;
        let mut none = configuration(&hosts, b"");
        none.alpn_protocols.clear();
        let mut stream = foreign(&address, none).await.unwrap();
        assert!(stream.read_u8().await.is_err());
        assert!(matches!(served.await.unwrap(), Err(Error::WrongProtocol { .. })));
    });
}

#[test]
fn a_connection_is_never_resumed() {
    run(async {
        let hosts = Hosts::paired();
        let mut eager = configuration(&hosts, PROTOCOL);
        eager.resumption = rustls::client::Resumption::in_memory_sessions(8);
        eager.enable_early_data = true;
        for _ in 0..2 {
            let (address, served) = hosts.serve().await;
            let mut stream = foreign(&address, eager.clone()).await.unwrap();
            let (mut sender, _receiver) = session(served.await.unwrap());
            sender.send(&[b"x"]).await.unwrap();
            stream.read_u8().await.unwrap();
            let connection = stream.get_ref().1;
            assert_eq!(connection.tls13_tickets_received(), 0);
            assert_eq!(connection.handshake_kind(), Some(rustls::HandshakeKind::Full));
            let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
            assert_eq!(suite, Some(rustls::CipherSuite::TLS13_AES_128_GCM_SHA256));
        }
    });
}

#[test]
fn tls_1_2_is_refused_with_its_alert() {
    run(async {
        let hosts = Hosts::paired();
        let (address, served) = hosts.serve().await;
        let mut stream = dial(&address).await;
        stream.write_all(&hello_of_tls_1_2()).await.unwrap();
        let answer = read_all(&mut stream).await;
        // An alert record: fatal, protocol_version.
        assert_eq!((answer.first(), answer.get(5..7)), (Some(&21), Some(&[2, 70][..])), "{answer:?}");
        assert!(matches!(served.await.unwrap(), Err(Error::Handshake { .. })));
    });
}

/// The first message of a client that knows no TLS 1.3.
fn hello_of_tls_1_2() -> Vec<u8> {
    let extensions = [
        &[0, 10, 0, 4, 0, 2, 0, 23][..],  // groups: secp256r1
        &[0, 11, 0, 2, 1, 0],             // point formats: uncompressed
        &[0, 13, 0, 6, 0, 4, 4, 3, 8, 4], // signatures: ECDSA, RSA-PSS with SHA-256
        &[0, 23, 0, 0],                   // extended master secret
        &[0, 16, 0, 13, 0, 11, 10],
        b"failback/1",
    ]
    .concat();
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    body.extend_from_slice(&u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend_from_slice(&extensions);
    let message = [&[1, 0][..], &u16::try_from(body.len()).unwrap().to_be_bytes(), &body].concat();
    [&[22, 3, 1][..], &u16::try_from(message.len()).unwrap().to_be_bytes(), &message].concat()
}

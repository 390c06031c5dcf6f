//! Pairing over the network, from the token to the first session.

use std::sync::Arc;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use rustls::pki_types::ServerName;

use super::*;
use crate::wire::identity::Fingerprint;
use crate::wire::pairing::{self, Refusal, Token};
use crate::wire::peers::{PinnedServer, Shown};

/// Serves any number of connections; the outcomes of pairing in order.
struct Server {
    address: Address,
    task: JoinHandle<()>,
    outcomes: tokio::sync::mpsc::UnboundedReceiver<Result<Accepted, Error>>,
}

impl Server {
    async fn start(hosts: &Hosts) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::from(listener.local_addr().unwrap());
        let settings = hosts.settings();
        let (tell, outcomes) = tokio::sync::mpsc::unbounded_channel();
        let task = spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (settings, tell) = (settings.clone(), tell.clone());
                spawn_local(async move {
                    let _ = tell.send(accept(stream, &settings).await);
                });
            }
        });
        Self { address, task, outcomes }
    }

    async fn outcome(&mut self) -> Result<Accepted, Error> {
        self.outcomes.recv().await.unwrap()
    }

    async fn refusal(&mut self) -> Refusal {
        match self.outcome().await {
            Err(Error::Pairing(pairing::Error::Rejected { refusal, .. })) => refusal,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn issue(hosts: &Hosts, server: &Server) -> Token {
    pairing::issue(&hosts.server_directory(), &server.address, &hosts.server).unwrap()
}

/// `token` with another secret, under the same id.
fn with_wrong_secret(token: &Token) -> Token {
    let mut token = token.clone();
    token.spoil_secret();
    token
}

#[test]
fn pairing_makes_both_sides_known_and_a_session_possible() {
    run(async {
        let hosts = Hosts::strangers();
        let mut server = Server::start(&hosts).await;
        let token = issue(&hosts, &server).to_string().parse().unwrap();
        let known = pairing::spend(&hosts.client_directory(), &hosts.client, &token).await.unwrap();
        assert_eq!((known.fingerprint, known.may_serve), (hosts.server.fingerprint(), true));
        match server.outcome().await {
            Ok(Accepted::Paired(peer)) => assert_eq!(peer.fingerprint, hosts.client.fingerprint()),
            other => panic!("{other:?}"),
        }
        let peers = KnownPeers::load(&hosts.client_directory()).unwrap();
        let expected = peers.server_at(&server.address).unwrap().fingerprint;
        let (mut sender, _receiver) = connect(&server.address, &hosts.client, &expected).await.unwrap();
        sender.send(&[b"x"]).await.unwrap();
        assert!(matches!(server.outcome().await, Ok(Accepted::Session { .. })));
    });
}

#[test]
fn a_token_works_once_also_after_a_restart() {
    run(async {
        let hosts = Hosts::strangers();
        let first = Server::start(&hosts).await;
        let token = issue(&hosts, &first);
        pairing::spend(&hosts.client_directory(), &hosts.client, &token).await.unwrap();
        let mut second = Server::start(&hosts).await;
        let token = token.at(&second.address);
        let another = Identity::load_or_create(&hosts.directory.path().join("another")).unwrap();
        for identity in [&another, &hosts.client] {
            let again = pairing::spend(&hosts.client_directory(), identity, &token).await;
            assert!(matches!(again, Err(pairing::Error::Refused { .. })), "{again:?}");
            assert_eq!(second.refusal().await, Refusal::Spent);
        }
        let known = KnownPeers::load(&hosts.server_directory()).unwrap();
        assert!(known.client(&another.fingerprint()).is_none());
    });
}

#[test]
fn five_wrong_secrets_void_the_token_for_its_owner_too() {
    run(async {
        let hosts = Hosts::strangers();
        let mut server = Server::start(&hosts).await;
        let token = issue(&hosts, &server);
        let wrong = with_wrong_secret(&token);
        for _ in 0..limits::PAIRING_ATTEMPTS_MAX {
            let refused = pairing::spend(&hosts.client_directory(), &hosts.client, &wrong).await;
            assert!(matches!(refused, Err(pairing::Error::Refused { .. })), "{refused:?}");
            assert_eq!(server.refusal().await, Refusal::WrongProof);
        }
        assert!(pairing::spend(&hosts.client_directory(), &hosts.client, &token).await.is_err());
        assert_eq!(server.refusal().await, Refusal::Void);
        assert!(KnownPeers::load(&hosts.server_directory()).unwrap().all().is_empty());
        assert!(KnownPeers::load(&hosts.client_directory()).unwrap().all().is_empty());
    });
}

#[test]
fn an_expired_token_is_refused() {
    run(async {
        let hosts = Hosts::strangers();
        let mut server = Server::start(&hosts).await;
        let token = issue(&hosts, &server);
        let file = hosts.server_directory().join("pairing.json");
        let stored = std::fs::read_to_string(&file).unwrap();
        let end = token.expires().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let past = stored.replace(&end.to_string(), &(end - limits::PAIRING_LIFETIME.as_secs()).to_string());
        assert_ne!(past, stored);
        std::fs::write(&file, past).unwrap();
        assert!(pairing::spend(&hosts.client_directory(), &hosts.client, &token).await.is_err());
        assert_eq!(server.refusal().await, Refusal::Unknown);
    });
}

#[test]
fn of_concurrent_spends_exactly_one_wins() {
    run(async {
        let hosts = Hosts::strangers();
        let server = Server::start(&hosts).await;
        let token = issue(&hosts, &server);
        let directory = hosts.directory.path();
        let mut spends = tokio::task::JoinSet::new();
        for number in 0..8 {
            let (own, token) = (directory.join(format!("client-{number}")), token.clone());
            spends.spawn_local(async move {
                let identity = Identity::load_or_create(&own).unwrap();
                pairing::spend(&own, &identity, &token).await.is_ok()
            });
        }
        let wins = spends.join_all().await.into_iter().filter(|won| *won).count();
        assert_eq!(wins, 1);
        assert_eq!(KnownPeers::load(&hosts.server_directory()).unwrap().all().len(), 1);
    });
}

#[test]
fn a_token_is_not_spent_with_another_server() {
    run(async {
        let hosts = Hosts::strangers();
        let server = Server::start(&hosts).await;
        let other = Hosts::strangers();
        let token = pairing::issue(&other.server_directory(), &server.address, &other.server).unwrap();
        let wrong = pairing::spend(&hosts.client_directory(), &hosts.client, &token).await;
        assert!(matches!(wrong, Err(pairing::Error::WrongServer { .. })), "{wrong:?}");
        assert!(KnownPeers::load(&hosts.client_directory()).unwrap().all().is_empty());
    });
}

#[test]
fn a_server_that_does_not_know_the_secret_is_not_stored() {
    run(async {
        let hosts = Hosts::strangers();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::from(listener.local_addr().unwrap());
        let admitted = crate::wire::peers::AdmittedClients::new(
            crate::wire::peers::Admission::AnyForPairing,
            Shown::default(),
        );
        let configuration = hosts.server.server_configuration(Arc::new(admitted), pairing::PROTOCOL).unwrap();
        spawn_local(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = tokio_rustls::TlsAcceptor::from(configuration).accept(stream).await.unwrap();
            stream.read_exact(&mut [0; 49]).await.unwrap();
            // "Paired", a proof out of thin air, and a name.
            stream.write_all(&[&[0][..], &[5; 32], &[1], b"x"].concat()).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let token = pairing::issue(&hosts.server_directory(), &address, &hosts.server).unwrap();
        let unproven = pairing::spend(&hosts.client_directory(), &hosts.client, &token).await;
        assert!(matches!(unproven, Err(pairing::Error::ServerUnproven { .. })), "{unproven:?}");
        assert!(KnownPeers::load(&hosts.client_directory()).unwrap().all().is_empty());
    });
}

#[test]
fn a_proof_of_one_connection_is_worth_nothing_in_another() {
    run(async {
        let hosts = Hosts::strangers();
        let mut server = Server::start(&hosts).await;
        let token = issue(&hosts, &server);
        // What the rightful client would say in some other connection.
        let stolen = token.proof_for_tests([7; 32], hosts.client.fingerprint(), hosts.server.fingerprint());
        let verifier = Arc::new(PinnedServer::new(hosts.server.fingerprint(), Shown::default()));
        let configuration = hosts.client.client_configuration(verifier, pairing::PROTOCOL).unwrap();
        let name = ServerName::try_from("failback").unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(configuration)
            .connect(name, dial(&server.address).await)
            .await
            .unwrap();
        stream.write_all(&stolen).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 1);
        assert_eq!(server.refusal().await, Refusal::WrongProof);
    });
}

#[test]
fn attempts_of_all_clients_together_are_limited() {
    run(async {
        let hosts = Hosts::strangers();
        let mut server = Server::start(&hosts).await;
        let token = issue(&hosts, &server);
        let mut unknown = token.clone();
        unknown.spoil_id();
        let mut attempts = 0;
        loop {
            attempts += 1;
            assert!(pairing::spend(&hosts.client_directory(), &hosts.client, &unknown).await.is_err());
            match server.outcome().await {
                Err(Error::TooManyPairings { .. }) => break,
                _ => assert!(attempts < 100, "never limited"),
            }
        }
        assert!(attempts > 10, "a burst goes through: {attempts}");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(pairing::spend(&hosts.client_directory(), &hosts.client, &token).await.is_ok(), "still good");
    });
}

#[test]
fn no_error_of_pairing_shows_a_secret() {
    run(async {
        let hosts = Hosts::strangers();
        let mut server = Server::start(&hosts).await;
        let token = issue(&hosts, &server);
        let mut shown = format!("{token:?} {:?} {:?}", hosts.server, hosts.settings());
        for token in [with_wrong_secret(&token), token.clone(), token.clone()] {
            let ours = pairing::spend(&hosts.client_directory(), &hosts.client, &token).await;
            let theirs = server.outcome().await;
            shown += &format!("{ours:?} {theirs:?} ");
            shown += &ours.map_or_else(|error| error.to_string(), |peer| peer.name);
            shown += &theirs.map_or_else(|error| error.to_string(), |_| String::new());
        }
        let secret = token.secret_for_tests();
        let key = std::fs::read_to_string(hosts.server_directory().join("identity.pem")).unwrap();
        for line in key.lines().filter(|line| line.len() > 30) {
            assert!(!shown.contains(line));
        }
        for form in [BASE64URL_NOPAD.encode(&secret), HEXLOWER.encode(&secret), format!("{secret:?}")] {
            assert!(!shown.contains(&form));
        }
        assert!(!shown.contains("failback-pair-1:"), "{shown}");
        assert_ne!(Fingerprint::from_bytes(secret), hosts.server.fingerprint());
    });
}

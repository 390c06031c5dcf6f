//! The channel, its handshake and pairing over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that fails here has failed"
)]

mod handshake;
mod hostile;
mod pairing;
mod stream;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::crypto::cipher::{
    AeadKey, Iv, MessageDecrypter, MessageEncrypter, Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::{CipherSuiteCommon, ConnectionTrafficSecrets, SupportedCipherSuite, Tls13CipherSuite};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::*;
use crate::limits;
use crate::wire::identity::{Identity, suites};
use crate::wire::peers::{Address, KnownPeers, Peer};

/// A server and a client with a directory each.
struct Hosts {
    directory: tempfile::TempDir,
    server: Identity,
    client: Identity,
}

impl Hosts {
    /// Two machines that do not know each other.
    fn strangers() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Identity::load_or_create(&directory.path().join("server")).unwrap();
        let client = Identity::load_or_create(&directory.path().join("client")).unwrap();
        Self { directory, server, client }
    }

    /// Two machines whose server knows the client.
    fn paired() -> Self {
        let hosts = Self::strangers();
        let client = Peer::client("client", hosts.client.fingerprint(), SystemTime::now());
        KnownPeers::remember(&hosts.server_directory(), &client).unwrap();
        hosts
    }

    fn server_directory(&self) -> PathBuf {
        self.directory.path().join("server")
    }

    fn client_directory(&self) -> PathBuf {
        self.directory.path().join("client")
    }

    fn settings(&self) -> ServerSettings {
        ServerSettings::new(&self.server_directory(), self.server.clone())
    }

    /// Serves one connection, and says where.
    async fn serve(&self) -> (Address, JoinHandle<Result<Accepted, Error>>) {
        self.serve_within(Duration::from_secs(5)).await
    }

    async fn serve_within(&self, limit: Duration) -> (Address, JoinHandle<Result<Accepted, Error>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::from(listener.local_addr().unwrap());
        let settings = self.settings().with_handshake_timeout(limit);
        let served = spawn_local(async move {
            let (stream, _) = listener.accept().await.unwrap();
            accept(stream, &settings).await
        });
        (address, served)
    }

    async fn connect(&self, address: &Address) -> Result<(Sender, Receiver), Error> {
        connect(address, &self.client, &self.server.fingerprint()).await
    }

    /// A channel: the client's halves, then the server's.
    async fn channel(&self) -> ((Sender, Receiver), (Sender, Receiver)) {
        self.channel_over(Relay::default()).await
    }

    async fn channel_over(&self, relay: Relay) -> ((Sender, Receiver), (Sender, Receiver)) {
        let (address, served) = self.serve().await;
        let client = self.connect(&relay.start(address).await).await.unwrap();
        (client, session(served.await.unwrap()))
    }
}

fn session(accepted: Result<Accepted, Error>) -> (Sender, Receiver) {
    match accepted.unwrap() {
        Accepted::Session { sender, receiver, .. } => (sender, receiver),
        Accepted::Paired(peer) => panic!("paired {peer:?} instead of a session"),
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(120), work).await.expect("the test hangs")
    })
}

/// Bytes that differ at every place and from seed to seed.
fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(length)
    .collect()
}

/// Something between client and server that passes bytes on in its own way.
#[derive(Clone, Copy, Default)]
struct Relay {
    /// Bytes passed on at a time; 0 for as many as there are.
    piece: usize,
    /// Closes both ways once this many bytes went to the server.
    cut_to_server: Option<usize>,
    /// Closes both ways once this many bytes went to the client.
    cut_to_client: Option<usize>,
    /// Changes the byte with this number on its way to the server.
    flip_to_server: Option<usize>,
}

impl Relay {
    /// Listens for one client, and passes it on to `server`.
    async fn start(self, server: Address) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::from(listener.local_addr().unwrap());
        spawn_local(async move {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect((server.host(), server.port())).await.unwrap();
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let ((client_in, client_out), (server_in, server_out)) =
                (client.into_split(), server.into_split());
            let up = self.pass(client_in, server_out, self.cut_to_server, self.flip_to_server);
            let down = self.pass(server_in, client_out, self.cut_to_client, None);
            // Whichever is cut ends both; an ordinary end of one side does not.
            tokio::select! {
                true = up => {}
                true = down => {}
                else => {}
            }
        });
        address
    }

    /// Says whether it cut the connection.
    async fn pass(
        self,
        mut from: tokio::net::tcp::OwnedReadHalf,
        mut to: tokio::net::tcp::OwnedWriteHalf,
        cut: Option<usize>,
        flip: Option<usize>,
    ) -> bool {
        let mut passed = 0;
        let mut buffer = vec![0; 64 << 10];
        loop {
            if cut == Some(passed) {
                return true;
            }
            let most = if self.piece == 0 { buffer.len() } else { self.piece };
            let most = cut.map_or(most, |cut| most.min(cut - passed));
            let count = match from.read(&mut buffer[..most]).await {
                Ok(0) | Err(_) => return false,
                Ok(count) => count,
            };
            if let Some(at) = flip.filter(|at| (passed..passed + count).contains(at)) {
                buffer[at - passed] ^= 1;
            }
            if to.write_all(&buffer[..count]).await.is_err() {
                return false;
            }
            passed += count;
        }
    }
}

/// The usual suites, but with keys that wear out after `records`; and how many
/// keys they have made for sending.
fn worn_out_after(records: u64) -> (CryptoProvider, Arc<AtomicUsize>) {
    let made = Arc::new(AtomicUsize::new(0));
    let usual = suites();
    let worn_out = |suite: &SupportedCipherSuite| {
        let SupportedCipherSuite::Tls13(suite) = suite;
        let common = CipherSuiteCommon {
            suite: suite.common.suite,
            hash_provider: suite.common.hash_provider,
            confidentiality_limit: records,
        };
        // Suites live as long as the program, as rustls' own do.
        SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
            common,
            hkdf_provider: suite.hkdf_provider,
            aead_alg: Box::leak(Box::new(Counted { inner: suite.aead_alg, made: Arc::clone(&made) })),
            quic: None,
        })))
    };
    let cipher_suites = usual.cipher_suites.iter().map(worn_out).collect();
    (CryptoProvider { cipher_suites, ..usual }, made)
}

/// An algorithm that counts the keys it makes for sending.
struct Counted {
    inner: &'static dyn Tls13AeadAlgorithm,
    made: Arc<AtomicUsize>,
}

impl Tls13AeadAlgorithm for Counted {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        self.made.fetch_add(1, Ordering::Relaxed);
        self.inner.encrypter(key, iv)
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.inner.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.inner.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.inner.extract_keys(key, iv)
    }
}

/// A plain TCP connection to `address`.
async fn dial(address: &Address) -> TcpStream {
    TcpStream::connect((address.host(), address.port())).await.unwrap()
}

/// All that comes until the peer ends, however it ends.
async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    bytes
}

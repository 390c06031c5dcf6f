//! A peer that says what it likes: frames made here, byte by byte, over the
//! channel of the product.

use std::net::TcpListener;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use failback_datapath::ring;
use failback_datapath::wire::identity::Identity;
use failback_datapath::wire::peers::{Address, KnownPeers, Peer};
use failback_datapath::wire::tls::{self, Accepted, Error, ServerSettings};
use serde_json::{Value, json};

use crate::fixture::{LONG, Scratch};

pub const HELLO: u8 = 1;
pub const OPEN: u8 = 2;
pub const OPENED: u8 = 3;
pub const START: u8 = 4;
pub const STARTED: u8 = 5;
pub const JOIN: u8 = 6;
pub const END: u8 = 7;
pub const FINISHED: u8 = 8;
pub const REFUSED: u8 = 9;
pub const DIGESTS: u8 = 16;
pub const HOLE: u8 = 17;
pub const DATA: u8 = 18;
pub const ZERO: u8 = 19;
pub const SEGMENT_DONE: u8 = 20;
pub const CREDIT: u8 = 21;
pub const ALIVE: u8 = 22;

/// The bytes of a frame about an extent.
pub fn frame(kind: u8, detail: u8, offset: u64, length: u64, payload: &[u8]) -> Vec<u8> {
    let payload_bytes = u32::try_from(payload.len()).expect("payloads are short");
    [&header(kind, detail, payload_bytes, offset, length)[..], payload].concat()
}

/// The bytes of a header alone.
pub fn header(kind: u8, detail: u8, payload_bytes: u32, offset: u64, length: u64) -> [u8; 24] {
    let mut bytes = [0; 24];
    (bytes[0], bytes[1]) = (kind, detail);
    bytes[4..8].copy_from_slice(&payload_bytes.to_le_bytes());
    bytes[8..16].copy_from_slice(&offset.to_le_bytes());
    bytes[16..24].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// The bytes of a control frame.
pub fn control(kind: u8, body: &Value) -> Vec<u8> {
    frame(kind, 0, 0, 0, body.to_string().as_bytes())
}

/// The first frame of both sides.
pub fn hello(lowest: u16, highest: u16) -> Vec<u8> {
    frame(HELLO, 0, 0, 0, &[&b"FAILBACK"[..], &lowest.to_le_bytes(), &highest.to_le_bytes()].concat())
}

/// What a raw peer says of its disk.
pub fn facts(size: u64) -> Value {
    json!({"name": "/raw", "kind": "raw-image", "size_bytes": size, "live": false, "notices": [],
        "storage": {"boot_id": "raw", "files": [], "traces": []}})
}

/// An `Open` of `export` as the target of a disk of `size` bytes.
pub fn open(export: &str, size: u64) -> Value {
    json!({"export": export, "role": "target", "live": false, "dry_run": false, "create": null,
        "source": facts(size)})
}

/// A `Start` of a run that trusts nothing that is there.
pub fn start(size: u64) -> Value {
    json!({"size_bytes": size, "lanes": 1, "digest": "xxh3", "key": KEY, "compare_until": u64::MAX,
        "compression": "none", "rate_limit": null, "verify": false, "dry_run": false, "whole": true,
        "source_name": "/raw"})
}

/// The end of a lane.
pub fn end() -> Vec<u8> {
    control(END, &json!({"counts": {}, "latencies": []}))
}

/// The key of the digests in a raw run.
pub const KEY: [u8; 32] = [7; 32];

/// A frame as it was received.
#[derive(Debug)]
pub struct Received {
    pub kind: u8,
    pub payload: Vec<u8>,
}

impl Received {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// One end of a channel.
pub struct RawPeer {
    sender: tls::Sender,
    receiver: tls::Receiver,
}

impl RawPeer {
    /// As a client with the identity of `host`, which is paired.
    pub async fn connect(host: &Scratch, address: &str) -> Result<Self, Error> {
        let directory = identity_of(host);
        let identity = Identity::load_or_create(&directory).expect("it was paired");
        let address: Address = address.parse().expect("a server has an address");
        let peers = KnownPeers::load(&directory).expect("it was paired");
        let server = peers.server_at(&address).expect("it was paired");
        let (sender, receiver) = tls::connect(&address, &identity, &server.fingerprint).await?;
        Ok(Self { sender, receiver })
    }

    /// Sends bytes; a peer that has left already is no matter here.
    pub async fn say(&mut self, bytes: &[u8]) {
        drop(self.sender.send(&[bytes]).await);
    }

    pub async fn hear(&mut self) -> Result<Received, Error> {
        loop {
            let mut header = [0; 24];
            self.receiver.read_exact(&mut header).await?;
            let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
            let mut payload = vec![0; length as usize];
            self.receiver.read_exact(&mut payload).await?;
            if header[0] != ALIVE {
                return Ok(Received { kind: header[0], payload });
            }
        }
    }

    /// The next frame, which must be of this kind.
    pub async fn expect(&mut self, kind: u8) -> Received {
        let received = self.hear().await.unwrap_or_else(|error| panic!("{error} where {kind} was due"));
        let text = String::from_utf8_lossy(&received.payload);
        assert!(received.kind == kind, "{} where {kind} was due: {text}", received.kind);
        received
    }

    /// Listens until the other side has left: its reason, where it gave one.
    pub async fn reason(&mut self) -> Option<Value> {
        let mut reason = None;
        while let Ok(received) = self.hear().await {
            if received.kind == REFUSED {
                reason = Some(received.json());
            }
        }
        reason
    }

    /// Up to the answer to `Open`: the reason of a refusal is the error.
    pub async fn open(host: &Scratch, address: &str, open: &Value) -> Result<Self, Value> {
        let mut peer = Self::connect(host, address).await.expect("the server lets a paired client in");
        peer.expect(HELLO).await;
        peer.say(&[hello(2, 2), control(OPEN, open)].concat()).await;
        let answer = peer.hear().await.expect("the server answers");
        match answer.kind {
            OPENED => Ok(peer),
            _ => Err(answer.json()),
        }
    }

    /// The same, once the server has let go of an earlier run's target.
    pub async fn open_soon(host: &Scratch, address: &str, open: &Value) -> Self {
        let deadline = Instant::now() + LONG;
        loop {
            match Self::open(host, address, open).await {
                Ok(peer) => return peer,
                Err(reason) => assert!(reason["message"].to_string().contains("is locked"), "{reason}"),
            }
            assert!(Instant::now() < deadline, "the export is never free again");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn identity_of(host: &Scratch) -> PathBuf {
    host.path("state/identity")
}

/// A server that lets `client` in and then does as `script` says, once.
pub struct RawServer {
    address: String,
    thread: JoinHandle<()>,
}

impl RawServer {
    pub fn start<S>(evil: &Scratch, client: &Scratch, script: S) -> Self
    where
        S: AsyncFnOnce(RawPeer) + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let own = Identity::load_or_create(&identity_of(evil)).expect("the scratch directory has room");
        let other = Identity::load_or_create(&identity_of(client)).expect("the scratch directory has room");
        let now = SystemTime::now();
        let server = Peer::server("evil", own.fingerprint(), address.parse().expect("an address"), now);
        KnownPeers::remember(&identity_of(client), &server).expect("the scratch directory has room");
        let peer = Peer::client("client", other.fingerprint(), now);
        KnownPeers::remember(&identity_of(evil), &peer).expect("the scratch directory has room");
        let settings = ServerSettings::new(&identity_of(evil), own);
        let thread = thread::spawn(move || {
            let (stream, _) = listener.accept().expect("the client comes");
            let serve = async {
                stream.set_nonblocking(true).expect("sockets can");
                let stream = tokio::net::TcpStream::from_std(stream).expect("there is a runtime");
                match tls::accept(stream, &settings).await.expect("the client is paired") {
                    Accepted::Session { sender, receiver, .. } => script(RawPeer { sender, receiver }).await,
                    Accepted::Paired(_) => panic!("nobody asked to pair"),
                }
            };
            ring::run(serve).expect("there is io_uring");
        });
        Self { address, thread }
    }

    pub fn url(&self) -> String {
        format!("failback://{}/disk", self.address)
    }

    /// Waits for the script's end.
    pub fn finish(self) {
        self.thread.join().expect("the script ends well");
    }
}

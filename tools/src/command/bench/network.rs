//! Two hosts that are both here, with throw-away keys, and the stage that sends
//! from one to the other.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Instant, SystemTime};

use failback_datapath::pipeline::LanePanicked;
use failback_datapath::telemetry::{Latencies, Stage};
use failback_datapath::unit::to_usize;
use failback_datapath::wire::identity::Identity;
use failback_datapath::wire::peers::{Address, KnownPeers, Peer};
use failback_datapath::wire::tls::{self, Accepted, ServerSettings};
use failback_datapath::{limits, ring};
use tokio::time::timeout;

use super::measure::{Round, Stopwatch};
use super::{Error, Workbench};

/// A server and a client that it knows.
pub struct Hosts {
    /// Keys and peers of the server.
    directory: PathBuf,
    server: Identity,
    /// Who connects.
    pub client: Identity,
}

impl Hosts {
    /// Two new hosts, whose keys lie in `directory`.
    pub fn pair(directory: &Path) -> Result<Self, Error> {
        let own = directory.join("server");
        let server = Identity::load_or_create(&own)?;
        let client = Identity::load_or_create(&directory.join("client"))?;
        KnownPeers::remember(&own, &Peer::client("bench", client.fingerprint(), SystemTime::now()))?;
        Ok(Self { directory: own, server, client })
    }

    /// The server's settings.
    pub fn settings(&self) -> ServerSettings {
        ServerSettings::new(&self.directory, self.server.clone())
    }

    /// The certificate that the server shows.
    pub const fn fingerprint(&self) -> failback_datapath::wire::identity::Fingerprint {
        self.server.fingerprint()
    }
}

/// A listening socket on a free port of loopback, and its address.
pub fn listen() -> Result<(TcpListener, Address), Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::Loopback)?;
    let address = listener.local_addr().map_err(Error::Loopback)?;
    Ok((listener, address.into()))
}

/// Sends the sample over one connection, from one thread to another. The
/// handshake is not measured.
pub fn send(bench: &Workbench, hosts: &Hosts) -> Result<Round, Error> {
    let (listener, address) = listen()?;
    let size_bytes = bench.size_bytes;
    thread::scope(|scope| {
        let taking = scope.spawn(|| {
            ring::run(take(listener, hosts, size_bytes)).map_err(Error::from).and_then(|ended| ended)
        });
        let round = ring::run(give(bench, hosts, &address)).map_err(Error::from).and_then(|ended| ended);
        let taken = taking.join().unwrap_or_else(|_| Err(LanePanicked.into()));
        // Where both ends failed, the one that sends knows why.
        let round = round?;
        taken.map(|()| round)
    })
}

/// The end that sends, and measures.
async fn give(bench: &Workbench, hosts: &Hosts, address: &Address) -> Result<Round, Error> {
    let (mut sender, mut receiver) = tls::connect(address, &hosts.client, &hosts.fingerprint()).await?;
    receiver.read_exact(&mut [0]).await?;
    let windows = bench.sample.windows(|_| true);
    let mut latencies = Latencies::default();
    let mut left = bench.size_bytes;
    let stopwatch = Stopwatch::start();
    for window in windows.iter().cycle() {
        let length = left.min(u64::from(limits::WINDOW_BYTES));
        if length == 0 {
            break;
        }
        bench.cancel.check()?;
        let start = Instant::now();
        sender.send(&[&window[..to_usize(length)]]).await?;
        latencies.record(Stage::Send, start.elapsed());
        left -= length;
    }
    receiver.read_exact(&mut [0]).await?;
    let round = stopwatch.stop(bench.size_bytes, latencies);
    // The other end has all it wants, and may be gone.
    drop(sender.close().await);
    Ok(round)
}

/// The end that takes: it greets, because a server speaks first, and says when
/// it has everything.
async fn take(listener: TcpListener, hosts: &Hosts, size_bytes: u64) -> Result<(), Error> {
    listener.set_nonblocking(true).map_err(Error::Loopback)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(Error::Loopback)?;
    let accepted = timeout(limits::HANDSHAKE_TIMEOUT, listener.accept()).await;
    let accepted = accepted.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    let (stream, _) = accepted.map_err(Error::Loopback)?;
    let Accepted::Session { mut sender, mut receiver, .. } = tls::accept(stream, &hosts.settings()).await?
    else {
        return Err(Error::Loopback(std::io::ErrorKind::ConnectionAborted.into()));
    };
    sender.send(&[&[1]]).await?;
    let mut window = vec![0; to_usize(u64::from(limits::WINDOW_BYTES))];
    let mut left = size_bytes;
    while left > 0 {
        let length = left.min(u64::from(limits::WINDOW_BYTES));
        receiver.read_exact(&mut window[..to_usize(length)]).await?;
        left -= length;
    }
    sender.send(&[&[1]]).await?;
    Ok(())
}

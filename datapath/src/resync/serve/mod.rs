//! The end that serves: opens exports for peers, and runs their lanes.
//!
//! The first connection of a run opens the export and leads; further ones join
//! it by the session's number, which only its own peer was told. The leader
//! waits for all of them, finishes the target, and says so.

mod exports;
mod lead;
mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use exports::{Export, Exports};
use session::Sessions;

use super::Error;
use super::initiate::part;
use crate::landing::StateDirectory;
use crate::limits;
use crate::pipeline::{Budget, Cancel};
use crate::ring;
use crate::telemetry::Notice;
use crate::wire::tls::{self, Accepted, ServerSettings};
use crate::wire::{self, Join, Kind, LinkReceiver, LinkSender, Open, link};

/// What happens at a server, for its log.
#[derive(Clone, Debug)]
pub enum ServeEvent {
    /// A peer spent a token.
    Paired {
        /// Its name.
        peer: String,
    },
    /// A run has begun.
    Begun {
        /// The peer's name.
        peer: String,
        /// The export.
        export: String,
        /// `source` or `target`.
        role: &'static str,
    },
    /// A run has ended well.
    Ended {
        /// The peer's name.
        peer: String,
        /// The export.
        export: String,
    },
    /// A connection or a run ended with an error.
    Failed {
        /// The peer's name or address.
        peer: String,
        /// Why.
        reason: String,
    },
    /// Something worth knowing.
    Notice(Notice),
}

/// A server of exports.
pub struct Server {
    exports: Exports,
    state: StateDirectory,
    sessions: Sessions,
    buffers: Budget,
    /// Connections that are being served.
    served: AtomicUsize,
    cancel: Cancel,
    observe: Box<dyn Fn(ServeEvent) + Send + Sync>,
}

/// A connection that is being served, however that ends.
struct Served<'a>(&'a AtomicUsize);

impl<'a> Served<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a connection is for.
enum Request {
    Open(Open),
    Join(Join),
}

impl Request {
    async fn receive(receiver: &mut LinkReceiver) -> Result<Self, Error> {
        let header = receiver.receive().await?;
        match header.kind {
            Kind::Open => Ok(Self::Open(receiver.body(header).await?)),
            Kind::Join => Ok(Self::Join(receiver.body(header).await?)),
            _ => Err(receiver.unexpected(header, "Open or Join").into()),
        }
    }
}

impl Server {
    /// A server of `exports`, which keeps the marks of its targets in `state`,
    /// stops all its runs when `cancel` is set, and tells `observe` what happens.
    pub fn new(
        exports: Exports,
        state: StateDirectory,
        cancel: Cancel,
        observe: impl Fn(ServeEvent) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (sessions, buffers, served) = (Sessions::default(), Budget::default(), AtomicUsize::new(0));
        Arc::new(Self { exports, state, sessions, buffers, served, cancel, observe: Box::new(observe) })
    }

    /// Whether no connection is being served: then no disk is open here.
    pub fn is_idle(&self) -> bool {
        self.served.load(Ordering::Acquire) == 0
    }

    /// Serves peers that connect to `listener` until the server is cancelled.
    /// Each connection has a thread and a ring of its own.
    ///
    /// # Errors
    /// Those of the listening socket.
    pub fn serve_tls(
        self: &Arc<Self>,
        listener: &std::net::TcpListener,
        settings: &ServerSettings,
    ) -> std::io::Result<()> {
        let door = Arc::new(Door { server: Arc::clone(self), settings: settings.clone() });
        let listened = wire::listen(listener, &door, &self.cancel);
        self.sessions.wait_until_empty();
        listened
    }

    /// Serves the peer that started this process by ssh, over standard input
    /// and output.
    ///
    /// # Errors
    /// Whatever ended the run.
    pub fn serve_stdio(&self) -> Result<(), Error> {
        ring::run(async {
            let (sender, receiver) = tls::standard_streams("the ssh client").map_err(wire::Error::from)?;
            let (sender, mut receiver) = link(sender, receiver, "the ssh client");
            self.serve_link(&sender, &mut receiver, String::new()).await
        })?
    }

    async fn serve_link(
        &self,
        sender: &LinkSender,
        receiver: &mut LinkReceiver,
        fingerprint: String,
    ) -> Result<(), Error> {
        let served = self.serve_request(sender, receiver, fingerprint).await;
        part(sender, served).await
    }

    async fn serve_request(
        &self,
        sender: &LinkSender,
        receiver: &mut LinkReceiver,
        fingerprint: String,
    ) -> Result<(), Error> {
        wire::exchange(sender, receiver).await?;
        let limit = limits::HANDSHAKE_TIMEOUT;
        let slow = wire::Error::Slow { peer: receiver.peer().to_owned(), seconds: limit.as_secs() };
        let request = tokio::time::timeout(limit, Request::receive(receiver));
        match request.await.map_err(|_| slow)?? {
            Request::Open(open) => self.lead(open, sender, receiver, fingerprint).await,
            Request::Join(join) => {
                let session = self.sessions.find(&join, &fingerprint)?;
                session.follow(join.lane, sender, receiver).await
            }
        }
    }
}

/// A server at its listening socket.
struct Door {
    server: Arc<Server>,
    settings: ServerSettings,
}

impl wire::Serves for Door {
    type Error = Error;

    /// A socket, a ring with its runtime, and a disk of a few pieces.
    const FILES_PER_CONNECTION: u64 = 16;

    async fn serve(&self, stream: tokio::net::TcpStream) -> Result<(), Error> {
        let _served = Served::new(&self.server.served);
        match tls::accept(stream, &self.settings).await.map_err(wire::Error::from)? {
            Accepted::Paired(peer) => (self.server.observe)(ServeEvent::Paired { peer: peer.name }),
            Accepted::Session { sender, receiver, peer } => {
                let (sender, mut receiver) = link(sender, receiver, &peer.name);
                self.server.serve_link(&sender, &mut receiver, peer.fingerprint.to_string()).await?;
            }
        }
        Ok(())
    }

    fn failed(&self, from: &str, reason: &str) {
        (self.server.observe)(ServeEvent::Failed { peer: from.to_owned(), reason: reason.to_owned() });
    }
}

//! The two halves of a TLS channel after its handshake.
//!
//! In: pieces to send, buffers to fill. Out: the same bytes on the other side.
//! Invariants: the halves share one [`Engine`] that neither holds across a
//! wait, so a send and a receive of one thread go on side by side; a call that
//! was dropped half-way makes its half unusable instead of shifting the stream.
//! Never: buffers more than [`ENCRYPT_BYTES`] of a call's bytes. Limits: the
//! sizes below, for each connection.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::Error;
use super::engine::{CONTROL_BYTES, Engine, RECORD_PLAINTEXT, Step, encrypted_bytes};
use super::error::refuses_certificate;
use super::socket::Socket;
use crate::limits;
use crate::wire::identity::Fingerprint;

// Sizes from 16 KiB to 4 MiB measured alike within the noise (see
// `examples/tls_throughput.rs`): small ones leave the memory and the caches to
// the windows. The same goes for the socket's own buffers, which the system
// sizes by itself.

/// Plaintext encrypted before it is written to the socket.
const ENCRYPT_BYTES: usize = 128 << 10;
/// Ciphertext held until it is decrypted.
const INCOMING_BYTES: usize = 256 << 10;
/// Ciphertext asked of the socket at a time.
const READ_BYTES: usize = 128 << 10;
/// Pieces below this size share a record with their neighbours.
const SMALL_PIECE_BYTES: usize = 4 << 10;
/// After this much without a wait, other tasks of the thread get a turn.
const TURN_BYTES: usize = 1 << 20;

struct Shared {
    socket: Socket,
    engine: RefCell<Engine>,
    /// This machine's certificate, where this side is the client.
    own: Option<Fingerprint>,
}

impl Shared {
    fn failed(&self, source: rustls::Error) -> Error {
        let peer = self.socket.peer().to_owned();
        match self.own {
            Some(own) if refuses_certificate(&source) => Error::CertificateRefused { peer, own },
            _ => Error::Record { peer, source },
        }
    }
}

/// The sending half.
pub(super) struct SealedSender {
    shared: Rc<Shared>,
    /// Small pieces, to be encrypted as one.
    small: Vec<u8>,
    /// Ciphertext; its first `length` bytes are to be written.
    outgoing: Vec<u8>,
    length: usize,
    midway: bool,
    turns: Turns,
    pub(super) silence_max: Duration,
}

/// The receiving half.
pub(super) struct SealedReceiver {
    shared: Rc<Shared>,
    midway: bool,
    turns: Turns,
    pub(super) silence_max: Duration,
}

/// Lets other tasks run: a peer that is always faster than this side would never
/// make it wait.
#[derive(Default)]
struct Turns {
    bytes: usize,
}

impl Turns {
    async fn take(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= TURN_BYTES {
            self.bytes = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// The halves of a connection whose handshake is over. `own` is this machine's
/// certificate where it is the client's.
pub(super) fn halves(
    socket: Socket,
    engine: Engine,
    own: Option<Fingerprint>,
) -> (SealedSender, SealedReceiver) {
    let engine = RefCell::new(engine.with_capacity(INCOMING_BYTES));
    let shared = Rc::new(Shared { socket, engine, own });
    let sender = SealedSender {
        shared: Rc::clone(&shared),
        small: Vec::with_capacity(RECORD_PLAINTEXT),
        outgoing: vec![0; OUTGOING_BYTES],
        length: 0,
        midway: false,
        turns: Turns::default(),
        silence_max: limits::PEER_SILENCE_MAX,
    };
    let receiver = SealedReceiver {
        shared,
        midway: false,
        turns: Turns::default(),
        silence_max: limits::PEER_SILENCE_MAX,
    };
    (sender, receiver)
}

/// One piece and the small ones before and after it, with what TLS adds.
const OUTGOING_BYTES: usize =
    encrypted_bytes(ENCRYPT_BYTES) + 2 * encrypted_bytes(RECORD_PLAINTEXT) + CONTROL_BYTES;

impl SealedSender {
    pub(super) fn peer(&self) -> &str {
        self.shared.socket.peer()
    }

    pub(super) async fn send(&mut self, pieces: &[&[u8]]) -> Result<(), Error> {
        self.begin()?;
        for piece in pieces {
            if piece.len() < SMALL_PIECE_BYTES {
                if self.small.len() + piece.len() > RECORD_PLAINTEXT {
                    self.encrypt_small().await?;
                }
                self.small.extend_from_slice(piece);
                continue;
            }
            self.encrypt_small().await?;
            for part in piece.chunks(ENCRYPT_BYTES) {
                self.encrypt(part).await?;
            }
        }
        self.encrypt_small().await?;
        self.write().await?;
        self.midway = false;
        Ok(())
    }

    pub(super) async fn close(&mut self) -> Result<(), Error> {
        self.begin()?;
        let closed = self.shared.engine.borrow_mut().close(&mut self.outgoing);
        self.length = closed.map_err(|source| self.shared.failed(source))?;
        self.write().await?;
        self.shared.socket.shut_sending();
        self.midway = false;
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Error> {
        let peer = || self.shared.socket.peer().to_owned();
        if self.midway {
            return Err(Error::Abandoned { peer: peer() });
        }
        if self.shared.engine.borrow().finished() {
            return Err(Error::Finished { peer: peer() });
        }
        self.midway = true;
        self.small.clear();
        self.length = 0;
        Ok(())
    }

    async fn encrypt_small(&mut self) -> Result<(), Error> {
        if self.small.is_empty() {
            return Ok(());
        }
        let small = std::mem::take(&mut self.small);
        let encrypted = self.encrypt(&small).await;
        self.small = small;
        self.small.clear();
        encrypted
    }

    /// Encrypts `plaintext`, and writes what there is once it fills a piece.
    async fn encrypt(&mut self, plaintext: &[u8]) -> Result<(), Error> {
        if self.length + encrypted_bytes(plaintext.len()) + CONTROL_BYTES > self.outgoing.len() {
            self.write().await?;
        }
        let encrypted = self.shared.engine.borrow_mut().encrypt(plaintext, &mut self.outgoing[self.length..]);
        self.length += encrypted.map_err(|source| self.shared.failed(source))?;
        if self.length >= ENCRYPT_BYTES {
            self.write().await?;
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), Error> {
        let bytes = &self.outgoing[..self.length];
        self.shared.socket.write_all(bytes, self.silence_max).await?;
        self.turns.take(self.length).await;
        self.length = 0;
        Ok(())
    }
}

impl SealedReceiver {
    pub(super) fn peer(&self) -> &str {
        self.shared.socket.peer()
    }

    pub(super) async fn read_exact(&mut self, into: &mut [u8]) -> Result<(), Error> {
        if self.midway {
            return Err(Error::Abandoned { peer: self.peer().to_owned() });
        }
        let mut filled = 0;
        while filled < into.len() {
            let decrypted = self.shared.engine.borrow_mut().decrypt(&mut into[filled..]);
            let (count, step) = decrypted.map_err(|source| self.failed(source))?;
            filled += count;
            if filled == into.len() {
                break;
            }
            // From here on a dropped call would lose bytes.
            self.midway = filled > 0;
            match step {
                Step::Closed if filled == 0 => return Err(Error::Closed { peer: self.peer().to_owned() }),
                Step::Closed => return Err(Error::Truncated { peer: self.peer().to_owned() }),
                _ => self.fetch().await?,
            }
        }
        // Dropped while others have their turn, the call has taken bytes as well.
        self.midway = true;
        self.turns.take(into.len()).await;
        self.midway = false;
        Ok(())
    }

    /// Reads more ciphertext, waiting for it where there is none.
    async fn fetch(&mut self) -> Result<(), Error> {
        loop {
            {
                let mut engine = self.shared.engine.borrow_mut();
                let room = engine.room(READ_BYTES);
                if room.is_empty() {
                    let overflow = rustls::Error::PeerSentOversizedRecord;
                    return Err(Error::Record {
                        peer: self.shared.socket.peer().to_owned(),
                        source: overflow,
                    });
                }
                match self.shared.socket.try_read(room)? {
                    Some(0) => return Err(Error::Truncated { peer: self.shared.socket.peer().to_owned() }),
                    Some(count) => {
                        engine.filled(count);
                        return Ok(());
                    }
                    None => {}
                }
            }
            self.turns = Turns::default();
            self.shared.socket.readable(self.silence_max).await?;
        }
    }

    /// Says why this side gives up, as far as that goes without waiting.
    fn failed(&self, source: rustls::Error) -> Error {
        let alert = self.shared.engine.borrow_mut().take_control();
        self.shared.socket.try_write(&alert);
        self.shared.failed(source)
    }
}

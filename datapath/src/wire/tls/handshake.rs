//! Driving a handshake over a socket until both sides may send.
//!
//! In: a socket, an engine, a limit on the whole that the caller sets. Out: an
//! engine ready for traffic. Invariants: what rustls wants sent is sent before
//! more is read; the alert of a failed handshake reaches the peer where it still
//! listens. Never: waits longer than its caller allows. Limits: the engine's
//! buffer; after a failure [`FAREWELL_BYTES`] and [`FAREWELL_TIME`].

use std::time::Duration;

use super::Error;
use super::engine::{Engine, Step};
use super::socket::Socket;
use crate::limits;

/// Ciphertext asked of the socket at a time.
const READ_BYTES: usize = 16 << 10;
/// Bytes of a refused peer that are thrown away, so that the system does not
/// answer them with a reset that overtakes the alert.
const FAREWELL_BYTES: usize = 64 << 10;
const FAREWELL_TIME: Duration = Duration::from_secs(1);

/// Why a handshake failed: the connection, or TLS.
pub(super) enum Failure {
    Connection(Error),
    Tls(rustls::Error),
}

/// Goes through the handshake.
pub(super) async fn perform(socket: &Socket, engine: &mut Engine) -> Result<(), Failure> {
    loop {
        let step = match engine.handshake() {
            Ok(step) => step,
            Err(error) => {
                say_farewell(socket, &engine.take_control()).await;
                return Err(Failure::Tls(error));
            }
        };
        let control = engine.take_control();
        let sent = socket.write_all(&control, limits::PEER_SILENCE_MAX).await;
        match (sent, step) {
            (Err(error), _) => return Err(Failure::Connection(error)),
            (Ok(()), Step::Ready) => return Ok(()),
            (Ok(()), Step::Closed) => return Err(interrupted(socket)),
            (Ok(()), Step::Blocked) => read_more(socket, engine).await?,
            (Ok(()), Step::Again | Step::Transmit | Step::Plaintext) => {}
        }
    }
}

async fn read_more(socket: &Socket, engine: &mut Engine) -> Result<(), Failure> {
    loop {
        let room = engine.room(READ_BYTES);
        if room.is_empty() {
            return Err(Failure::Tls(rustls::Error::PeerSentOversizedRecord));
        }
        match socket.try_read(room) {
            Ok(Some(0)) => return Err(interrupted(socket)),
            Ok(Some(count)) => {
                engine.filled(count);
                return Ok(());
            }
            Ok(None) => socket.readable(limits::PEER_SILENCE_MAX).await.map_err(Failure::Connection)?,
            // A peer that went away is the same, however the system calls it.
            Err(_) => return Err(interrupted(socket)),
        }
    }
}

fn interrupted(socket: &Socket) -> Failure {
    Failure::Connection(Error::HandshakeInterrupted { peer: socket.peer().to_owned() })
}

/// Sends a last word and waits until the peer has had the chance to read it.
pub(super) async fn say_farewell(socket: &Socket, last_word: &[u8]) {
    socket.try_write(last_word);
    socket.shut_sending();
    let drain = async {
        let mut scratch = [0; 4096];
        let mut left = FAREWELL_BYTES;
        while left > 0 {
            match socket.try_read(&mut scratch) {
                Ok(Some(0)) | Err(_) => return,
                Ok(Some(count)) => left = left.saturating_sub(count),
                Ok(None) if socket.readable(FAREWELL_TIME).await.is_err() => return,
                Ok(None) => {}
            }
        }
    };
    // Running out of time is no failure: the peer had its chance.
    let _ = tokio::time::timeout(FAREWELL_TIME, drain).await;
}

//! A TCP connection whose every wait has a limit.
//!
//! In: a connected stream. Out: reads and writes that wait no longer than the
//! limit given. Invariants: Nagle's delay is off; the kernel gives up a peer
//! whose machine is gone. Never: buffers.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Error;
use crate::limits;

/// Idle time before the kernel probes whether the peer's machine still runs.
const KEEPALIVE_IDLE_SECONDS: u32 = 20;
const KEEPALIVE_INTERVAL_SECONDS: u32 = 10;
const KEEPALIVE_PROBES: u32 = 4;

/// A TCP connection and the name its errors use.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    peer: String,
}

impl Socket {
    /// Takes over a connected stream and sets its options.
    pub(super) fn new(stream: TcpStream, peer: String) -> Result<Self, Error> {
        // The kernel counts a peer that lives and takes nothing, as while it
        // flushes; whether it lives is for the limits on silence to tell.
        let patience = u32::try_from(limits::LANE_IDLE_MAX.as_millis()).unwrap_or(u32::MAX);
        let prepared = stream.set_nodelay(true).and_then(|()| {
            setsockopt(&stream, sockopt::KeepAlive, &true)?;
            setsockopt(&stream, sockopt::TcpKeepIdle, &KEEPALIVE_IDLE_SECONDS)?;
            setsockopt(&stream, sockopt::TcpKeepInterval, &KEEPALIVE_INTERVAL_SECONDS)?;
            setsockopt(&stream, sockopt::TcpKeepCount, &KEEPALIVE_PROBES)?;
            setsockopt(&stream, sockopt::TcpUserTimeout, &patience)?;
            Ok(())
        });
        match prepared {
            Ok(()) => Ok(Self { stream, peer }),
            Err(source) => Err(Error::Broken { peer, source }),
        }
    }

    /// The peer's address, for messages.
    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    /// The stream itself.
    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Reads what is there: `None` where there is nothing yet, 0 at the end.
    pub(super) fn try_read(&self, into: &mut [u8]) -> Result<Option<usize>, Error> {
        loop {
            match self.stream.try_read(into) {
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.broken(source)),
            }
        }
    }

    /// Waits until something can be read, no longer than `limit`.
    pub(super) async fn readable(&self, limit: Duration) -> Result<(), Error> {
        match timeout(limit, self.stream.readable()).await {
            Ok(ready) => ready.map_err(|source| self.broken(source)),
            Err(_) => Err(Error::Silent { peer: self.peer.clone(), seconds: limit.as_secs() }),
        }
    }

    /// Writes all of `bytes`, waiting no longer than `limit` for each step.
    pub(super) async fn write_all(&self, mut bytes: &[u8], limit: Duration) -> Result<(), Error> {
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match timeout(limit, self.stream.writable()).await {
                        Ok(ready) => ready.map_err(|source| self.broken(source))?,
                        Err(_) => {
                            return Err(Error::Stalled { peer: self.peer.clone(), seconds: limit.as_secs() });
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.broken(source)),
            }
        }
        Ok(())
    }

    /// Writes as much of `bytes` as goes at once; for a last word to a peer that
    /// may not listen any more.
    pub(super) fn try_write(&self, bytes: &[u8]) {
        let _ = self.stream.try_write(bytes);
    }

    /// Ends the sending direction. What was sent still arrives.
    pub(super) fn shut_sending(&self) {
        // A peer that is gone already needs no farewell.
        let _ = shutdown(self.stream.as_raw_fd(), Shutdown::Write);
    }

    fn broken(&self, source: io::Error) -> Error {
        Error::Broken { peer: self.peer.clone(), source }
    }
}

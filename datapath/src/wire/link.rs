//! A connection as frames: one half that sends, one that receives.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use super::Error;
use super::frame::{HEADER_BYTES, Header, Kind};
use super::message::Refused;
use super::tls::{Receiver, Sender};
use crate::limits;
use crate::unit::{Extent, to_u64, to_usize};

/// The sending half, shared by the tasks of a lane.
#[derive(Clone)]
pub struct LinkSender {
    sender: Rc<Mutex<Sender>>,
    last: Rc<Cell<Instant>>,
    moved: Rc<Cell<Instant>>,
}

/// The receiving half.
pub struct LinkReceiver {
    receiver: Receiver,
    peer: Rc<str>,
    moved: Rc<Cell<Instant>>,
    patience: Patience,
    /// What is left of the time for the frame at hand; only waiting for its
    /// bytes uses it up, not what is done with them.
    frame_left: Duration,
}

/// How long a link waits for a peer that is there.
#[derive(Clone, Copy)]
struct Patience {
    /// For a frame without its payload.
    frame: Duration,
    /// For each KiB of the payload.
    payload_kib: Duration,
    /// For anything but signs of life.
    idle: Option<Duration>,
}

impl Default for Patience {
    fn default() -> Self {
        let payload_kib = Duration::from_secs(1 << 10) / limits::FRAME_RATE_MIN;
        Self { frame: limits::PEER_SILENCE_MAX, payload_kib, idle: None }
    }
}

impl Patience {
    fn payload(&self, bytes: u32) -> Duration {
        self.payload_kib * bytes.div_ceil(1 << 10)
    }
}

/// Makes a link of the two halves of a channel to `peer`.
#[must_use]
pub fn link(sender: Sender, receiver: Receiver, peer: &str) -> (LinkSender, LinkReceiver) {
    let now = Instant::now();
    let moved = Rc::new(Cell::new(now));
    let receiver = LinkReceiver {
        receiver,
        peer: peer.into(),
        moved: Rc::clone(&moved),
        patience: Patience::default(),
        frame_left: Duration::ZERO,
    };
    let (sender, last) = (Rc::new(Mutex::new(sender)), Rc::new(Cell::new(now)));
    (LinkSender { sender, last, moved }, receiver)
}

impl LinkSender {
    /// Sends a frame whose payload is `payload`, in pieces as they lie.
    ///
    /// # Errors
    /// [`Error::Channel`].
    pub async fn send(&self, header: Header, payload: &[&[u8]]) -> Result<(), Error> {
        debug_assert_eq!(
            payload.iter().map(|piece| piece.len()).sum::<usize>() as u64,
            u64::from(header.payload_bytes)
        );
        let bytes = header.encode();
        let mut sender = self.sender.lock().await;
        match *payload {
            [] => sender.send(&[&bytes]).await?,
            [one] => sender.send(&[&bytes, one]).await?,
            [one, two] => sender.send(&[&bytes, one, two]).await?,
            _ => {
                sender.send(&[&bytes]).await?;
                sender.send(payload).await?;
            }
        }
        self.last.set(Instant::now());
        if header.kind != Kind::Alive {
            self.moved.set(Instant::now());
        }
        Ok(())
    }

    /// From now on the link carries a lane: a peer that flushes gigabytes takes
    /// nothing meanwhile, and whether it lives is seen by the receiving half.
    pub async fn carry_lane(&self) {
        self.sender.lock().await.limit_silence(limits::LANE_IDLE_MAX);
    }

    /// Sends a control message.
    ///
    /// # Errors
    /// [`Error::Channel`], and [`Error::Message`] for one that is too large.
    pub async fn send_message<M: Serialize + ?Sized>(&self, kind: Kind, message: &M) -> Result<(), Error> {
        let failed = |source| Error::Message { peer: "this host".to_owned(), kind, source };
        let body = serde_json::to_vec(message).map_err(failed)?;
        let fits = u32::try_from(body.len()).ok().filter(|length| *length <= limits::CONTROL_PAYLOAD_MAX);
        let Some(length) = fits else {
            return Err(failed(serde::ser::Error::custom("larger than a control frame")));
        };
        self.send(Header::with_payload(kind, length), &[&body]).await
    }

    /// Sends signs of life while nothing else is sent, for ever.
    ///
    /// # Errors
    /// [`Error::Channel`] once the connection is gone.
    pub async fn keep_alive(&self) -> Result<std::convert::Infallible, Error> {
        loop {
            let quiet = self.last.get().elapsed();
            if quiet >= limits::ALIVE_EVERY {
                self.send(Header::bare(Kind::Alive, Extent::between(0, 0)), &[]).await?;
            }
            tokio::time::sleep(limits::ALIVE_EVERY.saturating_sub(quiet).max(Duration::from_secs(1))).await;
        }
    }

    /// Says good-bye, as far as the other end still listens.
    pub async fn close(&self) {
        // The other end may be gone already, which is no error any more.
        drop(self.sender.lock().await.close().await);
    }
}

impl LinkReceiver {
    /// Who sends.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// The next header other than a sign of life. Its payload, bounded by its
    /// kind, must be read next.
    ///
    /// # Errors
    /// [`Error::Frame`] for a header that breaks a rule, [`Error::Refused`]
    /// where the other end gives up, [`Error::Channel`].
    pub async fn receive(&mut self) -> Result<Header, Error> {
        let begun = Instant::now();
        loop {
            let header = self.header().await?;
            match header.kind {
                Kind::Alive => self.check_moving(begun)?,
                Kind::Refused => {
                    let refused: Refused = self.body(header).await?;
                    return Err(Error::Refused { peer: self.peer.to_string(), refused });
                }
                // Leave to send more moves nothing by itself.
                Kind::Credit => return Ok(header),
                _ => {
                    self.moved.set(Instant::now());
                    return Ok(header);
                }
            }
        }
    }

    /// From now on the link carries a lane of which something must move within
    /// `limit`; `None` is for one that waits for a flush or a verification, which
    /// take as long as they take.
    pub const fn limit_idleness(&mut self, limit: Option<Duration>) {
        self.patience.idle = limit;
    }

    /// For how long nothing has moved since `begun`, when this end began to
    /// wait: what it did itself before that is not the peer's doing.
    fn check_moving(&self, begun: Instant) -> Result<(), Error> {
        let idle = self.moved.get().max(begun).elapsed();
        match self.patience.idle {
            Some(limit) if idle >= limit => {
                Err(Error::Idle { peer: self.peer.to_string(), seconds: limit.as_secs() })
            }
            _ => Ok(()),
        }
    }

    async fn header(&mut self) -> Result<Header, Error> {
        let mut bytes = [0; HEADER_BYTES];
        let (first, rest) = bytes.split_at_mut(1);
        self.receiver.read_exact(first).await?;
        self.frame_left = self.patience.frame;
        self.read(rest).await?;
        let header =
            Header::decode(&bytes).map_err(|source| Error::Frame { peer: self.peer.to_string(), source })?;
        self.frame_left += self.patience.payload(header.payload_bytes);
        Ok(header)
    }

    /// Fills `into` with the next bytes of the payload.
    ///
    /// # Errors
    /// [`Error::Slow`] where they take too long, and [`Error::Channel`].
    pub async fn read(&mut self, into: &mut [u8]) -> Result<(), Error> {
        let begun = Instant::now();
        let read = tokio::time::timeout(self.frame_left, self.receiver.read_exact(into)).await;
        self.frame_left = self.frame_left.saturating_sub(begun.elapsed());
        let slow = || Error::Slow { peer: self.peer.to_string(), seconds: self.patience.frame.as_secs() };
        Ok(read.map_err(|_| slow())??)
    }

    /// The message of kind `kind`, which must be the next frame.
    ///
    /// # Errors
    /// As [`Self::receive`], and [`Error::Message`], [`Error::Unexpected`].
    pub async fn receive_message<M: DeserializeOwned>(&mut self, kind: Kind) -> Result<M, Error> {
        let header = self.receive().await?;
        if header.kind != kind {
            return Err(self.unexpected(header, "another control message"));
        }
        self.body(header).await
    }

    /// The body of a control frame whose header was just received.
    ///
    /// # Errors
    /// [`Error::Message`] and [`Error::Channel`].
    pub async fn body<M: DeserializeOwned>(&mut self, header: Header) -> Result<M, Error> {
        let mut body = vec![0; to_usize(u64::from(header.payload_bytes.min(limits::CONTROL_PAYLOAD_MAX)))];
        self.read(&mut body).await?;
        serde_json::from_slice(&body).map_err(|source| Error::Message {
            peer: self.peer.to_string(),
            kind: header.kind,
            source,
        })
    }

    /// The error for a frame that has no place here.
    #[must_use]
    pub fn unexpected(&self, header: Header, expected: &'static str) -> Error {
        Error::Unexpected { peer: self.peer.to_string(), kind: header.kind, extent: header.extent, expected }
    }

    /// Checks a frame about chunks of a disk.
    ///
    /// # Errors
    /// [`Error::Frame`].
    pub fn check_chunks(&self, header: &Header, size_bytes: u64) -> Result<(), Error> {
        header.check_chunks(size_bytes).map_err(|source| Error::Frame { peer: self.peer.to_string(), source })
    }
}

/// The length of a payload, which every sender bounds by a window.
#[must_use]
pub fn payload_length(pieces: &[&[u8]]) -> u32 {
    let total: u64 = pieces.iter().map(|piece| to_u64(piece.len())).sum();
    u32::try_from(total).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;

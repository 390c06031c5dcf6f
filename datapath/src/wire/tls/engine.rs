//! The TLS state of one connection, without a socket: bytes in, bytes out.
//!
//! In: ciphertext in an [`Incoming`], plaintext to send. Out: plaintext copied
//! once into the receiver's buffer, ciphertext in the sender's buffer. rustls
//! decrypts in place (its *unbuffered* interface), which spares the receiving
//! side the copies that cost the most. Invariants: bytes leave in the order in
//! which they were encrypted; plaintext arrives in order, none is lost between
//! calls; after a failure nothing more is encrypted or decrypted. Never: does
//! I/O, waits, or makes records of its own. Limits: one record of plaintext
//! ([`Engine::spare`]) and one alert are kept between calls.

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};

use super::incoming::Incoming;

/// Bytes that TLS adds to a record: header, content type, tag.
pub(super) const RECORD_OVERHEAD: usize = 5 + 1 + 16;
/// Plaintext of a full record.
pub(super) const RECORD_PLAINTEXT: usize = 16 << 10;
/// Room in front of the application's records for a key update or an alert.
pub(super) const CONTROL_BYTES: usize = 1 << 10;

/// Bytes that `plaintext` bytes become in one call of [`Engine::encrypt`].
pub(super) const fn encrypted_bytes(plaintext: usize) -> usize {
    plaintext + plaintext.div_ceil(RECORD_PLAINTEXT) * RECORD_OVERHEAD
}

/// Either side of a connection, as rustls has them.
pub(super) enum Connection {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// The two kinds of connection have the same interface but for its types.
trait Side {
    type Data;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

/// Where a connection stands after some of its bytes were processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A record of plaintext was handed out; there may be more.
    Plaintext,
    /// Something happened that needs no bytes; process again.
    Again,
    /// What was encoded must be sent before going on.
    Transmit,
    /// More bytes are needed, in the handshake.
    Blocked,
    /// More bytes are needed; the handshake is over.
    Ready,
    /// The peer has closed the connection properly.
    Closed,
}

/// Processes until the next [`Step`]: plaintext goes to `deliver`, what rustls
/// wants sent is appended to `control`, and `write` is called where sending is
/// possible. Also the number of bytes at the front that are done with.
fn step<S: Side>(
    connection: &mut S,
    incoming: &mut [u8],
    control: &mut Vec<u8>,
    deliver: &mut dyn FnMut(&[u8]),
    write: &mut dyn FnMut(&mut dyn Encrypt),
) -> (usize, Result<Step, rustls::Error>) {
    let UnbufferedStatus { mut discard, state } = connection.process(incoming);
    let step = match state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            let mut result = Ok(Step::Plaintext);
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        deliver(record.payload);
                    }
                    Err(error) => result = Err(error),
                }
            }
            result
        }
        Ok(ConnectionState::EncodeTlsData(mut encoder)) => {
            let at = control.len();
            // Asked with no room, rustls says how much it needs.
            if let Err(EncodeError::InsufficientSize(size)) = encoder.encode(&mut []) {
                control.resize(at + size.required_size, 0);
            }
            match encoder.encode(&mut control[at..]) {
                Ok(_) => Ok(Step::Again),
                Err(error) => Err(rustls::Error::General(error.to_string())),
            }
        }
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            transmit.done();
            Ok(Step::Transmit)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::Blocked),
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            write(&mut traffic);
            Ok(Step::Ready)
        }
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Step::Closed),
        // Early data is switched off in every configuration, and there are no
        // other states in this version of rustls.
        Ok(_) => Err(rustls::Error::General("an unexpected state of the connection".to_owned())),
    };
    (discard, step)
}

/// One way of encrypting into a buffer; says how many bytes that made.
type Encryption<'a> = dyn FnMut(&mut dyn Encrypt, &mut [u8]) -> Result<usize, EncryptError> + 'a;

/// What a connection can do where it may send.
trait Encrypt {
    fn encrypt_into(&mut self, plaintext: &[u8], into: &mut [u8]) -> Result<usize, EncryptError>;
    fn close_into(&mut self, into: &mut [u8]) -> Result<usize, EncryptError>;
}

impl<Data> Encrypt for WriteTraffic<'_, Data> {
    fn encrypt_into(&mut self, plaintext: &[u8], into: &mut [u8]) -> Result<usize, EncryptError> {
        self.encrypt(plaintext, into)
    }

    fn close_into(&mut self, into: &mut [u8]) -> Result<usize, EncryptError> {
        self.queue_close_notify(into)
    }
}

impl Connection {
    fn step(
        &mut self,
        incoming: &mut [u8],
        control: &mut Vec<u8>,
        deliver: &mut dyn FnMut(&[u8]),
        write: &mut dyn FnMut(&mut dyn Encrypt),
    ) -> (usize, Result<Step, rustls::Error>) {
        match self {
            Self::Client(connection) => step(&mut **connection, incoming, control, deliver, write),
            Self::Server(connection) => step(&mut **connection, incoming, control, deliver, write),
        }
    }

    /// Whether rustls has something to say, such as the alert of a failure.
    fn wants_write(&self) -> bool {
        match self {
            Self::Client(connection) => connection.wants_write(),
            Self::Server(connection) => connection.wants_write(),
        }
    }

    fn protocol(&self) -> Option<&[u8]> {
        match self {
            Self::Client(connection) => connection.alpn_protocol(),
            Self::Server(connection) => connection.alpn_protocol(),
        }
    }
}

/// A connection with the bytes it has not consumed.
pub(super) struct Engine {
    connection: Connection,
    incoming: Incoming,
    /// What rustls wants sent: handshake messages, or an alert after a failure.
    control: Vec<u8>,
    /// Plaintext of a record that was longer than the receiver's buffer.
    spare: Vec<u8>,
    spare_at: usize,
    /// The peer has closed.
    closed: bool,
    /// This side has closed.
    finished: bool,
    failure: Option<rustls::Error>,
}

impl Engine {
    pub(super) fn new(connection: Connection, incoming: Incoming) -> Self {
        let (control, spare) = (Vec::new(), Vec::new());
        Self {
            connection,
            incoming,
            control,
            spare,
            spare_at: 0,
            closed: false,
            finished: false,
            failure: None,
        }
    }

    /// Goes on with the handshake as far as the bytes at hand allow.
    pub(super) fn handshake(&mut self) -> Result<Step, rustls::Error> {
        loop {
            let spare = &mut self.spare;
            let (discard, step) = self.connection.step(
                self.incoming.unread(),
                &mut self.control,
                &mut |plaintext| spare.extend_from_slice(plaintext),
                &mut |_| {},
            );
            let drained = matches!(step, Ok(Step::Blocked | Step::Ready | Step::Closed));
            self.incoming.shown(discard, drained);
            match self.noted(step)? {
                Step::Again => {}
                // A peer that already sends has finished the handshake.
                Step::Plaintext => return Ok(Step::Ready),
                step => return Ok(step),
            }
        }
    }

    /// Whether the peer agreed to `protocol`.
    pub(super) fn speaks(&self, protocol: &[u8]) -> bool {
        self.connection.protocol() == Some(protocol)
    }

    /// The same connection with room for `capacity` bytes of ciphertext.
    pub(super) fn with_capacity(mut self, capacity: usize) -> Self {
        self.incoming = self.incoming.resized(capacity);
        self.spare.reserve(RECORD_PLAINTEXT.saturating_sub(self.spare.capacity()));
        self.control = Vec::new();
        self
    }

    /// Decrypts what is at hand into `into`: the number of bytes, and
    /// [`Step::Closed`] where the peer has closed, else [`Step::Ready`] where
    /// more bytes are needed to go on.
    pub(super) fn decrypt(&mut self, into: &mut [u8]) -> Result<(usize, Step), rustls::Error> {
        self.check()?;
        let mut copied = self.take_spare(into);
        while copied < into.len() {
            if self.closed {
                return Ok((copied, Step::Closed));
            }
            let spare = &mut self.spare;
            let (discard, step) = self.connection.step(
                self.incoming.unread(),
                &mut self.control,
                &mut |plaintext| {
                    let here = plaintext.len().min(into.len() - copied);
                    into[copied..copied + here].copy_from_slice(&plaintext[..here]);
                    spare.extend_from_slice(&plaintext[here..]);
                    copied += here;
                },
                &mut |_| {},
            );
            let drained = matches!(step, Ok(Step::Blocked | Step::Ready | Step::Closed));
            self.incoming.shown(discard, drained);
            match self.noted(step)? {
                Step::Ready | Step::Blocked => return Ok((copied, Step::Ready)),
                Step::Plaintext | Step::Again | Step::Transmit | Step::Closed => {}
            }
        }
        Ok((copied, Step::Plaintext))
    }

    /// Encrypts `plaintext` into the front of `into`; the number of bytes there.
    /// `into` has [`CONTROL_BYTES`] more than [`encrypted_bytes`] says.
    pub(super) fn encrypt(&mut self, plaintext: &[u8], into: &mut [u8]) -> Result<usize, rustls::Error> {
        self.write(into, &mut |traffic, into| traffic.encrypt_into(plaintext, into))
    }

    /// Encrypts the notice that nothing more will be sent.
    pub(super) fn close(&mut self, into: &mut [u8]) -> Result<usize, rustls::Error> {
        let length = self.write(into, &mut |traffic, into| traffic.close_into(into))?;
        self.finished = true;
        Ok(length)
    }

    /// Whether the notice was encrypted: nothing may follow it.
    pub(super) const fn finished(&self) -> bool {
        self.finished
    }

    fn write(&mut self, into: &mut [u8], encrypt: &mut Encryption<'_>) -> Result<usize, rustls::Error> {
        self.check()?;
        loop {
            let mut written = None;
            let spare = &mut self.spare;
            let ahead = self.control.len().min(into.len());
            let (discard, step) = self.connection.step(
                // Bytes that were not seen before stay unseen: a record in them
                // would have to be delivered first.
                self.incoming.seen(),
                &mut self.control,
                &mut |plaintext| spare.extend_from_slice(plaintext),
                &mut |traffic| written = Some(encrypt(traffic, &mut into[ahead..])),
            );
            self.incoming.shown_again(discard);
            self.noted(step)?;
            match written {
                Some(Ok(length)) => {
                    into[..ahead].copy_from_slice(&self.control[..ahead]);
                    self.control.clear();
                    return Ok(ahead + length);
                }
                Some(Err(error)) => {
                    return self.noted(Err(rustls::Error::General(error.to_string()))).map(|_| 0);
                }
                None => {}
            }
        }
    }

    /// Room for more ciphertext, at most `most` bytes; empty where the peer sent
    /// more than any message of TLS needs without completing one.
    pub(super) fn room(&mut self, most: usize) -> &mut [u8] {
        self.incoming.room(most)
    }

    /// `count` bytes of ciphertext were put into the room.
    pub(super) fn filled(&mut self, count: usize) {
        self.incoming.filled(count);
    }

    /// What must be sent now: handshake messages, or the alert of a failure.
    pub(super) fn take_control(&mut self) -> Vec<u8> {
        while self.failure.is_some() && self.connection.wants_write() {
            // rustls hands out what it has to say before it looks at any byte.
            let (discard, step) =
                self.connection.step(self.incoming.unread(), &mut self.control, &mut |_| {}, &mut |_| {});
            self.incoming.shown(discard, false);
            if step.is_err() {
                break;
            }
        }
        std::mem::take(&mut self.control)
    }

    fn take_spare(&mut self, into: &mut [u8]) -> usize {
        let left = &self.spare[self.spare_at..];
        let length = left.len().min(into.len());
        into[..length].copy_from_slice(&left[..length]);
        self.spare_at += length;
        if self.spare_at == self.spare.len() {
            self.spare.clear();
            self.spare_at = 0;
        }
        length
    }

    fn check(&self) -> Result<(), rustls::Error> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    fn noted(&mut self, step: Result<Step, rustls::Error>) -> Result<Step, rustls::Error> {
        match &step {
            Ok(Step::Closed) => self.closed = true,
            Ok(_) => {}
            Err(error) => self.failure = Some(error.clone()),
        }
        step
    }
}

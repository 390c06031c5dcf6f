//! Between two hosts: frames over TLS 1.3, or over the pipe of an ssh.
//!
//! In: headers and payloads as they lie. Out: the same on the other host, in
//! order. Invariants: a length is checked before memory is taken for it; a peer
//! without a known certificate learns the server's certificate and nothing
//! else; every wait ends. Never: opens a disk, decides what travels.
//! Limits: `limits::FRAME_PAYLOAD_MAX`, `limits::CONTROL_PAYLOAD_MAX`,
//! `limits::HANDSHAKE_TIMEOUT`, `limits::PEER_SILENCE_MAX`, `limits::FRAME_RATE_MIN`,
//! `limits::LANE_IDLE_MAX`.
//!
//! ```text
//! frame  ── header, payload ──> link ── bytes ──> tls ── records ──> socket
//!                                        (or a pipe of ssh)
//! ```
//!
//! How a run goes (`I` the end that began it, `S` the end that serves):
//!
//! ```text
//! S → I  Hello             I → S  Hello
//! I → S  Open              S → I  Opened
//! I → S  Start             S → I  Started         further lanes: I → S  Join
//! target → source  Digests, Hole …
//! source → target  Data, Zero, Credit, SegmentDone …
//! source → target  End     target → source  End
//! S → I  Finished, on the first lane, where S is the target
//! ```

pub mod identity;
pub mod pairing;
pub mod peers;
pub mod tls;

mod error;
mod frame;
mod hello;
mod link;
mod location;
mod message;
mod remote;

pub use error::Error;
pub use frame::{FrameError, HEADER_BYTES, Header, Kind, digests};
pub use hello::{VERSION_HIGHEST, VERSION_LOWEST, exchange};
pub use link::{LinkReceiver, LinkSender, link, payload_length};
pub use location::{InvalidLocation, Location, SshLocation};
pub use message::{
    Code, Create, DiskFacts, End, Finished, Join, Open, Opened, Refused, Role, Start, Started,
};
pub use remote::{Connection, Remote};

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
//!
//! How a disk is protected (`A` the agent, `T` the master target), one connection
//! for each disk, for as long as it lasts; the first message after `Hello` decides
//! which of the two it is:
//!
//! ```text
//! T → A  Hello             A → T  Hello
//! A → T  Protect           T → A  Protecting
//! A → T  Offer             T → A  Want          while synchronizing
//! A → T  Delta …           T → A  Received …    credit
//!                          T → A  Durable …     a broken connection goes on from here
//!                          T → A  Waiting …     it takes nothing in, and goes on by itself
//! A → T  Cut               T → A  Point         only now may the agent forget
//! A → T  Fence             T → A  Fenced        after the final point
//! ```

pub mod identity;
pub mod pairing;
pub mod peers;
pub mod tls;

mod error;
mod frame;
mod hello;
mod link;
mod listen;
mod location;
mod message;
mod parcel;
mod protection;
mod remote;

pub use error::Error;
pub use frame::{FrameError, HEADER_BYTES, Header, Kind, digests};
pub use hello::{VERSION_HIGHEST, VERSION_LOWEST, exchange};
pub use link::{LinkReceiver, LinkSender, link, payload_length};
pub use listen::{Serves, listen};
pub use location::{InvalidLocation, Location, SshLocation};
pub use message::{
    Code, Create, DiskFacts, End, Finished, Join, Open, Opened, Refused, Role, Start, Started,
};
pub use parcel::acknowledged;
pub use protection::{
    Cut, CutKind, Fence, Fenced, Intent, Point, Position, Progress, Protect, Protecting, Remark, Waiting,
};
pub use remote::{Connection, Remote};

pub use crate::unit::MachineCut;

//! What every error of the data path can say: what to do next.
//!
//! In: the typed errors of the rooms (each room has one at its door). Out: the
//! [`Remedy`] a caller acts on, without matching on the variants of a room.
//! Invariants: every error of a room has a remedy. Never: prints, never exits.

/// What helps against an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// The same operation may succeed later, unchanged.
    Retry,
    /// The peer is gone or broke the protocol: connect anew and go on from the
    /// last durable cursor.
    Reconnect,
    /// The two disks must be compared again before anything else.
    Resync,
    /// Nothing was changed; the request must be changed first.
    Refused,
    /// Somebody has to look: the operation cannot succeed as it stands.
    Stop,
}

/// An error that knows its remedy.
pub trait Remediable: std::error::Error {
    /// What to do next.
    fn remedy(&self) -> Remedy;
}

//! `failback master-target` and `failback points`: real processes, real files; an
//! agent that is made here speaks to them over TLS.
//!
//! ```text
//! Visitor ── TLS ──> Home: failback master-target run ── target.img, retention/
//! the test ── commands ──┘
//! ```

mod given_up;
mod home;
mod hostile;
mod journey;
mod looking;
mod orders;
mod refusals;
mod retention;
mod visitor;
mod void;
mod written;

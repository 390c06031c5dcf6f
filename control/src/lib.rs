//! What failback decides and remembers: the control plane.
//!
//! It stands at home, and never touches a byte of a disk. It tells the data path
//! what ought to be (assignments) and hears from it what is (reports); between
//! the two lie the decisions that bring a machine home:
//!
//! ```text
//!                      facts ──> rules ──> findings
//!                        │                    │ nothing broken
//! intent of a person ────┴──> workflow ──> plan of steps ──> assignments
//!                                             │                  │
//!                                             └── reports <── data path
//! ```
//!
//! In: what a person asks for; facts from the hypervisors' inventories, from
//! probes of the hosts and the network, and from reports. Out: findings, plans,
//! assignments, events. Invariants:
//!
//! - A rule is a pure function: facts and intent in, findings out. A preflight
//!   names every finding at once: which rule, which machine or host or disk,
//!   what was seen, what was expected, what to do about it.
//! - A broken rule refuses an operation before anything is changed. A fact that
//!   is missing refuses as well, and says how to supply it.
//! - What an operation may do follows from one table of states and operations;
//!   what a state does not allow is refused with what it does allow.
//! - A plan does not change once it is made. Each of its steps is recorded
//!   before and after, and finds a thing done already as good as doing it, so a
//!   control plane that was stopped anywhere goes on from there.
//! - Direction is a value: bringing a machine home and protecting it again
//!   afterwards are one workflow with its ends exchanged.
//! - A control plane restored from a backup watches until its components have
//!   reported, and adopts what it finds, before it orders anything.
//!
//! Never: opens a disk, reads or writes one, or knows more of the data path than
//! its units and its contract.
//!
//! None of this is built yet: `failback sync` needs no control plane. The crate
//! holds the place and the promises, so that nothing else grows into them.

#![forbid(unsafe_code)]

//! Making disks stand still for a moment: freezing filesystems in the right
//! order, hooks before and after, and a watchdog that thaws whatever happens.
//!
//! ```text
//! disks ─> FreezePlan ─> Prepared ──freeze──> Frozen ──thaw──> Thawed: still valid?
//!            (top first)  (synced)               │
//! agent ── orders, files of the mounts ──> watchdog process ── FIFREEZE, FITHAW
//!   └── freeze record in memory, for an agent that must undo ──┘
//! ```
//!
//! In: device numbers, commands of hooks. Out: a freeze and whether it held until
//! its end; what no freeze stops. Invariants: a filesystem on a loop device over
//! a file of another one is frozen before that one, and thawed after it; each is
//! frozen once, however often it is mounted; a freeze ends at its deadline, with
//! its agent, or by its record; nobody else's freeze is ended.
//! Never: reads a disk, unmounts, freezes in the agent's own process.
//! Limits: `limits::SUPERBLOCKS_MAX`, `limits::FREEZE_BUDGET`,
//! `limits::FREEZE_HOLD_MAX`, `limits::SYNC_WAIT_MAX`, `limits::WATCHDOG_GRACE`,
//! `limits::HOOK_OUTPUT_BYTES_MAX`.
//!
//! # Why the agent does not stop itself
//!
//! Its state, its log and its binary may lie on what it freezes. What a freeze
//! stops is writing: to change a file, to make or remove one, to close the last
//! descriptor of a removed one. Reading goes on, so a page of the binary that was
//! not in memory can still be paged in. Hence:
//!
//! - the watchdog opens nothing and writes nothing but bytes of the freeze record,
//!   which lies in memory; its memory is locked, and what it needs (thread, lists,
//!   descriptors) is there before the first filesystem is frozen;
//! - the agent does between [`Prepared::freeze`] and [`Frozen::thaw`] what needs no
//!   file for writing: drain maps, read disks into memory that was there before;
//! - if it does write all the same, it waits until the deadline, where the watchdog
//!   thaws, and the cut is void: late, but not stuck.
//!
//! # What this cannot tell
//!
//! A filesystem that somebody thaws and freezes again within the freeze looks
//! untouched. One that is mounted after the plan is not in it. For both, and for
//! all of [`Unquiesced`], the drain after the remainder was read decides.

mod binding;
mod error;
mod freeze;
mod hooks;
mod look;
mod plan;
mod power;
mod record;
mod recover;
mod stack;
mod superblock;
#[cfg(test)]
mod tests;
mod watchdog;

pub use binding::{Binding, Difference, Relocated};
pub use error::Error;
pub use freeze::{Frozen, Limit, Prepared, Thawed};
pub use hooks::{Consistency, HookCommand, HookReport, HookStatus, Hooks, Occasion, Running};
pub use look::FreezeLook;
pub use plan::{FreezePlan, Unquiesced};
pub use power::{Machine, Power, Rehearsal};
pub use recover::{Recovered, recover};
pub use superblock::Superblock;
pub use watchdog::{Cause, SUBCOMMAND, Watchdog, run};

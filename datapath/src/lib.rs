//! The data path of failback, in the order in which a block travels.
//!
//! Each module imports only modules that stand above it, so reading order, data
//! order and dependency order are one list:
//!
//! ```text
//! disk → track → quiesce → pipeline → wire ──net──> wire → journal → landing → disk
//!                  resync and role decide what must travel, and when
//! ```
//!
//! Start with [`disk::open`], walk a window through [`pipeline`], follow it over
//! the [`wire`] or straight into [`landing`], and read in [`resync`] how the two
//! ends of a run agree on what differs.
//!
//! A machine that goes on working while its disks are protected takes the whole
//! way: [`track`] knows what changed, [`quiesce`] makes a moment to cut at, a
//! [`delta`] carries the chunks, the [`journal`] keeps what they overwrite, and
//! [`role`] binds both ends.

pub mod unit;
pub mod limits;
pub mod error;
pub mod telemetry;
pub mod sys;
pub mod ring;
pub mod delta;
pub mod disk;
pub mod track;
pub mod quiesce;
pub mod pipeline;
pub mod wire;
pub mod journal;
pub mod landing;
pub mod resync;
pub mod role;

//! From the source's bytes to what must travel: plan, read ahead, digest, elide
//! zeroes, pack, throttle; and how the work spreads over the cores.
//!
//! In: a disk, its size, the settings of a run. Out: windows in order with
//! their bytes, digests, packed extents. Invariants: windows of a lane come in
//! ascending order; a digest is made from the bytes as they were read; an empty
//! pool is the backpressure. Never: writes to a disk, knows a peer.
//! Limits: `limits::QUEUE_DEPTH` windows read ahead, `limits::BUFFERS_PER_RUN`,
//! `limits::WINDOWS_PER_PROCESS` for all runs.
//!
//! ```text
//! Segments ──> ReadAhead ──> Digester, is_zero ──> Packer ──> Throttle ──>
//!                  ▲ Pool ◄──────── buffers come back when written or sent
//! ```
//!
//! Each lane does all of this inline on its own thread and core: measured on
//! two cores, handing windows to worker threads costs more than it hides.

mod budget;
mod cancel;
mod digest;
mod lanes;
mod link_rate;
mod load;
mod pack;
mod parcel;
mod pool;
mod read_ahead;
mod segments;
mod throttle;
mod zero;

pub use budget::{Budget, Share};
pub use cancel::{Cancel, Cancelled};
pub use digest::Digester;
pub use lanes::{LanePanicked, default_lanes, depth_for, run_lanes};
pub use load::{Load, LoadLimits};
pub use pack::{Compression, Packer, UnpackError, unpack};
pub use parcel::{UnsealError, seal, unseal};
pub use pool::{Pool, PooledBuffer};
pub use read_ahead::{ReadAhead, Window};
pub use segments::{Segments, chunk_count, chunk_extents};
pub use throttle::Throttle;
pub use zero::is_zero;

pub use crate::delta::{Codec, DigestAlgorithm};

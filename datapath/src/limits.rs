//! Every bound of the data path with its reason, in one place.
//!
//! In: nothing. Out: constants. Invariants: every queue, buffer, frame and wait
//! of the other rooms takes its bound from here. Never: reads a setting.

use std::time::Duration;

/// Unit of digests and of differences: 64 KiB. Smaller chunks send less around
/// a scattered change, larger ones cost fewer digests; 64 KiB keeps digests at
/// 1/4096 of the disk.
pub const CHUNK_BYTES: u32 = 64 << 10;

/// One read or write of the ring: 1 MiB, which measured 1.5 times the speed of
/// 256 KiB between loop devices.
pub const WINDOW_BYTES: u32 = 1 << 20;

/// Unit of work handed to a lane, of the resume cursor and of verification:
/// small enough that an interrupted run repeats little, large enough that an
/// 8 TiB disk is 131,072 of them.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// Operations in flight per lane and disk: deeper gained nothing on loop devices.
pub const QUEUE_DEPTH: usize = 8;

/// Window buffers of all lanes of a run together: what two lanes of a source fill
/// to their full depth.
pub const BUFFERS_PER_RUN: usize = 32;

/// Windows in the memory of a process, of all its runs together and with what
/// their lanes hold beside their buffers: 64 MiB, and the program itself.
pub const WINDOWS_PER_PROCESS: usize = 64;

/// A run that finds no buffers waits for others to end no longer than this:
/// somebody waits for it.
pub const BUFFERS_WITHIN: Duration = Duration::from_secs(20);

/// Lanes (threads with a ring, and a connection each over the network).
pub const LANES_MAX: usize = 16;

/// Entries of a lane's submission queue: two disks at full depth, and flushes.
pub const RING_ENTRIES: u32 = 64;

/// Pieces of a composite disk (VMDK extents). VMware's own 2 GiB split of its
/// largest disk, 62 TiB, has 31,744.
pub const PIECES_MAX: usize = 32_768;

/// A VMDK descriptor file: VMware's are below 64 KiB; one line per piece of the
/// largest disk fits in 8 MiB.
pub const DESCRIPTOR_BYTES_MAX: u64 = 8 << 20;

/// Largest disk: the largest that Linux block devices address (2^63 - 1), rounded to sectors.
pub const DISK_BYTES_MAX: u64 = (1 << 63) - 4096;

/// How often a running synchronization flushes its target and moves its cursor.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);

/// Payload of one frame: a window, its digests, and the growth of a codec on
/// bytes that do not shrink.
pub const FRAME_PAYLOAD_MAX: u32 = WINDOW_BYTES + (64 << 10);

/// Payload of a control frame (handshake, errors, reports).
pub const CONTROL_PAYLOAD_MAX: u32 = 64 << 10;

/// Windows whose digests a source keeps for a target that reads ahead, for each
/// lane: 4096 windows of 16 digests are 1 MiB, and cover 4 GiB of round trip.
pub const DIGEST_CREDIT_WINDOWS: u64 = 4096;

/// An export's name on the wire and on the command line, in bytes.
pub const EXPORT_NAME_MAX: usize = 4096;

/// From TCP accept to a finished handshake. A peer that has not shown its
/// certificate by then is dropped.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A peer that says nothing at all for this long is gone.
pub const PEER_SILENCE_MAX: Duration = Duration::from_secs(60);

/// The least that a frame's bytes must come at once its first one is there,
/// over and above one silence: 16 lanes of it share half a megabit a second, and
/// a window is there after six minutes.
pub const FRAME_RATE_MIN: u32 = 4 << 10;

/// A lane of which nothing moves, either way, but signs of life is ended after
/// this long. A flush of gigabytes in a page cache takes minutes; one segment
/// that is equal on both sides is compared in this time from 112 KiB a second.
pub const LANE_IDLE_MAX: Duration = Duration::from_secs(10 * 60);

/// An idle sender says that it is alive this often.
pub const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// Connections that a server holds at once, paired or not.
pub const CONNECTIONS_MAX: usize = 256;

/// A pairing token lives this long.
pub const PAIRING_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Wrong pairing proofs after which a token is void.
pub const PAIRING_ATTEMPTS_MAX: u32 = 5;

/// Filesystems that are frozen together: a machine of 60 disks with four each.
/// Each costs a descriptor on both sides, and time while writers wait.
pub const SUPERBLOCKS_MAX: usize = 256;

/// How long a cut may stop writers, unless it is set otherwise.
pub const FREEZE_BUDGET: Duration = Duration::from_secs(1);

/// The longest freeze at all: the final cut of a failback, whose last delta has
/// to cross the network and become a point before the machine is powered off.
pub const FREEZE_HOLD_MAX: Duration = Duration::from_secs(15 * 60);

/// Writing out what is unwritten before a freeze, while nobody is stopped:
/// 32 GiB of memory at 100 MB/s.
pub const SYNC_WAIT_MAX: Duration = Duration::from_secs(330);

/// How much later than it should a watchdog may answer. It has nothing to do but
/// that; one that needs longer is stopped or gone.
pub const WATCHDOG_GRACE: Duration = Duration::from_secs(2);

/// Attempts to thaw one filesystem, whose device may fail for a moment.
pub const THAW_ATTEMPTS: u32 = 5;

/// A hook that is not done by then is killed with all that it started, unless it
/// is set otherwise.
pub const HOOK_TIME_LIMIT: Duration = Duration::from_secs(60);

/// What is kept of the output of one hook: enough to see why it failed.
pub const HOOK_OUTPUT_BYTES_MAX: usize = 16 << 10;

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

/// Window buffers of all lanes of a process together, so that memory stays
/// within 64 MiB however many lanes there are.
pub const BUFFERS_PER_PROCESS: usize = 32;

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

/// An idle sender says that it is alive this often.
pub const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// Connections that a server holds at once, paired or not.
pub const CONNECTIONS_MAX: usize = 256;

/// A pairing token lives this long.
pub const PAIRING_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Wrong pairing proofs after which a token is void.
pub const PAIRING_ATTEMPTS_MAX: u32 = 5;

/// What the kernel's verifier may write about a program that it refuses. It
/// walks through 450 instructions of a program of ours, and some 80,000 where
/// discards come in pieces; the end is what matters.
pub const VERIFIER_LOG_BYTES: usize = 256 << 10;

/// Of that, what an error shows: some twenty lines.
pub const VERIFIER_LINES_BYTES: usize = 2 << 10;

/// Types of the running kernel (`/sys/kernel/btf/vmlinux`) in bytes: Debian's are
/// 5 to 10 MiB.
pub const KERNEL_TYPES_BYTES_MAX: u64 = 64 << 20;

/// Chunks of a tracked disk: each of its three bitmaps is then 64 MiB of kernel
/// memory. 2 TiB in chunks of 4 KiB, 512 TiB in chunks of 1 MiB.
pub const TRACKED_CHUNKS_MAX: u64 = 512 << 20;

/// Pieces of a discard that lie apart, and that one event of the tracker marks:
/// an NVMe command names 256, as does a virtio request; a discard of more is a
/// doubt. The kernel's verifier walks through each of them, and gives up at 8192
/// branches.
pub const DISCARD_PIECES_MAX: i32 = 256;

/// How long the kernel may take from telling that a request has completed to
/// counting it: microseconds, unless the thread that does it is put aside.
pub const COUNT_SETTLES: Duration = Duration::from_millis(100);

/// Between two looks at a disk that found it still and unchanged, for the
/// kernel's count to be taken as exact.
pub const STILL_FOR: Duration = Duration::from_secs(1);

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

/// Chunks of one protected disk: a bitmap of them is 32 MiB, and a disk of
/// 62 TiB has 65 million of 1 MiB.
pub const PROTECTED_CHUNKS_MAX: u64 = 1 << 28;

/// Chunks of one batch of the journal: its head is then 48 KiB, which a scan
/// reads at once.
pub const BATCH_CHUNKS_MAX: usize = 1024;

/// Before-images of one batch, before packing: what a delta of the largest size
/// overwrites, so that a delta costs one append and one flush.
pub const BATCH_IMAGE_BYTES_MAX: usize = 4 << 20;

/// A segment of the journal where its pair does not say otherwise: small beside
/// a volume, so that expiry gives space back early; large enough that a new one
/// every few seconds is the most that a fast disk asks for.
pub const JOURNAL_SEGMENT_BYTES: u32 = 256 << 20;

/// The largest segment that may be asked for: positions in it are 32 bits.
pub const JOURNAL_SEGMENT_BYTES_MAX: u32 = 1 << 30;

/// Entries of the open epoch in memory (about 100 bytes each); more are spilled
/// to the retention volume as sorted runs.
pub const OPEN_ENTRIES_MAX: usize = 1 << 18;

/// Indexes merged into one: a lookup probes at most two times fifteen files of each level.
pub const MERGE_FAN: u64 = 16;

/// Pages (4 KiB) of indexes and digests that a journal keeps in memory: 16 MiB.
pub const JOURNAL_PAGES_CACHED: usize = 4096;

/// Blocks (4 KiB) of one file that whoever only looks at a journal may change in
/// memory, in place of the volume: 256 MiB, an index of five million chunks.
pub const ASIDE_BLOCKS_MAX: usize = 1 << 16;

/// Files of a journal that are open at once: those that a lookup probes stay open.
pub const JOURNAL_FILES_OPEN: usize = 96;

/// Chunks that one lookup asks for: an operation of 1 MiB has 256 of the smallest.
pub const LOOKUP_CHUNKS_MAX: u64 = 1024;

/// A point's name in bytes: a line on a screen.
pub const POINT_NAME_MAX: usize = 256;

/// When a point was cut, in milliseconds of Unix time by the source's clock: the
/// last second of the year 9999, behind which dates have no common way to be
/// written. A clock that stands in 1970 has lost its battery, and is no reason to
/// leave its machine without points.
pub const CUT_UNIX_MS_MAX: u64 = 253_402_300_799_999;

/// Points that are pinned at once in one journal.
pub const PINS_MAX: usize = 1024;

/// The file that describes a pair: some hundreds of bytes, and its pins.
pub const PAIR_BYTES_MAX: u64 = 64 << 10;

/// By how much the wall clock may drift from the monotonic one between two
/// looks before expiry by age is paused: more than time synchronization slews.
pub const CLOCK_JUMP_MAX: Duration = Duration::from_secs(60);

/// A host whose wall clock nobody vouches for may have been off for this long
/// before expiry by age is paused: a large server takes minutes to start, and
/// points that go a quarter of an hour too early are not missed.
pub const HOST_OFF_MAX: Duration = Duration::from_secs(15 * 60);

/// Plain bytes of a delta: large enough that its header, its flush at the target
/// and a round trip cost little, small enough that a lane holds several.
pub const DELTA_BYTES_MAX: u32 = 4 << 20;

/// Entries of a delta: 4 MiB of the smallest chunks, 4 KiB each.
pub const DELTA_ENTRIES_MAX: u32 = 1024;

/// Deltas that an agent may have sent and its target not yet taken in: 32 MiB,
/// which keeps a link of 1 Gbit/s busy over a quarter of a second.
pub const DELTAS_IN_FLIGHT: u32 = 8;

/// Windows that an agent may have offered and its target not yet answered.
pub const OFFERS_IN_FLIGHT: usize = 8;

/// What the disks of a frozen machine may still have to read, in locked memory
/// that is there before the freeze: 64 MiB are read in less than the budget of a
/// freeze, 1 s, from any disk worth protecting.
pub const REMAINDER_BYTES_MAX: u64 = 64 << 20;

/// Short operations of a kind that a replica has in flight besides `QUEUE_DEPTH`
/// windows, each for reads of the target, for writes to it, and for reads of
/// before-images: a disk answers 32 at once more than twice as fast as eight, and one
/// of a chunk each leaves a window almost empty. With the windows 30 MiB a disk.
pub const SMALL_WINDOWS: usize = 24;

/// Memory of such an operation: a chunk of the usual size.
pub const SMALL_WINDOW_BYTES: u32 = CHUNK_BYTES;

/// Strokes (4 MiB of what is overwritten, and as much of what comes) whose reads run
/// while the one before is packed: 16 MiB.
pub const STROKES_AHEAD: usize = 2;

/// Strokes on their way into journal and target, which share flushes: 32 MiB. A
/// flush takes as long as writing some of them.
pub const STROKES_IN_HAND: usize = 4;

/// Strokes of a rewind (4 MiB each) between two flushes of the target: what a
/// crash makes it write again.
pub const STROKES_PER_CHECKPOINT: usize = 64;

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

/// How long a look at what a machine can do watches switches between tasks, for
/// those that the kernel hides.
pub const SWITCHES_WATCHED: Duration = Duration::from_millis(500);

/// Between two looks at a disk that found it still and unchanged, for the
/// kernel's count to be taken as exact.
pub const STILL_FOR: Duration = Duration::from_secs(1);

/// How often the journal of a pair is looked after: points that are too old, the
/// space on its volume, indexes to merge. Points are minutes apart.
pub const TEND_EVERY: Duration = Duration::from_secs(60);

/// A journal that somebody looks after is free again within this time: points are
/// dropped by removing files, and one merge writes tens of megabytes.
pub const JOURNAL_FREE_WITHIN: Duration = Duration::from_secs(5);

/// A master target that cannot go on says so, and not again within this time:
/// a full volume is met at every delta.
pub const ALARM_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// After so many cuts in a row that came to nothing there is an alarm: one may be
/// missed by a busy moment.
pub const SKIPPED_CUTS_ALARM: u32 = 3;

/// Spans of settings are at least this long: shorter ones cannot be kept, or would
/// have the machine do nothing else.
pub const SETTING_SPAN_MIN: Duration = Duration::from_millis(1);

/// The most of a machine's last changes that may be asked to fit into a freeze: they
/// lie in locked memory.
pub const REMAINDER_SETTING_MAX: u64 = 1 << 30;

/// Alarms of a pair that its status shows: a screen of them.
pub const ALARMS_KEPT: usize = 16;

/// A session that is asked to end has this long to bring its target in order:
/// a flush of what a page cache holds.
pub const SESSION_ENDS_WITHIN: Duration = Duration::from_secs(30);

/// A first attempt to connect again comes after this; each further one waits twice as long.
pub const RECONNECT_AFTER: Duration = Duration::from_millis(500);

/// No attempt to connect waits longer.
pub const RECONNECT_AFTER_MAX: Duration = Duration::from_secs(30);

/// How long a command waits for a target that goes back to its last point: 10 TiB
/// at 250 MB/s. The master target goes on without it.
pub const ROLLED_BACK_WITHIN: Duration = Duration::from_secs(12 * 3600);

/// How often an agent looks for a disk that is not there: a look at `/sys`.
pub const ABSENT_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How often a disk that is fenced asks whether it still is: a person has lifted
/// the fence, and looks whether it goes on.
pub const FENCE_ASKED_EVERY: Duration = Duration::from_secs(5);

/// Rounds before a cut must leave little within this time: a disk that changes
/// faster than it is sent is said to, instead of being frozen for long.
pub const CUT_SHRINKS_WITHIN: Duration = Duration::from_secs(60);

/// After a first point that could not be made it is tried again: each attempt
/// writes out and may freeze for as long as the budget of a cut.
pub const FIRST_POINT_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Chunks of a disk without tracking whose digests are held in memory, 17 bytes
/// each: with chunks of 4 KiB they are 2 GiB, which is more than is read in a freeze.
pub const DIGESTS_HELD_MAX: u64 = 512 << 10;

/// What a disk without tracking reads at one go before it looks for orders: a
/// round trip for each costs little, and it takes a second where reads are slow.
pub const PASS_SLICE_BYTES: u64 = 4 << 20;

/// A pass over a disk without tracking comes after four times as long as the one
/// before took, but no later than this: about once for each point.
pub const PASS_AGAIN_AFTER_MAX: Duration = Duration::from_secs(5 * 60);

/// No cut waits longer for a disk that it can do without.
pub const LEFT_OUT_AFTER: Duration = Duration::from_secs(2);

/// A target makes its point within this time, or the point is not one of the machine.
pub const POINT_WITHIN: Duration = Duration::from_secs(120);

/// Filesystems that are frozen together: a machine of 60 disks with four each.
/// Each costs a descriptor on both sides, and time while writers wait.
pub const SUPERBLOCKS_MAX: usize = 256;

/// How long a cut may stop writers, unless it is set otherwise.
pub const FREEZE_BUDGET: Duration = Duration::from_secs(1);

/// The longest freeze by an agent that says nothing any more: the final cut of a
/// failback, whose last delta has to cross the network and become a point before
/// the machine is powered off. One that lives asks again and again.
pub const FREEZE_HOLD_MAX: Duration = Duration::from_secs(15 * 60);

/// Writing out what is unwritten before a freeze, while nobody is stopped:
/// 32 GiB of memory at 100 MB/s.
pub const SYNC_WAIT_MAX: Duration = Duration::from_secs(330);

/// How much later than it should a watchdog may answer. It has nothing to do but
/// that; one that needs longer is stopped or gone.
pub const WATCHDOG_GRACE: Duration = Duration::from_secs(2);

/// Planning a freeze and writing out before it, with the answer of a watchdog
/// that is late: nobody is stopped meanwhile.
pub const FREEZE_PREPARED_WITHIN: Duration = Duration::from_secs(360);

/// How much longer than the freeze itself the thread that holds it may take to
/// answer: a watchdog that is lost, and a thaw by its record, are in it.
pub const FREEZER_ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// A cut, or a finish, that has not come to its end by then never will: writing
/// out, hooks, the longest freeze, points and fences take half an hour.
pub const CUT_ANSWERED_WITHIN: Duration = Duration::from_secs(45 * 60);

/// Any other order is done within this time, once it is begun: lanes end at once,
/// and a disk is opened and tracked in seconds.
pub const ORDER_ANSWERED_WITHIN: Duration = Duration::from_secs(120);

/// A target is open within this time of its agent's greeting: what a crash has
/// left in its journal is undone before, up to some gigabytes.
pub const TARGET_OPENS_WITHIN: Duration = Duration::from_secs(30 * 60);

/// Attempts to thaw one filesystem, whose device may fail for a moment.
pub const THAW_ATTEMPTS: u32 = 5;

/// A hook that is not done by then is killed with all that it started, unless it
/// is set otherwise.
pub const HOOK_TIME_LIMIT: Duration = Duration::from_secs(60);

/// What is kept of the output of one hook: enough to see why it failed.
pub const HOOK_OUTPUT_BYTES_MAX: usize = 16 << 10;

/// Events of an agent that wait to be told: its output may lie on a disk that is
/// frozen, and a disk tells a handful in that time.
pub const EVENTS_WAITING: usize = 1024;

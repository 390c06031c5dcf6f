//! What agent and master target ever hold in memory is a sum of bounds, and none of
//! them is the size of a disk.

use std::fs;

use failback_datapath::limits;

use super::ends::Ends;
use super::rig::{Rig, Setup, able};
use super::volume::fill;
use crate::fixture::Random;
use crate::network::hosts::memory_peak;

const MIB: u64 = 1 << 20;
/// Sparse, at both ends; all of it is read. In chunks of the smallest size it has as
/// many as a disk four times as large that is protected by default.
const DISK_BYTES: u64 = 8 << 30;
const CHUNK_BYTES: u64 = 4096;
const POINTS: u64 = 4;
/// Written between two points, in places that lie far apart.
const PLACES: u64 = 24;

/// The program, its threads and what the allocator keeps of all that comes and goes.
const PROGRAM_BYTES: u64 = 32 * MIB;

/// Deltas on their way, at either end.
fn in_flight_bytes() -> u64 {
    u64::from(limits::DELTAS_IN_FLIGHT) * u64::from(limits::DELTA_BYTES_MAX)
}

/// A bit for each chunk.
fn bitmap_bytes() -> u64 {
    DISK_BYTES / CHUNK_BYTES / 8
}

fn windows_bytes() -> u64 {
    limits::WINDOWS_PER_PROCESS as u64 * u64::from(limits::WINDOW_BYTES)
}

/// Windows that are read, deltas, what a freeze reads into, the kernel's types, and
/// the marks: three bitmaps of the tracker's, and as many sets of chunks.
fn agent_bytes_max() -> u64 {
    windows_bytes()
        + in_flight_bytes()
        + limits::REMAINDER_BYTES_MAX
        + limits::KERNEL_TYPES_BYTES_MAX
        + 6 * bitmap_bytes()
        + PROGRAM_BYTES
}

/// Windows, deltas, what strokes read and put aside, the open epoch, pages of indexes
/// and digests, and a set of chunks that are unknown.
fn target_bytes_max() -> u64 {
    let strokes = (limits::STROKES_AHEAD + limits::STROKES_IN_HAND) as u64;
    windows_bytes()
        + in_flight_bytes()
        + strokes * 2 * limits::BATCH_IMAGE_BYTES_MAX as u64
        + limits::OPEN_ENTRIES_MAX as u64 * 100
        + limits::JOURNAL_PAGES_CACHED as u64 * 4096
        + bitmap_bytes()
        + PROGRAM_BYTES
}

/// An agent that held 100 bytes for each chunk would be found out.
#[test]
fn memory_does_not_grow_with_a_disk() {
    let Some(()) = able(&[]) else { return };
    let mut random = Random::new();
    let rig = Rig::new(&[("data", DISK_BYTES)], Setup::default());
    let source = rig.disks[0].source.path();
    fill(source, DISK_BYTES - MIB, 1 << 20, &mut random);
    let target = rig.start_target();
    let settings = fs::read_to_string(rig.agent_settings()).expect("it was written");
    let chunk = "chunk = \"4KiB\"\n[points]";
    rig.scratch.file("agent.toml", settings.replace("[points]", chunk));
    let agent = rig.start_agent();
    let peaks = || [&agent, &target].map(|process| memory_peak(process.identifier()) / MIB);
    rig.wait_for_points();
    println!("after the first synchronization: {:?} MiB", peaks());
    for number in 0..POINTS {
        for _ in 0..PLACES {
            fill(source, random.below(DISK_BYTES / MIB - 1) * MIB, 300 << 10, &mut random);
        }
        rig.cut(&format!("cut-{number}"), &[]);
    }
    let [agent_peak, target_peak] = peaks();
    let [agent_most, target_most] = [agent_bytes_max(), target_bytes_max()].map(|bytes| bytes / MIB);
    println!("agent {agent_peak} of {agent_most} MiB, master target {target_peak} of {target_most} MiB");
    assert!(agent_peak <= agent_most, "the agent held {agent_peak} MiB, more than {agent_most}");
    assert!(target_peak <= target_most, "the master target held {target_peak} MiB, more than {target_most}");
    Ends::of(agent, target).stop();
}

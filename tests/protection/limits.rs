//! What an agent takes from the machine that it protects: no more than it is let.
//! Judged by the kernel's counters; a machine that is busy makes the agent slower,
//! never faster than its limit.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use super::ends::Ends;
use super::rig::{Rig, Setup, able};
use super::volume::fill;
use crate::fixture::{LONG, Random, program, run};

const MIB: u64 = 1 << 20;
const LOOKS_EVERY: Duration = Duration::from_millis(20);
/// What a second of idle time counts in favour of a busy one, and a window or two.
const SLACK: Duration = Duration::from_millis(30);

/// Bytes that were read from a device since it is there.
fn read_bytes(device: &Path) -> u64 {
    let name = device.file_name().expect("a device").to_string_lossy();
    let counts = fs::read_to_string(format!("/sys/class/block/{name}/stat")).expect("it is counted");
    counts.split_whitespace().nth(2).and_then(|sectors| sectors.parse::<u64>().ok()).expect("sectors") * 512
}

/// Processor time of a process and its threads.
fn processor_time(process: u32) -> Duration {
    let process = Pid::from_raw(i32::try_from(process).expect("process numbers fit in 22 bits"));
    let clock = clock_getcpuclockid(process).and_then(ClockId::now);
    clock.expect("it runs").into()
}

/// What a `stat` of a thread says after the name, from the state on.
fn fields_of(stat: &str) -> Vec<String> {
    let stat = fs::read_to_string(stat).expect("it runs");
    let after_name = stat.rsplit_once(')').expect("a name in parentheses").1;
    after_name.split_whitespace().map(str::to_owned).collect()
}

/// A rig with full disks, whose agent has `limits`.
fn full(disks: &[(&str, u64)], limits: &'static str) -> Rig {
    let rig = Rig::new(disks, Setup { limits, ..Setup::default() });
    let mut random = Random::new();
    for disk in &rig.disks {
        fill(disk.source.path(), 0, usize::try_from(disk.bytes).expect("a small disk"), &mut random);
        // What is in the page cache would not be read again.
        run(program("blockdev").arg("--flushbufs").arg(disk.source.path()));
    }
    rig
}

/// What a counter had counted between two moments.
struct Look<T> {
    not_before: Duration,
    counted: T,
    not_after: Duration,
}

/// Looks at a counter until `is_over` says so of what it has counted.
fn watch<T: Copy>(counter: impl Fn() -> T, is_over: impl Fn(T) -> bool) -> Vec<Look<T>> {
    let (begun, mut looks) = (Instant::now(), Vec::new());
    loop {
        assert!(begun.elapsed() < LONG, "it takes too long");
        let (not_before, counted) = (begun.elapsed(), counter());
        looks.push(Look { not_before, counted, not_after: begun.elapsed() });
        if is_over(counted) {
            return looks;
        }
        sleep(LOOKS_EVERY);
    }
}

/// Two disks share one rate, from the first byte on.
#[test]
fn a_first_synchronization_keeps_to_its_read_rate() {
    const RATE: u64 = 6 * MIB;
    const DISK_BYTES: u64 = 20 * MIB;
    // Windows that are read ahead of each disk, and what the bucket holds.
    const AHEAD: u64 = 2 * 9 * MIB + RATE / 10;
    let Some(()) = able(&["blockdev"]) else { return };
    let rig = full(&[("one", DISK_BYTES), ("two", DISK_BYTES)], "read-rate = \"6MiB\"\n");
    let read = || rig.disks.iter().map(|disk| read_bytes(disk.source.path())).sum::<u64>();
    let before = read();
    let ends = Ends::start(&rig);
    let looks = watch(read, |bytes| bytes - before >= 2 * DISK_BYTES);
    for (number, first) in looks.iter().enumerate() {
        for last in &looks[number..] {
            let (bytes, time) = (last.counted - first.counted, last.not_after - first.not_before);
            let most = RATE * u64::try_from(time.as_millis()).expect("a short time") / 1000 + AHEAD;
            assert!(bytes <= most, "{bytes} bytes in {time:?}, more than {most}");
        }
    }
    rig.wait_for_points();
    ends.finish(&rig);
}

/// Threads of a process that move a disk's bytes, with their names.
fn lanes(process: u32) -> Vec<(String, String)> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("it runs").flatten();
    let named = threads.filter_map(|thread| {
        let name = fs::read_to_string(thread.path().join("comm")).ok()?;
        Some((thread.file_name().into_string().ok()?, name.trim().to_owned()))
    });
    // With them, whom the kernel gives a ring for what would wait.
    named.filter(|(_, name)| name.starts_with("lane-") || name.starts_with("iou-wrk")).collect()
}

/// A small share of one core, behind everybody else.
#[test]
fn an_agent_keeps_to_its_share_of_the_processor_and_ranks_its_threads() {
    const PERCENT: u32 = 2;
    const DISK_BYTES: u64 = 112 * MIB;
    let Some(()) = able(&["blockdev", "ionice"]) else { return };
    let limits = "cpu = \"2%\"\nniceness = 7\nio-priority = \"best-effort-6\"\n";
    let rig = full(&[("data", DISK_BYTES)], limits);
    let read = || read_bytes(rig.disks[0].source.path());
    let before = read();
    let ends = Ends::start(&rig);
    let agent = ends.agent().identifier();
    let looks = watch(|| (processor_time(agent), read()), |(_, bytes)| bytes - before >= DISK_BYTES);
    let (first, last) = (&looks[0], &looks[looks.len() - 1]);
    let (used, time) = (last.counted.0 - first.counted.0, last.not_after - first.not_before);
    println!("{used:?} of processor time in {time:?}");
    assert!(used <= time * PERCENT / 100 + SLACK, "{used:?} of {time:?} is more than {PERCENT} %");
    let ranked = lanes(agent);
    assert!(ranked.iter().any(|(_, name)| name == "lane-data"), "{ranked:?}");
    for (thread, name) in ranked {
        let rank = run(program("ionice").args(["-p", &thread]));
        assert_eq!(rank, "best-effort: prio 6", "{name}");
        let niceness = fields_of(&format!("/proc/{agent}/task/{thread}/stat"))[16].clone();
        assert_eq!(niceness, "7", "{name}");
    }
    rig.wait_for_points();
    ends.finish(&rig);
}

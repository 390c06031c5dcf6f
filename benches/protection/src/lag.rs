//! How far a target stays behind writes of 4 KiB at random places, what that
//! costs on both ends, and how much slower the writer is for it.
//!
//! The writer's file lies on ext4: nothing stops a writer of the bare device, so
//! that it has no points. It is written with direct I/O, each block a request of
//! the disk. Without protection the same is written to a second disk.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::arguments::Lag;
use crate::error::Error;
use crate::ground::fio::{Until, Writer, Written};
use crate::ground::process::supervised;
use crate::ground::{Filesystem, LoopDevice, Scratch};
use crate::live::ends::Costs;
use crate::live::{Ends, Probe, Settings};
use crate::report::{Report, Spread, Table, figure, mebibytes, median, say};

const MIB: u64 = 1 << 20;
/// For the filesystem's own, and behind its end the probe's block.
const BESIDE: u64 = 256 * MIB;
/// Of one of the runs that the writer's speed is compared by.
const SHORT: u64 = 8;
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// How long a backlog is waited for at the end.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(180);

/// The long run.
struct Run {
    written: Written,
    lags_ms: Vec<u64>,
    point_lags_ms: Vec<u64>,
    /// Marked and not yet read, once a second.
    dirty_bytes: Vec<u64>,
    caught_up: Option<Duration>,
    statuses: [Value; 2],
    costs: [Costs; 2],
    doubts: u64,
}

/// Measures.
///
/// # Errors
/// Any.
pub fn measure(options: &Lag, scratch: &Scratch, failback: &Path, rest: Duration) -> Result<Report, Error> {
    let size_bytes = options.size * MIB + BESIDE;
    let source = LoopDevice::make(scratch, "source.img", size_bytes)?;
    let target = LoopDevice::make(scratch, "target.img", size_bytes)?;
    let (_filesystem, writer) = writer(options, scratch, &source, "mounted")?;
    let settings = Settings { chunk_kib: options.chunk, points_every: options.points_every };
    let mut ends = Ends::start(scratch, failback, "ends", [&source, &target], settings)?;
    let pairs = if options.rounds == 0 {
        Vec::new()
    } else {
        let plain = LoopDevice::make(scratch, "plain.img", size_bytes)?;
        let (_filesystem, without) = self::writer(options, scratch, &plain, "plain")?;
        compare(options, scratch, &mut ends, [&without, &writer], rest)?
    };
    ends.settle()?;
    scratch.rest(rest)?;
    let run = run(scratch, &mut ends, [&source, &target], &writer)?;
    ends.end()?;
    Ok(Report {
        tables: vec![run.table(), Table::of_figures(run.rows()), slowdown(&pairs)],
        figures: json!({"run": run.figures(), "writer": pairs.iter().map(told).collect::<Vec<_>>()}),
    })
}

/// A file on a filesystem of its own, and who writes it.
fn writer(
    options: &Lag,
    scratch: &Scratch,
    device: &LoopDevice,
    name: &str,
) -> Result<(Filesystem, Writer), Error> {
    let filesystem = Filesystem::make(scratch, device, device.size_bytes - MIB, name)?;
    let (file, size_bytes) = (filesystem.point.join("file"), options.size * MIB);
    // Written once: a block that was only allocated would be another kind of write.
    let mut fill = supervised("fio");
    fill.args(["--name=fill", "--rw=write", "--bs=1m", "--direct=1", "--thread", "--end_fsync=1"]);
    fill.args(["--ioengine=io_uring", "--iodepth=8", &format!("--size={size_bytes}")]);
    scratch.run(fill.arg(format!("--filename={}", file.display())))?;
    scratch.run(&mut Command::new("sync"))?;
    let until = Until::Seconds(options.seconds);
    Ok((filesystem, Writer { file, size_bytes, rate: Some(options.rate), until }))
}

/// The writer without and with protection, in turns.
fn compare(
    options: &Lag,
    scratch: &Scratch,
    ends: &mut Ends<'_>,
    [without, with]: [&Writer; 2],
    rest: Duration,
) -> Result<Vec<[Written; 2]>, Error> {
    let until = Until::Seconds(SHORT.min(options.seconds));
    let mut write = |writer: &Writer| {
        // Nothing of the run before is left to be done.
        ends.settle()?;
        scratch.rest(rest)?;
        Writer { until, ..writer.clone() }.run(scratch)
    };
    let mut pairs = Vec::new();
    for round in 0..options.rounds {
        // Whoever comes second finds the disk busier: they take turns.
        let first = (round % 2 == 0).then(|| write(without)).transpose()?;
        let protected = write(with)?;
        pairs.push([first.map_or_else(|| write(without), Ok)?, protected]);
        say(&format!("round {} of {}", round + 1, options.rounds));
    }
    Ok(pairs)
}

fn run(
    scratch: &Scratch,
    ends: &mut Ends<'_>,
    devices: [&LoopDevice; 2],
    writer: &Writer,
) -> Result<Run, Error> {
    let (status, costs, doubts) = (ends.status()?, ends.costs()?, ends.doubts());
    let probe = Probe::start(devices)?;
    let has_landed = || Ok(if probe.seen() > 0 { Ok(()) } else { Err(String::new()) });
    scratch.wait("a write that lands", CAUGHT_UP_WITHIN, has_landed)?;
    let before = probe.seen();
    let mut process = writer.start()?;
    let (mut point_lags_ms, mut dirty_bytes) = (Vec::new(), Vec::new());
    while process.is_running()? {
        scratch.rest(LOOKS_EVERY)?;
        ends.check()?;
        let now = ends.status()?;
        point_lags_ms.extend(now["lag_ms"].as_u64());
        dirty_bytes.extend(now["disks"][0]["dirty_bytes"].as_u64());
    }
    let (after, costs_after) = (ends.status()?, ends.costs()?);
    let lags_ms = probe.end()?.split_off(before);
    let written = Writer::finish(process, scratch)?;
    let begun = Instant::now();
    let mut is_behind = true;
    while is_behind && begun.elapsed() < CAUGHT_UP_WITHIN {
        scratch.rest(LOOKS_EVERY / 5)?;
        let disk = &ends.status()?["disks"][0];
        // The last writes of the filesystem itself are no backlog.
        is_behind = disk["dirty_bytes"].as_u64().is_none_or(|bytes| bytes > MIB);
    }
    let caught_up = (!is_behind).then(|| begun.elapsed());
    let (statuses, costs, doubts) = ([status, after], [costs, costs_after], ends.doubts() - doubts);
    Ok(Run { written, lags_ms, point_lags_ms, dirty_bytes, caught_up, statuses, costs, doubts })
}

impl Run {
    fn grown(&self, name: &str) -> u64 {
        let [before, after] =
            self.statuses.each_ref().map(|status| status[name].as_u64().unwrap_or_default());
        after.saturating_sub(before)
    }

    fn table(&self) -> Table {
        let seconds = |ms: u64| format!("{}.{}", ms / 1000, ms % 1000 / 100);
        let row = |name: &str, figures: &[u64], show: &dyn Fn(u64) -> String| {
            let spread = Spread::of(figures.iter().copied()).cells(show);
            [vec![name.to_owned()], spread.to_vec()].concat()
        };
        let [first, .., last] = self.thirds();
        Table {
            columns: vec!["behind", "p50", "p99", "max"],
            rows: vec![
                row("newest write that has landed, s", &self.lags_ms, &seconds),
                row("the same, first third of the run, s", first, &seconds),
                row("the same, last third, s", last, &seconds),
                row("newest point, s", &self.point_lags_ms, &seconds),
                row("marked and not yet read, MiB", &self.dirty_bytes, &mebibytes),
            ],
        }
    }

    fn thirds(&self) -> [&[u64]; 3] {
        let third = self.lags_ms.len() / 3;
        let (first, rest) = self.lags_ms.split_at(third);
        let (second, last) = rest.split_at(third);
        [first, second, last]
    }

    fn rows(&self) -> Vec<[String; 2]> {
        let [agent, target] = self.costs[1].cpu_seconds_since(&self.costs[0]);
        let row = |name: &str, figure: String| [name.to_owned(), figure];
        let caught_up = self.caught_up.map(|took| took.as_secs_f64());
        vec![
            row("writes a second", format!("{:.0}", self.written.rate)),
            row("written, MiB", mebibytes(self.written.bytes())),
            row("read, MiB", mebibytes(self.grown("read_bytes"))),
            row("sent, MiB", mebibytes(self.grown("sent_bytes"))),
            row("points made", self.grown("cuts_made").to_string()),
            row("points skipped", self.grown("cuts_skipped").to_string()),
            row("doubts", self.doubts.to_string()),
            row("caught up after the writer's end, s", figure(caught_up)),
            row("agent, CPU s", figure(Some(agent))),
            row("master target, CPU s", figure(Some(target))),
            row("agent, peak MiB", mebibytes(self.costs[1].agent.peak_bytes)),
            row("master target, peak MiB", mebibytes(self.costs[1].master_target.peak_bytes)),
        ]
    }

    fn figures(&self) -> Value {
        let [agent, target] = self.costs[1].cpu_seconds_since(&self.costs[0]);
        json!({
            "rate": self.written.rate, "written_bytes": self.written.bytes(), "lags_ms": self.lags_ms,
            "point_lags_ms": self.point_lags_ms, "doubts": self.doubts, "dirty_bytes": self.dirty_bytes,
            "caught_up_seconds": self.caught_up.map(|took| took.as_secs_f64()),
            "before": self.statuses[0], "after": self.statuses[1],
            "agent_cpu_seconds": agent, "target_cpu_seconds": target,
            "agent_peak_bytes": self.costs[1].agent.peak_bytes,
            "target_peak_bytes": self.costs[1].master_target.peak_bytes,
        })
    }
}

fn slowdown(pairs: &[[Written; 2]]) -> Table {
    let row = |name: &str, what: fn(&Written) -> f64| {
        let of = |place: usize| median(&pairs.iter().map(|pair| what(&pair[place])).collect::<Vec<_>>());
        let ratio = of(0).zip(of(1)).map(|(without, with)| with / without);
        vec![name.to_owned(), figure(of(0)), figure(of(1)), figure(ratio)]
    };
    Table {
        columns: vec!["the writer", "without", "with", "×"],
        rows: vec![
            row("writes a second", |written| written.rate),
            row("p50 of a write, µs", |written| written.p50_us),
            row("p99 of a write, µs", |written| written.p99_us),
        ],
    }
}

fn told([without, with]: &[Written; 2]) -> Value {
    let told =
        |written: &Written| json!({"rate": written.rate, "p50_us": written.p50_us, "p99_us": written.p99_us});
    json!({"without": told(without), "with": told(with)})
}

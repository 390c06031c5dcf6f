//! What tracking takes from each write: fio on one loop device, with the two
//! programs attached and without, in turns.
//!
//! The time in the programs themselves is what the kernel measures of them; it
//! counts the events of all disks, and a write to a loop device is two requests:
//! the device's, and that of the disk below.

use std::time::Duration;

use failback_datapath::sys::bpf;
use failback_datapath::track::{self, ChangeSource, Device, Place};
use failback_datapath::unit::ChunkSize;
use serde_json::json;

use crate::arguments::Tracker;
use crate::error::Error;
use crate::ground::fio::{Until, Writer};
use crate::ground::{LoopDevice, Scratch, machine};
use crate::report::{Report, Table, figure, median, say};

/// One run of fio.
struct Run {
    /// Writes a second.
    rate: f64,
    /// CPU seconds of the whole machine for a million writes.
    cpu_seconds: f64,
    /// Until half of the writes were done.
    p50_us: f64,
}

/// Measures.
///
/// # Errors
/// Any.
pub fn measure(options: &Tracker, scratch: &Scratch, rest: Duration) -> Result<Report, Error> {
    let device = LoopDevice::make(scratch, "disk.img", options.size << 20)?;
    let writer = Writer {
        file: device.path().to_owned(),
        size_bytes: device.size_bytes,
        rate: None,
        until: Until::Blocks(options.writes),
    };
    let run = || {
        scratch.rest(rest)?;
        let before = machine::busy_seconds()?;
        let written = writer.run(scratch)?;
        let millions = millions(written.blocks);
        let cpu_seconds = (machine::busy_seconds()? - before) / millions;
        Ok::<Run, Error>(Run { rate: written.rate, cpu_seconds, p50_us: written.p50_us })
    };
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        // Whoever comes second finds the disk busier: they take turns.
        let first = (round % 2 == 0).then(run).transpose()?;
        let tracker = attach(scratch, &device)?;
        with.push(run()?);
        tracker.uninstall()?;
        without.push(first.map_or_else(run, Ok)?);
        say(&format!("round {} of {}", round + 1, options.rounds));
    }
    let event_ns = event_nanoseconds(scratch, &device, &writer)?;
    Ok(report(&with, &without, event_ns))
}

fn attach(scratch: &Scratch, device: &LoopDevice) -> Result<track::Tracker, Error> {
    let place = Place::on(&scratch.folder("bpf")?, "disk", scratch.path("disk.lock"));
    let chunk = ChunkSize::for_disk(device.size_bytes);
    Ok(track::Tracker::install(Device::find(device.path())?, chunk, place)?)
}

/// Nanoseconds of an event in its program, by the kernel's own clock.
fn event_nanoseconds(scratch: &Scratch, device: &LoopDevice, writer: &Writer) -> Result<f64, Error> {
    let _measuring = bpf::measure_programs().map_err(Error::at("measure programs of", "the kernel"))?;
    let tracker = attach(scratch, device)?;
    writer.run(scratch)?;
    let told = tracker.statistics();
    tracker.uninstall()?;
    let whole = |count: u64| u32::try_from(count).map_or(f64::MAX, f64::from);
    Ok(whole(told.measured_ns / 1000) * 1000.0 / whole(told.measured_runs.max(1)))
}

fn millions(blocks: u64) -> f64 {
    u32::try_from(blocks).map_or(f64::MAX, f64::from) / 1e6
}

fn report(with: &[Run], without: &[Run], event_ns: f64) -> Report {
    let of = |runs: &[Run], what: fn(&Run) -> f64| median(&runs.iter().map(what).collect::<Vec<_>>());
    let row = |name: &str, what: fn(&Run) -> f64| {
        let (without, with) = (of(without, what), of(with, what));
        let ratio = without.zip(with).map(|(without, with)| with / without);
        vec![name.to_owned(), figure(without), figure(with), figure(ratio)]
    };
    let rows = vec![
        row("writes a second", |run| run.rate),
        row("CPU s for a million writes, whole machine", |run| run.cpu_seconds),
        row("p50 of a write, µs", |run| run.p50_us),
        vec![
            "ns of an event in its program".to_owned(),
            String::new(),
            format!("{event_ns:.0}"),
            String::new(),
        ],
    ];
    let told = |runs: &[Run]| {
        let told =
            |run: &Run| json!({"rate": run.rate, "cpu_seconds": run.cpu_seconds, "p50_us": run.p50_us});
        runs.iter().map(told).collect::<Vec<_>>()
    };
    Report {
        tables: vec![Table { columns: vec!["4 KiB at random", "without", "with", "×"], rows }],
        figures: json!({"without": told(without), "with": told(with), "event_ns": event_ns}),
    }
}

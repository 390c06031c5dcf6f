//! The results: a table for people, a line for each stage for machines.

use std::time::Duration;

use failback_datapath::telemetry::{Stage, StageLatency};
use serde_json::json;

use super::Workbench;
use super::arguments::StageName;
use super::measure::Rounds;
use crate::output::Output;

/// Tells the results of all stages.
pub fn tell(bench: &Workbench, results: &[(StageName, Rounds)], elapsed: Duration, output: &Output) {
    let percentiles = ["p50", "p99", "p99.9", "max"].map(|name| format!("{name:>9}")).concat();
    // The head of the table belongs to people; machines have names in each line.
    let head = format!("\n{:<18}{:>9}{:>10}{:>10}  {percentiles}", "stage", "seconds", "GiB/s", "CPU s/GiB");
    for (number, (stage, rounds)) in results.iter().enumerate() {
        let text = rows(*stage, rounds).join("\n");
        let text = if number == 0 { format!("{head}\n{text}") } else { text };
        output.line(&text, || event(bench, *stage, rounds));
    }
    let names: Vec<_> = results.iter().map(|(stage, _)| stage.name()).collect();
    let rounds = results.first().map_or(0, |(_, rounds)| rounds.seconds_each().len());
    let last = format!(
        "\n{rounds} {} of {}, medians. Percentiles are of operations of at most 1 MiB: over all rounds, and where \
         several kinds are listed, the highest of any round and lane.",
        if rounds == 1 { "round" } else { "rounds" },
        indicatif::BinaryBytes(bench.size_bytes)
    );
    output.line(&last, || {
        let path = |path: &std::path::Path| Some(path.display().to_string()).filter(|path| !path.is_empty());
        json!({
            "event": "summary", "stages": names, "rounds": rounds, "size_bytes": bench.size_bytes,
            "streams": bench.lanes, "source": path(bench.disks.source_path()),
            "target": path(bench.disks.target_path()), "seconds": elapsed.as_secs_f64(),
        })
    });
}

fn event(bench: &Workbench, stage: StageName, rounds: &Rounds) -> serde_json::Value {
    json!({
        "event": "stage", "stage": stage.name(), "bytes": rounds.bytes(),
        "streams": if stage.uses_lanes() { bench.lanes } else { 1 },
        "seconds": rounds.seconds(), "seconds_each": rounds.seconds_each(),
        "gib_per_second": rounds.gib_per_second(),
        "cpu_seconds_per_gib": rounds.processor_seconds_per_gib(),
        "latencies": rounds.latencies(),
    })
}

/// One row; and one for each kind of operation, where there are several.
fn rows(stage: StageName, rounds: &Rounds) -> Vec<String> {
    let latencies = rounds.latencies();
    let measured = format!(
        "{:<18}{:>9.3}{:>10.2}{:>10.3}",
        stage.name(),
        rounds.seconds(),
        rounds.gib_per_second(),
        rounds.processor_seconds_per_gib()
    );
    match latencies.as_slice() {
        [] => vec![measured],
        [only] => vec![format!("{measured}  {}", percentiles(only))],
        several => {
            let row = |latency: &StageLatency| {
                format!("  {:<45}  {}", operation(latency.stage), percentiles(latency))
            };
            std::iter::once(measured).chain(several.iter().map(row)).collect()
        }
    }
}

fn percentiles(latency: &StageLatency) -> String {
    [latency.p50_us, latency.p99_us, latency.p999_us, latency.max_us]
        .map(|microseconds| format!("{:>9}", time(microseconds)))
        .concat()
}

/// A time in three digits or so.
fn time(microseconds: u64) -> String {
    match microseconds {
        0..=9_999 => format!("{microseconds} us"),
        10_000..=9_999_999 => format!("{} ms", microseconds / 1000),
        _ => format!("{} s", microseconds / 1_000_000),
    }
}

const fn operation(stage: Stage) -> &'static str {
    match stage {
        Stage::ReadSource => "read of the source",
        Stage::ReadTarget => "read of the target",
        Stage::Digest => "digests, or comparison",
        Stage::Compress => "packing",
        Stage::Send => "sending",
        Stage::Decompress => "unpacking",
        Stage::Write => "write",
        Stage::Zero => "zeroing",
        Stage::Flush => "flush",
    }
}

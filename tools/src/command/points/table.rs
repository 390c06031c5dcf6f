//! Points, for people.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use failback_datapath::journal::{PointSummary, Summary};
use indicatif::{BinaryBytes, HumanDuration};

/// The points of a pair, newest last.
pub fn of_pair(name: &str, summary: &Summary) -> String {
    let mut text = format!("{name}: {} recovery points", summary.points.len());
    let space = &summary.space;
    let (used, free) = (BinaryBytes(space.used_bytes()), BinaryBytes(space.free_bytes));
    let _written = write!(text, ", journal {used}, {free} free");
    if summary.points.is_empty() {
        text.push_str("\n  not to be used as a disk: its first synchronization is not finished");
        return text;
    }
    let head = ("POINT", "CUT AT", "KIND", "CHANGED", "FROZEN", "CHAIN", "NAME");
    let _written = write!(
        text,
        "\n  {:>8}  {:<20}  {:<16}  {:>11}  {:>8}  {:<12}  {}",
        head.0, head.1, head.2, head.3, head.4, head.5, head.6
    );
    for point in &summary.points {
        let record = &point.record;
        let chain = record.chain.to_string();
        let _written = write!(
            text,
            "\n  {:>8}  {:<20}  {:<16}  {:>11}  {:>5} ms  {:<12}  {}{}",
            record.epoch,
            moment(record.cut_unix_ms),
            record.kind.to_string(),
            BinaryBytes(point.changed_bytes).to_string(),
            record.freeze_ms,
            &chain[..12],
            record.name,
            if point.pinned { " (pinned)" } else { "" },
        );
    }
    text
}

/// All of one point.
pub fn of_point(name: &str, point: &PointSummary) -> String {
    let record = &point.record;
    let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let age = age.saturating_sub(Duration::from_millis(record.cut_unix_ms));
    let rows = [
        ("pair", name.to_owned()),
        ("point", record.epoch.to_string()),
        ("kind", record.kind.to_string()),
        ("name", if record.name.is_empty() { "-".to_owned() } else { record.name.clone() }),
        ("cut at", format!("{} ({} ago)", moment(record.cut_unix_ms), HumanDuration(age))),
        ("closed at", moment(record.closed_unix_ms)),
        ("frozen for", format!("{} ms", record.freeze_ms)),
        ("changed", format!("{} in {} deltas", BinaryBytes(point.changed_bytes), record.deltas)),
        ("generation", record.generation.to_string()),
        ("chain", record.chain.to_string()),
        ("pinned", if point.pinned { "yes" } else { "no" }.to_owned()),
    ];
    let lines: Vec<String> =
        rows.iter().map(|(key, value)| format!("{:<12} {value}", format!("{key}:"))).collect();
    lines.join("\n")
}

/// `2026-11-21T14:05:33Z`.
fn moment(unix_ms: u64) -> String {
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms)).to_string()
}

//! Points, for people.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use super::listing::is_whole;
use failback_datapath::journal::{PointSummary, Summary};
use failback_datapath::limits;
use failback_datapath::unit::MachineCut;
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
    let head = ["POINT", "CUT AT", "KIND", "CHANGED", "FROZEN", "CHAIN", "MACHINE'S CUT", "NAME"];
    write_row(&mut text, &head.map(str::to_owned));
    for point in &summary.points {
        write_row(&mut text, &row(point));
    }
    text
}

/// The points of one cut through all disks of a machine.
pub fn of_machine_cut(cut: MachineCut, parts: &[(String, PointSummary)]) -> String {
    let whole = if is_whole(cut, parts) { "a point of the machine" } else { "NOT whole: disks are missing" };
    let mut text = format!("cut {}: {} of {} disks, {whole}", cut.name(), parts.len(), cut.disks);
    for (pair, point) in parts {
        write_row(&mut text, &row(point));
        let _written = write!(text, "  {pair}");
    }
    text
}

fn row(point: &PointSummary) -> [String; 8] {
    let record = &point.record;
    [
        record.epoch.to_string(),
        moment(record.cut_unix_ms),
        if point.void { "void final".to_owned() } else { record.kind.to_string() },
        BinaryBytes(point.changed_bytes).to_string(),
        format!("{} ms", record.freeze_ms),
        record.chain.to_string()[..12].to_owned(),
        record.machine_cut.map_or_else(|| "-".to_owned(), MachineCut::name),
        format!(
            "{}{}{}",
            plain(&record.name),
            if point.pinned { " (pinned)" } else { "" },
            if point.exact { "" } else { " (NOT exact)" }
        ),
    ]
}

fn write_row(text: &mut String, [point, at, kind, changed, frozen, chain, cut, name]: &[String; 8]) {
    // Writing to a string does not fail.
    let _written = write!(
        text,
        "\n  {point:>8}  {at:<20}  {kind:<16}  {changed:>11}  {frozen:>8}  {chain:<12}  {cut:<16}  {name}"
    );
}

/// All of one point.
pub fn of_point(name: &str, point: &PointSummary) -> String {
    let record = &point.record;
    let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let age = age.saturating_sub(Duration::from_millis(record.cut_unix_ms));
    let machine_cut = record
        .machine_cut
        .map_or_else(|| "-".to_owned(), |cut| format!("{}, of {} disks", cut.name(), cut.disks));
    let rows = [
        ("pair", name.to_owned()),
        ("point", record.epoch.to_string()),
        ("kind", kind(point)),
        ("name", if record.name.is_empty() { "-".to_owned() } else { plain(&record.name) }),
        ("cut at", format!("{} ({} ago)", moment(record.cut_unix_ms), HumanDuration(age))),
        ("closed at", moment(record.closed_unix_ms)),
        ("frozen for", format!("{} ms", record.freeze_ms)),
        ("changed", format!("{} in {} deltas", BinaryBytes(point.changed_bytes), record.deltas)),
        ("machine's cut", machine_cut),
        ("generation", record.generation.to_string()),
        ("chain", record.chain.to_string()),
        (
            "exact",
            if point.exact { "yes" } else { "no: others wrote to the target since, and it may hold that" }
                .to_owned(),
        ),
        ("pinned", if point.pinned { "yes" } else { "no" }.to_owned()),
    ];
    let lines: Vec<String> =
        rows.iter().map(|(key, value)| format!("{:<14} {value}", format!("{key}:"))).collect();
    lines.join("\n")
}

fn kind(point: &PointSummary) -> String {
    let kind = point.record.kind;
    if point.void {
        format!("{kind}, void as such: its machine went on; a crash-consistent point like others")
    } else {
        kind.to_string()
    }
}

/// A name that moves no cursor.
fn plain(name: &str) -> String {
    let shown = |letter: char| if letter.is_control() { '\u{fffd}' } else { letter };
    name.chars().map(shown).collect()
}

/// `2026-11-21T14:05:33Z`, for as long as there are such dates.
fn moment(unix_ms: u64) -> String {
    if unix_ms > limits::CUT_UNIX_MS_MAX {
        return format!("{unix_ms} ms");
    }
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms)).to_string()
}

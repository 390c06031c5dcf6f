//! Recovery points as they are recorded, and the chain that ties them together.

use std::path::Path;

use failback_datapath::delta::Manifest;
use failback_datapath::journal::PointSummary;
use failback_datapath::unit::{Chain, MachineCut};
use serde_json::json;

use super::rows::Rows;
use super::{fields, journal};
use crate::control::Failed;
use crate::exit::Exit;
use crate::output::Output;

/// Shows points, oldest first; a chain that does not hold is an error at the end.
pub fn show(directory: &Path, rows: &Rows, output: &Output) -> Result<(), Failed> {
    let summary = journal::summary(directory)?;
    let mut counter = rows.count();
    let (mut previous, mut broken) = (None, Vec::new());
    for point in &summary.points {
        let follows = follows(previous, point);
        if follows == Some(false) {
            broken.push(point.record.epoch.to_string());
        }
        if counter.takes() {
            output.line(
                &text(point, follows),
                || json!({"event": "point", "point": point, "chain_follows": follows}),
            );
        }
        previous = Some(point.record.chain);
    }
    counter.end(output);
    if broken.is_empty() {
        return Ok(());
    }
    let what = "does not follow from the point before and its own manifest";
    Err((Exit::Failed, format!("{}: the chain at {} {what}", directory.display(), broken.join(", "))))
}

/// Whether the chain leads from `previous` to `point`; `None` where that cannot be
/// said: the oldest one's predecessor has expired.
fn follows(previous: Option<Chain>, point: &PointSummary) -> Option<bool> {
    let record = &point.record;
    let expected = |previous| {
        Chain::next(previous, record.generation, record.epoch, Manifest(record.manifest)) == record.chain
    };
    match previous {
        Some(previous) => Some(expected(previous)),
        None => expected(Chain::START).then_some(true),
    }
}

/// The points of the machine's other disks with this number are of the same moment.
fn machine_cut(cut: MachineCut) -> String {
    format!("{}, of {} disks", cut.name(), cut.disks)
}

fn text(point: &PointSummary, follows: Option<bool>) -> String {
    let record = &point.record;
    let chain = match follows {
        Some(true) => "holds",
        Some(false) => "BROKEN: it does not follow from the point before",
        None => "not verified: the point before is gone",
    };
    let lines = fields::lines(&[
        ("  kind", record.kind.to_string()),
        ("  name", record.name.clone()),
        ("  generation", record.generation.to_string()),
        ("  cut", format!("{} ms of Unix time, frozen for {} ms", record.cut_unix_ms, record.freeze_ms)),
        ("  closed", format!("{} ms of Unix time", record.closed_unix_ms)),
        ("  machine's cut", record.machine_cut.map_or_else(|| "-".to_owned(), machine_cut)),
        ("  changed", format!("{} chunks in {} deltas", record.chunks, record.deltas)),
        ("  manifest", Chain(record.manifest).to_string()),
        ("  chain", format!("{} ({chain})", record.chain)),
        ("  pinned", if point.pinned { "yes" } else { "no" }.to_owned()),
    ]);
    format!("point {}\n{lines}", record.epoch)
}

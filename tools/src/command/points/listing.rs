//! `points list` and `points show`: read without the journals' locks.

use failback_datapath::journal::PointSummary;
use failback_datapath::unit::MachineCut;
use serde_json::json;

use super::place::no_such_point;
use super::{Found, Place, Which, table};
use crate::control::Failed;
use crate::exit::Exit;
use crate::output::Output;

/// Lists the points of `pair`, or of all pairs.
pub fn list(place: &Place, pair: Option<&str>, output: &Output) -> Result<(), Failed> {
    let found = found(place, pair)?;
    if found.is_empty() {
        output.line(
            &format!("no pair has a journal in {}", place.retention()?.path().display()),
            || json!({"event": "pairs", "pairs": []}),
        );
    }
    for pair in found {
        let summary = pair.summary()?;
        output.line(&table::of_pair(&pair.name, &summary), || {
            json!({
                "event": "points", "pair": pair.name, "state": summary.pair, "points": summary.points,
                "space": summary.space,
            })
        });
    }
    Ok(())
}

/// Lists the points that were cut at one moment, and says whether all are there.
pub fn machine_cut(place: &Place, pair: Option<&str>, number: u64, output: &Output) -> Result<(), Failed> {
    let mut parts: Vec<(String, PointSummary)> = Vec::new();
    for pair in found(place, pair)? {
        let points = pair.summary()?.points.into_iter();
        let part = points.filter(|point| point.record.machine_cut.is_some_and(|cut| cut.number == number));
        parts.extend(part.map(|point| (pair.name.clone(), point)));
    }
    let cut = parts.iter().find_map(|(_, point)| point.record.machine_cut);
    let Some(cut) = cut else {
        let name = MachineCut { number, disks: 0 }.name();
        return Err((Exit::Refused, format!("no point of cut {name} is kept here")));
    };
    output.line(&table::of_machine_cut(cut, &parts), || {
        let points = parts.iter().map(|(pair, point)| json!({"pair": pair, "point": point}));
        json!({
            "event": "machine-cut", "machine_cut": cut.name(), "disks": cut.disks,
            "whole": is_whole(cut, &parts), "points": points.collect::<Vec<_>>(),
        })
    });
    Ok(())
}

/// Whether every disk of the machine has its point of this cut.
pub fn is_whole(cut: MachineCut, parts: &[(String, PointSummary)]) -> bool {
    u32::try_from(parts.len()).is_ok_and(|count| count >= cut.disks)
}

/// Shows all that is known of a point.
pub fn show(place: &Place, pair: &str, which: &Which, output: &Output) -> Result<(), Failed> {
    let pair = place.retention()?.pair(pair)?;
    let summary = pair.summary()?;
    let records: Vec<_> = summary.points.iter().map(|point| &point.record).collect();
    let meant = which.of(&records, &pair)?.epoch;
    let point = summary.points.iter().find(|point| point.record.epoch == meant);
    let point = point.ok_or_else(|| no_such_point(&pair))?;
    output.line(
        &table::of_point(&pair.name, point),
        || json!({"event": "point", "pair": pair.name, "point": point}),
    );
    Ok(())
}

fn found(place: &Place, pair: Option<&str>) -> Result<Vec<Found>, Failed> {
    let retention = place.retention()?;
    match pair {
        Some(pair) => Ok(vec![retention.pair(pair)?]),
        None => retention.pairs(),
    }
}

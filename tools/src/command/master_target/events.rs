//! What a running master target tells: lines for people, events for machines.

use failback_datapath::journal::PointKind;
use failback_datapath::role::master_target::Notice;
use serde_json::json;

use crate::output::Output;

/// Tells `notice`.
pub fn tell(output: &Output, notice: &Notice) {
    match notice {
        Notice::Paired { peer } => {
            output.line(&format!("paired with {peer}"), || json!({"event": "paired", "peer": peer}));
        }
        Notice::Connected { pair, peer } => output.line(
            &format!("{pair}: {peer} has connected"),
            || json!({"event": "connected", "pair": pair.to_string(), "peer": peer}),
        ),
        Notice::Became { pair, state, reason } => {
            let why = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            output.line(&format!("{pair}: {state:?}{why}"), || {
                json!({
                    "event": "state", "pair": pair.to_string(), "state": format!("{state:?}"), "reason": reason,
                })
            });
        }
        Notice::Made { pair, epoch, kind, name, machine_cut } => {
            let promise = PointKind::from(*kind);
            let named = if name.is_empty() { String::new() } else { format!(" {name:?}") };
            output.line(&format!("{pair}: point {epoch}{named}, {promise}"), || {
                json!({
                    "event": "point", "pair": pair.to_string(), "epoch": epoch, "kind": kind, "name": name,
                    "machine_cut": machine_cut.name(), "machine_disks": machine_cut.disks,
                })
            });
        }
        Notice::Expired { pair, points } => {
            let (count, oldest) = (points.len(), points.first().map_or(0, |epoch| epoch.0));
            output.line(
                &format!("{pair}: {count} points from {oldest} on were given up"),
                || json!({"event": "expired", "pair": pair.to_string(), "points": points}),
            );
        }
        Notice::Alarm { pair, reason } => output.line(
            &format!("ALARM {pair}: {reason}"),
            || json!({"event": "alarm", "pair": pair.to_string(), "reason": reason}),
        ),
    }
}

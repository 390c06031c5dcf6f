//! What a running agent protects, for people; for machines as it says it.

use std::time::Duration;

use indicatif::BinaryBytes;
use serde_json::{Value, json};

use crate::control::Failed;
use crate::exit::Exit;
use crate::output::Output;

/// Tells a status.
pub fn tell(status: &Value, output: &Output) {
    output.line(&text(status), || status.clone());
}

/// Tells what became of a cut; one that is no point is a failure.
pub fn tell_cut(cut: &Value, output: &Output) -> Result<(), Failed> {
    if cut["made"] != true {
        return Err((Exit::Failed, format!("no point was made: {}", said(&cut["reason"]))));
    }
    output.line(&cut_text(cut), || event(cut));
    let wrong = match (cut["void"] == true, cut["kind"] == "final" && cut["finished"] != true) {
        (true, _) => "the machine runs again after its final point, which is void",
        (false, true) => {
            "the final point is made and the machine stays frozen, but a target has not said that it takes \
             nothing more: see `agent status`, and `agent thaw` to go on"
        }
        (false, false) => return Ok(()),
    };
    Err((Exit::Failed, wrong.to_owned()))
}

/// A cut as an event.
pub fn event(cut: &Value) -> Value {
    let mut event = json!({"event": if cut["made"] == true { "cut" } else { "skipped" }});
    if let (Value::Object(event), Value::Object(cut)) = (&mut event, cut) {
        event.extend(cut.clone());
    }
    event
}

/// A cut in a sentence.
pub fn cut_text(cut: &Value) -> String {
    if cut["made"] != true {
        return format!("no point: {}", said(&cut["reason"]));
    }
    let points = cut["points"].as_array().into_iter().flatten();
    let points: Vec<_> =
        points.map(|point| format!("{} {}", said(&point["disk"]), number(&point["epoch"]))).collect();
    let mut text = format!(
        "{} point of {}; frozen for {} ms",
        said(&cut["kind"]),
        points.join(", "),
        number(&cut["freeze_ms"])
    );
    if let Some(reason) = cut["reason"].as_str() {
        text.push_str(&format!("; not app-consistent: {reason}"));
    }
    for left_out in cut["left_out"].as_array().into_iter().flatten() {
        text.push_str(&format!("; without disk {}: {}", said(&left_out["disk"]), said(&left_out["reason"])));
    }
    if cut["finished"] == true {
        let downtime = Duration::from_millis(number(&cut["downtime_ms"]));
        let downtime = humantime::format_duration(downtime);
        text.push_str(&format!("; the targets take nothing more, {downtime} after the freeze began"));
    }
    text
}

fn text(status: &Value) -> String {
    let mut lines = vec![format!("{} -> {}", said(&status["machine"]), said(&status["master_target"]))];
    if let Some(relocated) = status["relocated"].as_str() {
        lines.push(format!("  {relocated}"));
    }
    if status["frozen"] == true {
        lines.push("  the machine is frozen for good".to_owned());
    }
    for disk in status["disks"].as_array().into_iter().flatten() {
        lines.extend(disk_lines(disk));
    }
    for absent in status["absent"].as_array().into_iter().flatten() {
        lines.push(format!("  {}  absent: {}", said(&absent["disk"]), said(&absent["reason"])));
    }
    if !status["last_cut"].is_null() {
        lines.push(format!("  last cut: {}", cut_text(&status["last_cut"])));
    }
    lines.push(format!(
        "  points {}, skipped {}",
        number(&status["cuts_made"]),
        number(&status["cuts_skipped"])
    ));
    lines.push(format!(
        "  read {}, offered {} (of which {} was not there), sent {}, read again {}",
        bytes(&status["read_bytes"]),
        bytes(&status["offered_bytes"]),
        bytes(&status["wanted_bytes"]),
        bytes(&status["sent_bytes"]),
        bytes(&status["reread_bytes"])
    ));
    lines.join("\n")
}

fn disk_lines(disk: &Value) -> Vec<String> {
    let why = disk["compared_for"].as_str().map(|why| format!(" ({why})")).unwrap_or_default();
    let (name, device, state) = (said(&disk["disk"]), said(&disk["device"]), said(&disk["state"]));
    let mut lines = vec![format!("  {name}  {device}  {state}{why}, by {}", said(&disk["tracking"]))];
    for reason in ["reason", "trouble", "waiting"].into_iter().filter_map(|key| disk[key].as_str()) {
        lines.push(format!("    {reason}"));
    }
    if let Value::Object(progress) = &disk["progress"] {
        lines.push(format!("    {} of {}", bytes(&progress["done_bytes"]), bytes(&progress["total_bytes"])));
    }
    let newest = match (&disk["newest_point"]["epoch"], disk["lag_ms"].as_u64()) {
        (Value::Null, _) => "no point yet".to_owned(),
        (epoch, None) => format!("point {}", number(epoch)),
        (epoch, Some(lag)) => {
            let lag = humantime::format_duration(Duration::from_secs(lag / 1000));
            format!("point {}, {lag} old", number(epoch))
        }
    };
    let (dirty, under_way) = (bytes(&disk["dirty_bytes"]), bytes(&disk["in_transit_bytes"]));
    lines.push(format!("    {newest}; changed {dirty}, under way {under_way}"));
    lines
}

fn said(value: &Value) -> &str {
    value.as_str().unwrap_or("unknown")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn bytes(value: &Value) -> BinaryBytes {
    BinaryBytes(number(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_line_by_line() {
        let status = json!({
            "machine": "web-1", "master_target": "failback://home:9445/", "relocated": null, "frozen": false,
            "last_cut": {"made": true, "kind": "app", "freeze_ms": 12, "points": [{"disk": "root", "epoch": 7}]},
            "cuts_made": 7, "cuts_skipped": 1, "read_bytes": 1024, "offered_bytes": 0, "wanted_bytes": 0, "sent_bytes": 0,
            "reread_bytes": 0, "absent": [{"disk": "data", "reason": "/dev/vdb is no block device"}],
            "disks": [{
                "disk": "root", "device": "/dev/vda", "state": "synchronizing", "compared_for": "doubt",
                "tracking": "ebpf", "reason": "the machine was started anew", "trouble": null,
                "dirty_bytes": 0, "in_transit_bytes": 2048, "newest_point": {"epoch": 7}, "lag_ms": 3000,
                "progress": {"done_bytes": 1024, "total_bytes": 2048},
            }],
        });
        let text = text(&status);
        for line in [
            "web-1 -> failback://home:9445/",
            "  root  /dev/vda  synchronizing (doubt), by ebpf",
            "    the machine was started anew",
            "    1.00 KiB of 2.00 KiB",
            "    point 7, 3s old; changed 0 B, under way 2.00 KiB",
            "  data  absent: /dev/vdb is no block device",
            "  last cut: app point of root 7; frozen for 12 ms",
        ] {
            assert!(text.lines().any(|told| told == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_cut_that_is_no_point_fails() {
        let output = Output::new(crate::output::Style::Errors);
        let skipped = json!({"made": false, "reason": "disk root is synchronizing"});
        let (exit, message) = tell_cut(&skipped, &output).expect_err("it is no point");
        assert!(exit == Exit::Failed && message.contains("disk root is synchronizing"));
        assert!(tell_cut(&json!({"made": true, "void": false}), &output).is_ok());
        assert!(tell_cut(&json!({"made": true, "void": true}), &output).is_err());
        assert_eq!(event(&skipped)["event"], "skipped");
    }
}

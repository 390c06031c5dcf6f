//! What a demo did: lines as it goes, a table at the end, events for machines.

use std::time::Duration;

use failback_datapath::telemetry::Counts;
use indicatif::BinaryBytes;
use serde_json::{Value, json};

use super::stage::Done;
use crate::output::Output;

/// All steps so far, and all that could not be shown.
#[derive(Default)]
pub struct Record {
    /// What was done.
    pub steps: Vec<Step>,
    /// What was not.
    pub left_out: Vec<LeftOut>,
}

/// One step.
pub struct Step {
    name: &'static str,
    what: String,
    bytes_moved: u64,
    bytes_covered: u64,
    counts: Option<Counts>,
    seconds: f64,
}

/// Something that this run cannot show.
pub struct LeftOut {
    /// What.
    pub what: &'static str,
    /// And why.
    pub why: String,
}

impl Step {
    /// A step that took `elapsed`.
    pub fn new(name: &'static str, done: Done, elapsed: Duration) -> Self {
        let Done { what, bytes_moved, bytes_covered, counts } = done;
        Self { name, what, bytes_moved, bytes_covered, counts, seconds: elapsed.as_secs_f64() }
    }

    /// What is told when it is done.
    pub fn line(&self) -> String {
        format!("{}: {}", self.name, self.what)
    }

    /// The same for machines.
    pub fn event(&self) -> Value {
        let mut event = self.row();
        event["event"] = json!("step");
        event
    }

    fn row(&self) -> Value {
        json!({
            "step": self.name, "what": self.what, "bytes_moved": self.bytes_moved, "seconds": self.seconds,
            "bytes_per_second": self.bytes_per_second(), "counts": self.counts,
        })
    }

    /// Bytes dealt with a second; `None` where the step has none.
    fn bytes_per_second(&self) -> Option<u64> {
        #[expect(clippy::cast_precision_loss, reason = "a rate to show")]
        let rate = self.bytes_covered as f64 / self.seconds.max(1e-6);
        let rate = Duration::try_from_secs_f64(rate).map_or(0, |bytes| bytes.as_secs());
        (self.bytes_covered > 0).then_some(rate)
    }

    fn cells(&self) -> [String; 5] {
        let moved =
            if self.bytes_moved > 0 { BinaryBytes(self.bytes_moved).to_string() } else { "-".to_owned() };
        let rate =
            self.bytes_per_second().map_or_else(|| "-".to_owned(), |rate| format!("{}/s", BinaryBytes(rate)));
        [self.name.to_owned(), moved, format!("{:.2}", self.seconds), rate, self.what.clone()]
    }
}

impl LeftOut {
    /// What is told at once.
    pub fn line(&self) -> String {
        format!("left out: {}: {}", self.what, self.why)
    }

    /// The same for machines.
    pub fn event(&self) -> Value {
        json!({"event": "left-out", "what": self.what, "why": self.why})
    }
}

impl Record {
    /// Tells the last step.
    pub fn tell_last(&self, output: &Output) {
        if let Some(step) = self.steps.last() {
            output.line(&step.line(), || step.event());
        }
    }

    /// The last line of `--json`.
    pub fn event(&self, elapsed: Duration) -> Value {
        let left_out = |left_out: &LeftOut| json!({"what": left_out.what, "why": left_out.why});
        json!({
            "event": "summary",
            "steps": self.steps.iter().map(Step::row).collect::<Vec<_>>(),
            "left_out": self.left_out.iter().map(left_out).collect::<Vec<_>>(),
            "seconds": elapsed.as_secs_f64(),
        })
    }

    /// The table, with a line for all that was left out.
    pub fn text(&self, elapsed: Duration) -> String {
        let head = ["step", "moved", "seconds", "rate", "what"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(head).chain(self.steps.iter().map(Step::cells)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 4] = std::array::from_fn(width);
        let line = |row: &[String; 5]| {
            let [step, moved, seconds, rate, what] = row;
            let [one, two, three, four] = widths;
            format!("{step:<one$}  {moved:>two$}  {seconds:>three$}  {rate:>four$}  {what}")
        };
        let mut lines = vec![String::new()];
        lines.extend(rows.iter().map(line));
        lines.push(String::new());
        lines.extend(self.left_out.iter().map(LeftOut::line));
        lines.push(format!(
            "done in {:.2} s; rates count the whole disk, or all files",
            elapsed.as_secs_f64()
        ));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_columns() {
        let done =
            Done { what: "1 file".to_owned(), bytes_moved: 1 << 20, bytes_covered: 4 << 20, counts: None };
        let record = Record {
            steps: vec![
                Step::new("copy", done, Duration::from_secs(2)),
                Step::new("look again", Done::saying("fine"), Duration::ZERO),
            ],
            left_out: vec![LeftOut { what: "fsck", why: "not installed".to_owned() }],
        };
        let expected = "
step           moved  seconds        rate  what
copy        1.00 MiB     2.00  2.00 MiB/s  1 file
look again         -     0.00           -  fine

left out: fsck: not installed
done in 3.00 s; rates count the whole disk, or all files";
        assert_eq!(record.text(Duration::from_secs(3)), expected);
        let event = record.event(Duration::from_secs(3));
        assert_eq!(event["steps"][0]["bytes_per_second"], 2 << 20);
        assert_eq!(event["left_out"][0]["what"], "fsck");
    }
}

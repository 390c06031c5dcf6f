//! What was measured, for people and for machines.

use std::fs::File;
use std::io::Write;

use serde_json::json;

use crate::arguments::Arguments;
use crate::error::Error;

/// A row: seconds of ours, and of what they are held against.
pub struct Row {
    name: String,
    against: String,
    seconds: Vec<f64>,
    limits: Vec<f64>,
}

impl Row {
    /// An empty row; nothing it is held against where `against` is empty.
    pub fn new(name: &str, against: &str) -> Self {
        Self { name: name.to_owned(), against: against.to_owned(), seconds: Vec::new(), limits: Vec::new() }
    }

    /// Adds a round.
    pub fn push(&mut self, seconds: f64, limit: Option<f64>) {
        self.seconds.push(seconds);
        self.limits.extend(limit);
    }

    /// How much of the limit's rate is reached: median against median.
    fn ratio(&self) -> Option<f64> {
        median(&self.limits).zip(median(&self.seconds)).map(|(limit, own)| limit / own)
    }
}

fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// Tells how far it is.
pub fn say(text: &str) {
    // Progress is not worth an error.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes the table, and the figures where they are wanted.
///
/// # Errors
/// They cannot be written.
pub fn write(arguments: &Arguments, rows: &[Row]) -> Result<(), Error> {
    let mut text = String::new();
    if arguments.markdown {
        text.push_str(
            "| work | seconds | against | seconds | rate × |\n| --- | ---: | --- | ---: | ---: |\n",
        );
    }
    for row in rows {
        let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        let (own, limit, ratio) = (median(&row.seconds), median(&row.limits), row.ratio());
        let cells = [row.name.clone(), figure(own), row.against.clone(), figure(limit), figure(ratio)];
        let line = if arguments.markdown { format!("| {} |", cells.join(" | ")) } else { cells.join("  ") };
        text.push_str(&line);
        text.push('\n');
    }
    std::io::stdout().write_all(text.as_bytes()).map_err(Error::at("write to", "standard output"))?;
    let Some(path) = &arguments.json else { return Ok(()) };
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({"work": row.name, "seconds": row.seconds, "against": row.against,
                          "against_seconds": row.limits, "rate_ratio": row.ratio()})
        })
        .collect();
    let told = json!({"size_bytes": arguments.size_bytes(), "rounds": arguments.rounds, "rows": told});
    File::create(path)
        .and_then(|mut file| file.write_all(told.to_string().as_bytes()))
        .map_err(Error::at("write", path))
}

//! What was measured, for people and for machines.

use std::fs::File;
use std::io::Write;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::error::Error;

/// A table: the first column holds words, the others figures.
pub struct Table {
    /// What the columns are.
    pub columns: Vec<&'static str>,
    /// Cells.
    pub rows: Vec<Vec<String>>,
}

/// All that a measurement has found.
pub struct Report {
    /// For people.
    pub tables: Vec<Table>,
    /// For machines: each figure of each round.
    pub figures: Value,
}

/// Tells how far it is.
pub fn say(text: &str) {
    // Progress is not worth an error.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes the tables, and the figures where they are wanted.
///
/// # Errors
/// They cannot be written.
pub fn write(arguments: &Arguments, report: &Report) -> Result<(), Error> {
    let tables: Vec<String> = report.tables.iter().map(|table| table.text(arguments.markdown)).collect();
    let text = tables.join("\n");
    std::io::stdout().write_all(text.as_bytes()).map_err(Error::at("write to", "standard output"))?;
    let Some(path) = &arguments.json else { return Ok(()) };
    let command: Vec<String> = std::env::args().collect();
    let told = json!({"command": command.join(" "), "figures": report.figures});
    File::create(path)
        .and_then(|mut file| file.write_all(told.to_string().as_bytes()))
        .map_err(Error::at("write", path))
}

impl Table {
    /// What was found, figure by figure, where each has a name of its own.
    pub fn of_figures(rows: Vec<[String; 2]>) -> Self {
        Self { columns: vec!["figure", ""], rows: rows.into_iter().map(Vec::from).collect() }
    }

    fn text(&self, markdown: bool) -> String {
        let line = |cells: Vec<String>| {
            if markdown { format!("| {} |\n", cells.join(" | ")) } else { cells.join("  ") + "\n" }
        };
        let mut text = line(self.columns.iter().map(|name| (*name).to_owned()).collect());
        if markdown {
            let place = |number| if number == 0 { "---" } else { "---:" };
            text += &line((0..self.columns.len()).map(|number| place(number).to_owned()).collect());
        }
        text + &self.rows.iter().map(|cells| line(cells.clone())).collect::<String>()
    }
}

/// The one in the middle.
pub fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// A figure with as many digits as it deserves.
pub fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
}

/// Bytes in MiB.
pub fn mebibytes(bytes: u64) -> String {
    // Beyond 2^53 bytes nobody counts tenths of a MiB.
    #[expect(clippy::cast_precision_loss, reason = "tenths of a MiB")]
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    format!("{mebibytes:.1}")
}

/// How a figure is spread.
pub struct Spread(Histogram<u64>);

impl Spread {
    /// Of these.
    pub fn of(figures: impl IntoIterator<Item = u64>) -> Self {
        #[expect(clippy::expect_used, reason = "0 to 5 digits are taken")]
        let mut histogram = Histogram::new(3).expect("three digits are taken");
        // It grows by itself: it takes every figure.
        for figure in figures {
            let _ = histogram.record(figure);
        }
        Self(histogram)
    }

    /// The median, the 99th percentile and the greatest, as `show` writes them.
    pub fn cells(&self, show: impl Fn(u64) -> String) -> [String; 3] {
        let figures = [self.0.value_at_quantile(0.5), self.0.value_at_quantile(0.99), self.0.max()];
        figures.map(|figure| if self.0.is_empty() { "-".to_owned() } else { show(figure) })
    }

    /// For machines.
    pub fn figures(&self) -> Value {
        let [p50, p99] = [0.5, 0.99].map(|quantile| self.0.value_at_quantile(quantile));
        json!({"count": self.0.len(), "p50": p50, "p99": p99, "max": self.0.max()})
    }
}

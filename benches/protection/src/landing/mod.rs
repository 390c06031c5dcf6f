//! Landing with a journal, and rewind, side by side with what the disk itself
//! can do.
//!
//! ```text
//! for each pattern and round, in turns:
//!   fio      reads a byte, and writes two, of every byte that changes: the limit
//!   replica  deltas ─> before-images ─> journal ─> target, one point every 256 MiB
//! then: rewound to its first point
//! ```
//!
//! The deltas are made in memory while they land, digests of both ends included.

pub mod churn;
pub mod field;
mod rewind;

use std::time::Duration;

use serde_json::{Value, json};

use self::field::Field;
use crate::arguments::Landing;
use crate::error::Error;
use crate::ground::Scratch;
use crate::ground::fio::{self, Pattern};
use crate::report::{Report, Table, figure, median, say};

/// Seconds of ours, and of what they are held against.
struct Row {
    work: String,
    against: &'static str,
    seconds: Vec<f64>,
    limits: Vec<f64>,
}

/// Measures.
///
/// # Errors
/// Any.
pub fn measure(options: &Landing, scratch: &Scratch, rest: Duration) -> Result<Report, Error> {
    let mut rows = Vec::new();
    for pattern in [Pattern::Sequential, Pattern::Random] {
        let name = pattern.name();
        let mut landed = Row::new(format!("{name} churn with journaling"), "fio: read 1, write 2");
        let mut rewound = Row::new(format!("rewind over {name} churn"), "fio: sequential write");
        for round in 0..options.rounds {
            let field = Field::make(scratch, options.size << 20)?;
            let churn = || fio::churn(scratch, &field.device, &field.stand_in(), pattern);
            // Whoever comes second finds the disk busier: they take turns.
            let first = (round % 2 == 0).then(churn).transpose()?;
            scratch.rest(rest)?;
            landed.seconds.push(churn::run(&field, pattern)?.seconds);
            scratch.rest(rest)?;
            landed.limits.push(first.map_or_else(churn, Ok)?);
            rewound.limits.push(fio::write(scratch, &field.device)?);
            scratch.rest(rest)?;
            rewound.seconds.push(rewind::rewind(&field)?);
            say(&format!("{name}, round {} of {}", round + 1, options.rounds));
        }
        rows.extend([landed, rewound]);
    }
    Ok(Report {
        tables: vec![Table {
            columns: vec!["work", "seconds", "against", "seconds", "rate ×"],
            rows: rows.iter().map(Row::cells).collect(),
        }],
        figures: rows.iter().map(Row::figures).collect(),
    })
}

impl Row {
    const fn new(work: String, against: &'static str) -> Self {
        Self { work, against, seconds: Vec::new(), limits: Vec::new() }
    }

    /// How much of the limit's rate is reached: median against median.
    fn ratio(&self) -> Option<f64> {
        median(&self.limits).zip(median(&self.seconds)).map(|(limit, own)| limit / own)
    }

    fn cells(&self) -> Vec<String> {
        let [own, limit, ratio] = [median(&self.seconds), median(&self.limits), self.ratio()].map(figure);
        vec![self.work.clone(), own, self.against.to_owned(), limit, ratio]
    }

    fn figures(&self) -> Value {
        json!({"work": self.work, "seconds": self.seconds, "against": self.against,
               "against_seconds": self.limits, "rate_ratio": self.ratio()})
    }
}

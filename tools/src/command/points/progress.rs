//! How far a command over a whole disk is: a bar at a terminal, a line now and then elsewhere.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};
use serde_json::json;

use crate::output::{Output, Style};

const LINE_EVERY: Duration = Duration::from_secs(5);
const EVENT_EVERY: Duration = Duration::from_secs(1);

/// Tells how far it is, not too often.
pub struct Progress {
    output: Output,
    /// What is done with the bytes.
    word: &'static str,
    bar: Option<ProgressBar>,
    told: Cell<Instant>,
}

impl Progress {
    /// Progress in bytes that are `word` (rewound, copied).
    pub fn new(output: &Output, word: &'static str) -> Self {
        let bar = (output.style() == Style::Terminal).then(|| {
            let style = ProgressStyle::with_template("{bytes} of {total_bytes} {msg} [{wide_bar}] {eta}");
            let bar = ProgressBar::new(0).with_message(word);
            match style {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        Self { output: output.clone(), word, bar, told: Cell::new(Instant::now()) }
    }

    /// So many bytes of so many are done.
    pub fn show(&self, done: u64, of: u64) {
        let every = match self.output.style() {
            Style::Terminal => Duration::ZERO,
            Style::Json => EVENT_EVERY,
            Style::Plain | Style::Errors => LINE_EVERY,
        };
        if let Some(bar) = &self.bar {
            bar.set_length(of);
            bar.set_position(done);
        } else if self.told.get().elapsed() >= every {
            self.told.set(Instant::now());
            self.output.line(
                &format!("{} of {} {}", BinaryBytes(done), BinaryBytes(of), self.word),
                || json!({"event": "progress", "done_bytes": done, "total_bytes": of}),
            );
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
